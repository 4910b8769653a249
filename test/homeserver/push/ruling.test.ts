import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ANY_USER, JudgedEvent } from '../../../src/homeserver/push/conditions.ts';
import { FoldedText, Glob } from '../../../src/homeserver/push/glob.ts';
import { effectiveRules, parseRuleSettings } from '../../../src/homeserver/push/rule_settings.ts';
import { CompiledRules, tweaksOf } from '../../../src/homeserver/push/ruling.ts';
import type { UserId } from '../../../src/matrix/ids.ts';
import type { JsonObject, JsonValue } from '../../../src/matrix/json.ts';
import { slowGlob, slowRuling, slowWords } from './slow_rules.ts';

const ALICE = '@alice:here' as UserId;
const plenty = () => ({ left: 1_000_000 });
const whole = (pattern: string, text: string) =>
  new Glob(pattern).matchesWhole(new FoldedText(text), plenty());
const words = (pattern: string, text: string) =>
  new Glob(pattern).matchesWords(new FoldedText(text), plenty());

describe('a pattern', () => {
  test.each([
    ['lunc?*', 'Lunch plans', true],
    ['lunc?*', 'LUNCH', true],
    ['lunc?*', ' lunch', false],
    ['lunc?*', 'lunc', false],
    ['*', '', true],
    ['?', '👍', true],
    ['ΣΟΦΌΣ', 'σοφός', true],
  ])('%j of a whole text: %j %s', (pattern, text, matches) => {
    expect(whole(pattern, text)).toBe(matches);
  });

  test.each([
    ['ex*ple', 'An example event.', true],
    ['ex*ple', 'exple', true],
    ['ex*ple', 'An exciting triple-whammy', true],
    ['cake', 'pancakes', false],
    ['cake', 'one-cake-two', true],
    ['cake', 'cake_two', false],
    ['cake', 'über cakeüber', true],
    ['@room', 'hello@room', true],
    ['cake', 'pancake cake', true],
    ['', 'abc', true],
  ])('%j of words: %j %s', (pattern, text, matches) => {
    expect(words(pattern, text)).toBe(matches);
  });

  const symbols = fc.string({
    unit: fc.constantFrom('a', 'B', 'b', ' ', '_', '*', '?', 'é', '👍', '-'),
    maxLength: 9,
  });
  test('matches as the slow one does', () => {
    fc.assert(
      fc.property(symbols, symbols, (pattern, text) => {
        expect(whole(pattern, text)).toBe(slowGlob(pattern, text));
        expect(words(pattern, text)).toBe(slowWords(pattern, text));
      }),
      { seed: 7, numRuns: 3_000 },
    );
  });

  test('takes no more steps than it is given, and no more than the text is long times the pattern', () => {
    const hostile = new Glob(`${'*a'.repeat(100)}b`);
    const text = new FoldedText('a'.repeat(5_000));
    const steps = { left: 2_000_000 };
    expect(hostile.matchesWords(text, steps)).toBe(false);
    expect(steps.left).toBeGreaterThan(2_000_000 - 5_000 * 202);
    const few = { left: 20_000 };
    expect(new Glob('*a*').matchesWhole(text, few)).toBe(true);
    expect(hostile.matchesWhole(text, few)).toBe(false);
    expect(few.left).toBe(-1);
  });
});

/** What the rules of a user who has changed this say of an event. */
function judge(
  event: JsonObject,
  settings = {},
  who: { memberCount?: number; senderLevel?: number; displayName?: string } = {},
) {
  const stored = { ...parseRuleSettings(undefined), ...settings };
  const rules = new CompiledRules(effectiveRules(ANY_USER, stored as never));
  return rules.judge(new JudgedEvent({ room_id: '!r', sender: '@bob:here', ...event }), {
    ...{ user: ALICE, displayName: who.displayName, memberCount: who.memberCount ?? 3, steps: plenty() },
    senderMay: (key) => key === 'room' && (who.senderLevel ?? 0) >= 50,
  });
}
const SOUND = { set_tweak: 'sound', value: 'default' };
const HIGHLIGHT = { set_tweak: 'highlight' };

