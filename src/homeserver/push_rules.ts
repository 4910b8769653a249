import type { UserId } from '../matrix/ids.ts';
import type { JsonObject, JsonValue } from '../matrix/json.ts';

/** Client-server API, "Push Rules". */
type PushRuleKind = 'override' | 'content' | 'room' | 'sender' | 'underride';

export type PushRule = JsonObject & { rule_id: string; enabled: boolean; actions: JsonValue[] };

type PushRuleset = Record<PushRuleKind, PushRule[]>;

const SOUND = { set_tweak: 'sound', value: 'default' };
const HIGHLIGHT = { set_tweak: 'highlight' };

/** The rules that hold for a user who has changed nothing (client-server API, "Predefined Rules"), highest priority first. */
export function defaultPushRules(user: UserId): PushRuleset {
  return { override: overrideRules(user), content: [], room: [], sender: [], underride: underrideRules() };
}

/** One rule, or undefined where there is none of that name. @param kind as in the path of a request */
export function findPushRule(rules: PushRuleset, kind: string, id: string): PushRule | undefined {
  return Object.hasOwn(rules, kind)
    ? rules[kind as PushRuleKind].find((rule) => rule.rule_id === id)
    : undefined;
}

function overrideRules(user: UserId): PushRule[] {
  return [
    { ...rule('.m.rule.master', [], []), enabled: false },
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

/** The type of account data that holds a user's push rules. */
export const PUSH_RULES = 'm.push_rules';

/** What m.push_rules holds: everybody has the predefined rules. */
export const pushRulesContent = (user: UserId): JsonObject => ({ global: defaultPushRules(user) });
