import type { UserId } from '../../matrix/ids.ts';
import type { JsonObject, JsonValue } from '../../matrix/json.ts';

/** Client-server API, "Push Rules": in the order in which they are checked. */
export const PUSH_RULE_KINDS = ['override', 'content', 'room', 'sender', 'underride'] as const;
export type PushRuleKind = (typeof PUSH_RULE_KINDS)[number];

export type PushRule = JsonObject & { rule_id: string; enabled: boolean; actions: JsonValue[] };

export type PushRuleset = Record<PushRuleKind, PushRule[]>;

/** The one predefined rule that comes before the user's own. */
export const MASTER_RULE = '.m.rule.master';

const SOUND = { set_tweak: 'sound', value: 'default' };
const HIGHLIGHT = { set_tweak: 'highlight' };

/** The rules that hold for a user who has changed nothing (client-server API, "Predefined Rules"), highest priority first. */
export function predefinedRules(user: UserId): PushRuleset {
  return { override: overrideRules(user), content: [], room: [], sender: [], underride: underrideRules() };
}

function overrideRules(user: UserId): PushRule[] {
  return [
    { ...rule(MASTER_RULE, [], []), enabled: false },
    rule('.m.rule.suppress_notices', [match('content.msgtype', 'm.notice')], []),
    rule(
      '.m.rule.invite_for_me',
      [match('type', 'm.room.member'), match('content.membership', 'invite'), match('state_key', user)],
      ['notify', SOUND],
    ),
    rule('.m.rule.member_event', [match('type', 'm.room.member')], []),
    rule(
      '.m.rule.is_user_mention',
      [{ kind: 'event_property_contains', key: 'content.m\\.mentions.user_ids', value: user }],
      ['notify', SOUND, HIGHLIGHT],
    ),
    rule(
      '.m.rule.is_room_mention',
      [
        { kind: 'event_property_is', key: 'content.m\\.mentions.room', value: true },
        { kind: 'sender_notification_permission', key: 'room' },
      ],
      ['notify', HIGHLIGHT],
    ),
    rule(
      '.m.rule.tombstone',
      [match('type', 'm.room.tombstone'), match('state_key', '')],
      ['notify', HIGHLIGHT],
    ),
    rule('.m.rule.reaction', [match('type', 'm.reaction')], []),
    rule('.m.rule.room.server_acl', [match('type', 'm.room.server_acl'), match('state_key', '')], []),
    rule(
      '.m.rule.suppress_edits',
      [{ kind: 'event_property_is', key: 'content.m\\.relates_to.rel_type', value: 'm.replace' }],
      [],
    ),
  ];
}

function underrideRules(): PushRule[] {
  const oneToOne = { kind: 'room_member_count', is: '2' };
  return [
    rule('.m.rule.call', [match('type', 'm.call.invite')], ['notify', { set_tweak: 'sound', value: 'ring' }]),
    rule(
      '.m.rule.encrypted_room_one_to_one',
      [oneToOne, match('type', 'm.room.encrypted')],
      ['notify', SOUND],
    ),
    rule('.m.rule.room_one_to_one', [oneToOne, match('type', 'm.room.message')], ['notify', SOUND]),
    rule('.m.rule.message', [match('type', 'm.room.message')], ['notify']),
    rule('.m.rule.encrypted', [match('type', 'm.room.encrypted')], ['notify']),
  ];
}

const match = (key: string, pattern: string): JsonObject => ({ kind: 'event_match', key, pattern });

const rule = (id: string, conditions: JsonValue[], actions: JsonValue[]): PushRule => ({
  rule_id: id,
  default: true,
  enabled: true,
  conditions,
  actions,
});