describe('the predefined rules', () => {
  const message = { type: 'm.room.message', content: { msgtype: 'm.text', body: 'hello' } };

  test.each<[string, JsonObject, { memberCount?: number; senderLevel?: number }, JsonValue[] | undefined]>([
    ['a message', message, {}, ['notify']],
    ['a message between two', message, { memberCount: 2 }, ['notify', SOUND]],
    ['what is encrypted', { type: 'm.room.encrypted', content: {} }, {}, ['notify']],
    [
      'what is encrypted between two',
      { type: 'm.room.encrypted', content: {} },
      { memberCount: 2 },
      ['notify', SOUND],
    ],
    ['a notice', { type: 'm.room.message', content: { msgtype: 'm.notice', body: 'x' } }, {}, undefined],
    [
      'a mention',
      { ...message, content: { ...message.content, 'm.mentions': { user_ids: ['@bob:here', ALICE] } } },
      {},
      ['notify', SOUND, HIGHLIGHT],
    ],
    [
      'a mention of somebody else',
      { ...message, content: { ...message.content, 'm.mentions': { user_ids: ['@bob:here'] } } },
      {},
      ['notify'],
    ],
    [
      'a mention of the room by who may',
      { ...message, content: { ...message.content, 'm.mentions': { room: true } } },
      { senderLevel: 50 },
      ['notify', HIGHLIGHT],
    ],
    [
      'a mention of the room by who may not',
      { ...message, content: { ...message.content, 'm.mentions': { room: true } } },
      {},
      ['notify'],
    ],
    [
      'an edit, also one that mentions nobody',
      {
        ...message,
        content: { ...message.content, 'm.relates_to': { rel_type: 'm.replace', event_id: '$e' } },
      },
      {},
      undefined,
    ],
    ['a reaction', { type: 'm.reaction', content: {} }, {}, undefined],
    [
      'the end of a room',
      { type: 'm.room.tombstone', state_key: '', content: {} },
      {},
      ['notify', HIGHLIGHT],
    ],
    ['no state', { type: 'm.room.tombstone', content: {} }, {}, undefined],
    ['a server ACL', { type: 'm.room.server_acl', state_key: '', content: {} }, {}, undefined],
    ['a call', { type: 'm.call.invite', content: {} }, {}, ['notify', { set_tweak: 'sound', value: 'ring' }]],
    [
      'an invite',
      { type: 'm.room.member', state_key: ALICE, content: { membership: 'invite' } },
      {},
      ['notify', SOUND],
    ],
    [
      "another one's invite",
      { type: 'm.room.member', state_key: '@carol:here', content: { membership: 'invite' } },
      {},
      undefined,
    ],
    ['a topic', { type: 'm.room.topic', state_key: '', content: { topic: 'x' } }, {}, undefined],
  ])('%s', (_, event, who, actions) => {
    expect(judge(event, {}, who)?.actions).toEqual(actions);
  });

  test('say nothing while the master rule is on, whatever the user has besides', () => {
    const own = { ...parseRuleSettings(undefined).own, override: [rule('all', { conditions: [] })] };
    expect(judge(message, { own })?.actions).toEqual(['notify']);
    expect(judge(message, { own, predefined: { '.m.rule.master': { enabled: true } } })).toBeUndefined();
  });

  test('are those of the specification, in its order', () => {
    const rules = effectiveRules(ALICE, parseRuleSettings(undefined));
    expect(rules.override.map(({ rule_id: id }) => id)).toEqual(
      [
        ...[
          'master',
          'suppress_notices',
          'invite_for_me',
          'member_event',
          'is_user_mention',
          'is_room_mention',
        ],
        ...['tombstone', 'reaction', 'room.server_acl', 'suppress_edits'],
      ].map((name) => `.m.rule.${name}`),
    );
    expect(rules.underride.map(({ rule_id: id }) => id)).toEqual(
      ['call', 'encrypted_room_one_to_one', 'room_one_to_one', 'message', 'encrypted'].map(
        (name) => `.m.rule.${name}`,
      ),
    );
    const off = Object.values(rules).flatMap((kind) => kind.filter(({ enabled }) => !enabled));
    expect(off.map(({ rule_id: id }) => id)).toEqual(['.m.rule.master']);
    expect(JSON.stringify(rules)).toContain(ALICE);
  });
});

const rule = (id: string, more: JsonObject) => ({
  ...{ rule_id: id, default: false, enabled: true, actions: ['notify'], ...more },
});

describe('rules', () => {
  const names = fc.constantFrom('a', 'b.c', 'm.relates_to', 'x\\y', 'body', 'type');
  const text = fc.string({ unit: fc.constantFrom('a', 'b', ' ', '*', '?', '.', '@'), maxLength: 5 });
  const simple = fc.oneof(text, fc.integer({ min: -2, max: 2 }), fc.boolean(), fc.constant(null));
  const value = fc.oneof(
    simple,
    fc.array(simple, { maxLength: 3 }),
    fc.dictionary(names, simple, { maxKeys: 2 }),
  );
  const escaped = (name: string): string => name.replaceAll('\\', '\\\\').replaceAll('.', '\\.');
  const path = fc.oneof(
    { arbitrary: fc.constantFrom('type', 'room_id', 'sender', 'state_key', 'content.body'), weight: 2 },
    {
      arbitrary: fc.array(names, { maxLength: 2 }).map((list) => ['content', ...list].map(escaped).join('.')),
      weight: 3,
    },
    { arbitrary: fc.constantFrom('content.m.relates_to', 'content.x\\y', '', '.', 'content.'), weight: 1 },
  );
  const condition: fc.Arbitrary<JsonObject> = fc.oneof(
    fc.record({ kind: fc.constant('event_match'), key: path, pattern: text }),
    fc.record({ kind: fc.constant('event_property_is'), key: path, value: simple }),
    fc.record({ kind: fc.constant('event_property_contains'), key: path, value: simple }),
    fc.record({ kind: fc.constant('contains_display_name') }),
    fc.record({
      kind: fc.constant('room_member_count'),
      is: fc
        .tuple(fc.constantFrom('', '==', '<', '>', '<=', '>=', '~'), fc.integer({ min: 0, max: 4 }))
        .map(([sign, n]) => `${sign}${n}`),
    }),
    fc.record({ kind: fc.constant('sender_notification_permission'), key: fc.constantFrom('room', 'other') }),
    fc.record({ kind: fc.constantFrom('org.unknown', 'constructor') }),
    fc.record({ kind: fc.constantFrom('event_match', 'event_property_is') }),
  );
  const actions = fc.array(
    fc.constantFrom<JsonValue>(
      'notify',
      'notify',
      'dont_notify',
      'coalesce',
      { set_tweak: 'highlight' },
      { set_tweak: 'sound', value: 'x' },
    ),
    { maxLength: 3 },
  );
  const ruleOf = (more: Record<string, fc.Arbitrary<JsonValue>>) =>
    fc.record({ enabled: fc.boolean(), actions, rule_id: text, ...more }) as fc.Arbitrary<JsonObject>;
  const conditional = fc.array(ruleOf({ conditions: fc.array(condition, { maxLength: 2 }) }), {
    maxLength: 3,
  });
  const ruleset = fc.record({
    override: conditional,
    content: fc.array(ruleOf({ pattern: text }), { maxLength: 1 }),
    room: fc.array(ruleOf({ rule_id: fc.constantFrom('!r', '!other') }), { maxLength: 1 }),
    sender: fc.array(ruleOf({ rule_id: fc.constantFrom('@bob:here', '@eve:here') }), { maxLength: 1 }),
    underride: conditional,
  });
  const event = fc.record(
    {
      type: text,
      state_key: text,
      room_id: fc.constant('!r'),
      sender: fc.constant('@bob:here'),
      content: fc.dictionary(names, value, { maxKeys: 4 }),
    },
    { requiredKeys: ['type', 'room_id', 'sender', 'content'] },
  ) as fc.Arbitrary<JsonObject>;

  test('say what the literal reading of the specification says', () => {
    let notified = 0;
    fc.assert(
      fc.property(
        ruleset,
        event,
        fc.record({
          displayName: fc.option(text, { nil: undefined }),
          memberCount: fc.integer({ min: 1, max: 4 }),
          senderLevel: fc.constantFrom(0, 50, 100),
        }),
        (rules, json, who) => {
          const levels = { room: 100 };
          const compiled = new CompiledRules(rules as never);
          const ruling = compiled.judge(new JudgedEvent(json), {
            ...{ user: ALICE, displayName: who.displayName, steps: plenty() },
            // More than is needed is not counted.
            memberCount: Math.min(who.memberCount, compiled.needs.memberCount),
            senderMay: (key) => who.senderLevel >= (key === 'room' ? levels.room : 50),
          });
          const expected = slowRuling(rules, json, { ...who, levels });
          if (expected !== undefined) notified++;
          expect(ruling === undefined ? undefined : [...ruling.actions].sort(byText)).toEqual(
            expected &&
              [
                ...new Set(expected.filter((each) => each === 'notify')),
                ...expected.filter((each) => each !== 'notify'),
              ].sort(byText),
          );
          if (ruling === undefined) return;
          const highlights = expected!.some((each) => JSON.stringify(each) === JSON.stringify(HIGHLIGHT));
          expect(ruling.isHighlight).toBe(highlights);
        },
      ),
      { seed: 11, numRuns: 4_000 },
    );
    expect(notified).toBeGreaterThan(500);
  });

  test('are told to gateways by their tweaks', () => {
    expect(tweaksOf(['notify', SOUND, HIGHLIGHT, { set_tweak: 'org.light', value: [1] }])).toEqual({
      ...{ sound: 'default', highlight: true, 'org.light': [1] },
    });
  });

  test('that switch a highlight off highlight nothing', () => {
    const own = (value: JsonValue) => ({
      own: {
        ...parseRuleSettings(undefined).own,
        override: [rule('x', { conditions: [], actions: ['notify', { set_tweak: 'highlight', value }] })],
      },
    });
    expect(judge({ type: 'x', content: {} }, own(false))?.isHighlight).toBe(false);
    expect(judge({ type: 'x', content: {} }, own(true))?.isHighlight).toBe(true);
  });
});

const byText = (a: JsonValue, b: JsonValue): number => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1);
