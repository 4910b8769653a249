import { describe, expect, it } from 'vitest';
import { base64 } from '../../src/base/bytes.ts';
import { publicKeyOf, sign } from '../../src/crypto/ed25519.ts';
import { canonicalBytes } from '../../src/matrix/canonical_json.ts';
import {
  authEventKeys,
  authorise,
  checkAuthEvents,
  creatorsOf,
  powerLevels,
} from '../../src/matrix/event_auth.ts';
import type { EventId, RoomId } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import { type Event, type Pdu, type StateKey, splitStateKey, stateKey } from '../../src/matrix/pdu.ts';
import { createEvent, makeEvent, user, v12 } from './rooms.ts';

const [alice, bob, carol, dave] = [user('alice'), user('bob'), user('carol'), user('dave')];
/** Alice made the room; an event's room_id is its own unless a case gives another. */
const create = createEvent();
const inRoom = (fields: Partial<Pdu>): Event => makeEvent({ room_id: create.room, ...fields });
const stateEvent = (type: string, content: JsonObject, sender = alice, key = ''): Event =>
  inRoom({ type, content, sender, state_key: key });
const member = (target: string, membership: string, content: JsonObject = {}, sender = target): Event =>
  inRoom({
    type: 'm.room.member',
    sender: sender as Pdu['sender'],
    state_key: target,
    content: { membership, ...content },
  });
const joinRules = (rule: string): Event => stateEvent('m.room.join_rules', { join_rule: rule });
const power = (content: JsonObject): Event => stateEvent('m.room.power_levels', content);

/** 'allowed', or the rule that rejected the event in a room with this state. Looks only where it may. */
function verdict(event: Event, state: readonly Event[] = [], creation: Event | 'none' = create): string {
  const places = new Map(state.map((held) => [stateKey(held.pdu.type, held.pdu.state_key!), held]));
  const selected = new Set(authEventKeys(event.pdu, v12));
  const result = authorise(
    event,
    {
      create: creation === 'none' ? undefined : creation,
      state(type, key) {
        if (!selected.has(stateKey(type, key))) throw new Error(`${type} is no auth event of this one`);
        return places.get(stateKey(type, key));
      },
    },
    v12,
  );
  return result.ok ? 'allowed' : result.problem.rule;
}

const aliceIn = member(alice, 'join');
const bobIn = member(bob, 'join');
const carolIn = member(carol, 'join');
/** Bob 50, Carol 50, Dave 25. */
const levels = power({ users: { [bob]: 50, [carol]: 50, [dave]: 25 } });

describe('rule 1, m.room.create', () => {
  const creation = (fields: Partial<Pdu>): Event => makeEvent({ ...create.pdu, ...fields });
  it.each([
    ['1.1', { prev_events: [create.id] }],
    ['1.2', { room_id: '!elsewhere' as RoomId }],
    ['1.3', { content: { room_version: 'no such version' } }],
    ['1.3', { content: { room_version: 12 } }],
    ['1.4', { content: { additional_creators: 'not a list' } }],
    ['1.4', { content: { additional_creators: [bob, 'bob'] } }],
    ['1.4', { content: { additional_creators: [bob, '@bob:not a server'] } }],
    ['allowed', { content: { room_version: '12', additional_creators: [bob, carol] } }],
    ['allowed', { content: {} }],
  ])('%s %j', (rule, fields) => expect(verdict(creation(fields))).toBe(rule));
});

describe('rules 2 and 4, the room', () => {
  it('2: rejects what is not in the room of an accepted create event', () => {
    const other = createEvent({ another: 'room' });
    expect(verdict(inRoom({}), [aliceIn], 'none')).toBe('2');
    expect(verdict(inRoom({ room_id: other.room }), [aliceIn])).toBe('2');
    expect(verdict(inRoom({ room_id: create.id as string as RoomId }), [aliceIn])).toBe('2');
    expect(verdict(inRoom({}), [aliceIn])).toBe('allowed');
  });

  it('4: keeps other servers out of a room that is not federated', () => {
    const closed = createEvent({ 'm.federate': false });
    const sent = (sender: Pdu['sender']): Event => makeEvent({ room_id: closed.room, sender });
    expect(verdict(sent(bob), [bobIn], closed)).toBe('4');
    expect(verdict(sent(alice), [aliceIn], closed)).toBe('allowed');
    const open = createEvent({ 'm.federate': true });
    expect(verdict(makeEvent({ room_id: open.room, sender: bob }), [bobIn], open)).toBe('allowed');
  });
});

describe('rule 3, the auth events', () => {
  const event = inRoom({ sender: bob, auth_events: [] });
  const check = (of: Event, ...events: [Event, boolean?][]): string => {
    const result = checkAuthEvents(
      of,
      events.map(([auth, rejected]) => ({ event: auth, rejected: rejected ?? false })),
      v12,
    );
    return result.ok ? 'allowed' : result.problem.rule;
  };
  it('3.1: rejects two entries for one place, and one entry named twice', () => {
    expect(check(event, [levels], [power({})])).toBe('3.1');
    expect(check(inRoom({ sender: bob, auth_events: [levels.id, levels.id] }), [levels])).toBe('3.1');
  });
  it('3.2: rejects entries that are not selected: another member, the create event, a message', () => {
    expect(check(event, [carolIn])).toBe('3.2');
    expect(check(event, [create])).toBe('3.2');
    expect(check(event, [inRoom({})])).toBe('3.2');
  });
  it('3.3: rejects entries that were rejected', () => expect(check(event, [bobIn, true])).toBe('3.3'));
  it('3.5: rejects entries of another room', () => {
    const elsewhere = makeEvent({ ...bobIn.pdu, room_id: createEvent({ another: 'room' }).room });
    expect(check(event, [elsewhere])).toBe('3.5');
  });
  it('allows what is selected, and leaves a create event to rule 1', () => {
    expect(check(event, [levels], [bobIn])).toBe('allowed');
    expect(check(makeEvent({ ...create.pdu, auth_events: [levels.id] }), [levels, true])).toBe('allowed');
  });
});

describe('rule 5, m.room.member in general', () => {
  it('5.1: wants a state key and a membership', () => {
    expect(verdict(inRoom({ type: 'm.room.member', content: { membership: 'join' } }))).toBe('5.1');
    expect(verdict(inRoom({ type: 'm.room.member', state_key: alice }))).toBe('5.1');
  });
  it('5.8: rejects unknown memberships', () => {
    expect(verdict(member(alice, 'asleep'))).toBe('5.8');
    expect(verdict(inRoom({ type: 'm.room.member', state_key: alice, content: { membership: 1 } }))).toBe(
      '5.8',
    );
  });
});

describe('rules 5.2 and 5.3, joining', () => {
  const first = (fields: Partial<Pdu>): Event =>
    inRoom({ ...member(alice, 'join').pdu, prev_events: [create.id], ...fields });
  it('5.3.1: lets the creator in straight after the create event, and nobody else', () => {
    expect(verdict(first({}))).toBe('allowed');
    expect(verdict(first({ prev_events: [create.id, '$other' as EventId] }))).toBe('5.3.7');
    expect(verdict(first({ prev_events: ['$other' as EventId] }))).toBe('5.3.7');
    expect(verdict(first({ sender: bob, state_key: bob }))).toBe('5.3.7');
  });
  it.each([
    ['5.3.2', member(bob, 'join', {}, alice), [joinRules('public')]],
    ['5.3.3', member(bob, 'join'), [joinRules('public'), member(bob, 'ban', {}, alice)]],
    ['allowed', member(bob, 'join'), [joinRules('invite'), member(bob, 'invite', {}, alice)]], // 5.3.4
    ['allowed', member(bob, 'join'), [joinRules('knock'), bobIn]],
    ['5.3.7', member(bob, 'join'), [joinRules('knock'), member(bob, 'knock')]],
    ['5.3.7', member(bob, 'join'), [joinRules('invite')]],
    ['allowed', member(bob, 'join'), [joinRules('restricted'), bobIn]], // 5.3.5.1
    ['allowed', member(bob, 'join'), [joinRules('knock_restricted'), member(bob, 'invite', {}, alice)]],
    ['5.3.5.2', member(bob, 'join'), [joinRules('restricted')]],
    ['allowed', member(bob, 'join'), [joinRules('public')]], // 5.3.6
    ['5.3.7', member(bob, 'join'), [joinRules('private')]],
    ['5.3.7', member(bob, 'join'), []],
    ['allowed', member(bob, 'join'), [member(bob, 'invite', {}, alice)]], // no join rules: invite
  ] as const)('%s %#', (rule, event, state) => expect(verdict(event, state)).toBe(rule));

  const via = (authoriser: string, signers: readonly string[] = ['bob.example', 'carol.example']): Event =>
    inRoom({
      ...member(bob, 'join', { join_authorised_via_users_server: authoriser }).pdu,
      signatures: Object.fromEntries(signers.map((server) => [server, { 'ed25519:1': '' }])),
    });
  it.each([
    ['5.2.1', via(carol, ['bob.example']), [carolIn]],
    ['5.2.1', via('carol'), [carolIn]],
    ['5.3.5.2', via(carol), []],
    ['5.3.5.2', via(carol), [member(carol, 'invite', {}, alice)]],
    ['5.3.5.2', via(carol), [carolIn, power({ invite: 1 })]],
    ['allowed', via(carol), [carolIn, power({ invite: 50, users: { [carol]: 50 } })]], // 5.3.5.3
    ['allowed', via(alice, ['bob.example', 'alice.example']), [aliceIn, power({ invite: 2 ** 53 - 1 })]],
  ] as const)('restricted: %s %#', (rule, event, state) => {
    expect(verdict(event, [joinRules('restricted'), ...state])).toBe(rule);
    expect(verdict(event, [joinRules('knock_restricted'), ...state])).toBe(rule);
  });
  it('5.2.1: looks at the key whatever the membership', () => {
    expect(verdict(member(bob, 'leave', { join_authorised_via_users_server: carol }), [bobIn])).toBe('5.2.1');
  });
});

describe('rule 5.4, inviting', () => {
  it.each([
    ['5.4.2', member(dave, 'invite', {}, bob), []],
    ['5.4.3', member(carol, 'invite', {}, bob), [bobIn, carolIn]],
    ['5.4.3', member(carol, 'invite', {}, bob), [bobIn, member(carol, 'ban', {}, alice)]],
    ['allowed', member(dave, 'invite', {}, bob), [bobIn]], // 5.4.4: the invite level is 0
    ['allowed', member(dave, 'invite', {}, bob), [bobIn, member(dave, 'knock')]],
    ['5.4.5', member(dave, 'invite', {}, bob), [bobIn, power({ invite: 51, users: { [bob]: 50 } })]],
  ] as const)('%s %#', (rule, event, state) => expect(verdict(event, state)).toBe(rule));
});

describe('rule 5.4.1, third-party invites', () => {
  const [secret, otherSecret] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)];
  const key = base64(publicKeyOf(secret));
  const signedBy = (by: Uint8Array, mxid: string = dave): JsonObject => {
    const signed = { mxid, token: 'token' };
    return {
      ...signed,
      signatures: { 'identity.example': { 'ed25519:0': base64(sign(by, canonicalBytes(signed))) } },
    };
  };
  const issued = (content: JsonObject, sender = bob): Event =>
    stateEvent('m.room.third_party_invite', content, sender, 'token');
  const invite = (thirdParty: JsonObject | string): Event =>
    member(dave, 'invite', { third_party_invite: thirdParty }, bob);
  const byKey = issued({ public_key: key });
  it.each([
    ['5.4.1.1', invite({ signed: signedBy(secret) }), [byKey, member(dave, 'ban', {}, alice)]],
    ['5.4.1.2', invite({}), [byKey]],
    ['5.4.1.2', invite('text'), [byKey]],
    ['5.4.1.3', invite({ signed: { mxid: dave } }), [byKey]],
    ['5.4.1.3', invite({ signed: { token: 'token' } }), [byKey]],
    ['5.4.1.4', invite({ signed: signedBy(secret, carol) }), [byKey]],
    ['5.4.1.5', invite({ signed: signedBy(secret) }), []],
    ['5.4.1.6', invite({ signed: signedBy(secret) }), [issued({ public_key: key }, carol)]],
    ['allowed', invite({ signed: signedBy(secret) }), [byKey]], // 5.4.1.7.1
    [
      'allowed',
      invite({ signed: signedBy(secret) }),
      [issued({ public_keys: [{ public_key: 'AA' }, { public_key: key }] })],
    ],
    ['5.4.1.8', invite({ signed: signedBy(otherSecret) }), [byKey]],
    ['5.4.1.8', invite({ signed: { ...signedBy(secret), more: 'unsigned' } }), [byKey]],
    ['5.4.1.8', invite({ signed: { mxid: dave, token: 'token' } }), [byKey]],
  ] as const)('%s %#', (rule, event, state) => expect(verdict(event, state)).toBe(rule));

  it('5.4.1.8: counts neither other algorithms nor what is not text', () => {
    const { signatures, ...signed } = signedBy(secret);
    const text = (signatures as { 'identity.example': { 'ed25519:0': string } })['identity.example'][
      'ed25519:0'
    ];
    const under = (ofServer: JsonObject): Event =>
      invite({ signed: { ...signed, signatures: { a: ofServer } } });
    expect(verdict(under({ 'ed25519:any': text }), [byKey])).toBe('allowed');
    expect(verdict(under({ 'rsa:0': text }), [byKey])).toBe('5.4.1.8');
    expect(verdict(under({ 'ed25519:0': 1 }), [byKey])).toBe('5.4.1.8');
  });

  it('tries a bounded number of pairs of key and signature', () => {
    const withJunkBefore = (count: number): Event => {
      const junk = Array.from({ length: count }, (_, i) => [`ed25519:junk${i}`, base64(new Uint8Array(64))]);
      const { signatures, ...signed } = signedBy(secret);
      return invite({
        signed: { ...signed, signatures: { a: Object.fromEntries(junk), ...(signatures as JsonObject) } },
      });
    };
    expect(verdict(withJunkBefore(255), [byKey])).toBe('allowed');
    expect(verdict(withJunkBefore(256), [byKey])).toBe('5.4.1.8');
  });
});

describe('rules 5.5 and 5.6, leaving, kicking and banning', () => {
  const banned = member(dave, 'ban', {}, alice);
  const kick = (target: string, sender: Pdu['sender']): Event => member(target, 'leave', {}, sender);
  const ban = (target: string, sender: Pdu['sender']): Event => member(target, 'ban', {}, sender);
  it.each([
    ['allowed', member(bob, 'leave'), [bobIn]], // 5.5.1
    ['allowed', member(bob, 'leave'), [member(bob, 'invite', {}, alice)]],
    ['allowed', member(bob, 'leave'), [member(bob, 'knock')]],
    ['5.5.1', member(bob, 'leave'), []],
    ['5.5.1', member(bob, 'leave'), [member(bob, 'leave')]],
    ['5.5.1', member(bob, 'leave'), [member(bob, 'ban', {}, alice)]],
    ['5.5.2', kick(dave, bob), [levels]],
    ['5.5.3', kick(dave, bob), [bobIn, banned, power({ ban: 51, users: { [bob]: 50 } })]],
    ['allowed', kick(dave, bob), [bobIn, banned, levels]], // 5.5.4: lifting a ban
    ['allowed', kick(dave, bob), [bobIn, levels]],
    ['5.5.5', kick(dave, bob), [bobIn, power({ kick: 51, users: { [bob]: 50 } })]],
    ['5.5.5', kick(carol, bob), [bobIn, carolIn, levels]],
    ['5.5.5', kick(alice, bob), [bobIn, aliceIn, power({ users: { [bob]: 2 ** 53 - 1 } })]],
    [
      'allowed',
      kick(bob, alice),
      [aliceIn, bobIn, power({ kick: 2 ** 53 - 1, users: { [bob]: 2 ** 53 - 1 } })],
    ],
    ['5.6.1', ban(dave, bob), [levels]],
    ['allowed', ban(dave, bob), [bobIn, levels]], // 5.6.2
    ['5.6.3', ban(dave, bob), [bobIn, power({ ban: 51, users: { [bob]: 50 } })]],
    ['5.6.3', ban(carol, bob), [bobIn, levels]],
    ['5.6.3', ban(bob, bob), [bobIn, levels]],
    ['5.6.3', ban(alice, bob), [bobIn, power({ users: { [bob]: 2 ** 53 - 1 } })]],
  ] as const)('%s %#', (rule, event, state) => expect(verdict(event, state)).toBe(rule));

  it('5.6.3: creators cannot ban one another, infinity being no less than infinity', () => {
    const shared = createEvent({ additional_creators: [bob] });
    const event = makeEvent({ ...ban(bob, alice).pdu, room_id: shared.room });
    expect(verdict(event, [aliceIn, bobIn], shared)).toBe('5.6.3');
  });
});

describe('rule 5.7, knocking', () => {
  it.each([
    ['5.7.1', member(bob, 'knock'), [joinRules('invite')]],
    ['5.7.1', member(bob, 'knock'), [joinRules('restricted')]],
    ['5.7.2', member(bob, 'knock', {}, carol), [joinRules('knock')]],
    ['allowed', member(bob, 'knock'), [joinRules('knock')]], // 5.7.3
    ['allowed', member(bob, 'knock'), [joinRules('knock_restricted'), member(bob, 'leave')]],
    ['5.7.4', member(bob, 'knock'), [joinRules('knock'), member(bob, 'ban', {}, alice)]],
    ['5.7.4', member(bob, 'knock'), [joinRules('knock'), member(bob, 'invite', {}, alice)]],
    ['5.7.4', member(bob, 'knock'), [joinRules('knock'), bobIn]],
  ] as const)('%s %#', (rule, event, state) => expect(verdict(event, state)).toBe(rule));
});

describe('rules 6 to 9, everything else', () => {
  const thirdParty = stateEvent('m.room.third_party_invite', {}, bob, 'token');
  it.each([
    ['6', inRoom({ sender: bob }), []],
    ['6', inRoom({ sender: bob }), [member(bob, 'invite', {}, alice)]],
    ['6', inRoom({}), []], // a creator too
    ['allowed', thirdParty, [bobIn]], // 7.1, though the state default is 50
    ['7.1', thirdParty, [bobIn, power({ invite: 1 })]],
    ['8', stateEvent('m.room.topic', {}, bob), [bobIn]],
    ['8', inRoom({ sender: bob }), [bobIn, power({ events_default: 1 })]],
    ['8', inRoom({ sender: bob, type: 'x' }), [bobIn, power({ events: { x: 1 } })]],
    ['allowed', inRoom({ sender: bob, type: 'constructor' }), [bobIn, power({ events: {} })]],
    ['allowed', stateEvent('m.room.topic', {}, bob), [bobIn, power({ state_default: 0 })]],
    ['allowed', stateEvent('m.room.topic', {}, alice), [aliceIn, power({ state_default: 2 ** 53 - 1 })]],
    ['9', stateEvent('x', {}, bob, carol), [bobIn, levels]],
    ['allowed', stateEvent('x', {}, bob, bob), [bobIn, levels]],
    ['9', stateEvent('x', {}, alice, '@'), [aliceIn]],
    ['allowed', inRoom({ sender: bob, type: 'm.room.redaction' }), [bobIn]], // 11
  ] as const)('%s %#', (rule, event, state) => expect(verdict(event, state)).toBe(rule));
});

describe('rule 10, m.room.power_levels', () => {
  const set = (content: JsonObject, sender = bob): Event =>
    stateEvent('m.room.power_levels', content, sender);
  const users = { [bob]: 50, [carol]: 50, [dave]: 25 };
  it.each([
    ['10.1', { ban: '50' }, {}],
    ['10.1', { invite: null }, {}],
    ['10.2', { events: [] }, {}],
    ['10.2', { events: { x: '1' } }, {}],
    ['10.2', { notifications: { room: true } }, {}],
    ['10.3', { users: [] }, {}],
    ['10.3', { users: { [bob]: '50' } }, {}],
    ['10.3', { users: { bob: 50 } }, {}],
    ['10.4', { users: { ...users, [alice]: 100 } }, {}],
    ['10.6.1', { users }, { kick: 51 }],
    ['10.6.1', { users, kick: 50 }, { kick: 51 }],
    ['10.6.2', { users, redact: 51 }, {}],
    ['10.6.2', { users, users_default: 51 }, { users_default: 0 }],
    ['allowed', { users, redact: 50, ban: 50 }, { kick: 50 }],
    ['10.7.1', { users }, { events: { x: 51 } }],
    ['10.7.1', { users, notifications: { room: 0 } }, { notifications: { room: 51 } }],
    ['10.8.1', { users, events: { x: 51 } }, { events: { x: 50 } }],
    ['10.8.1', { users, notifications: { room: 51 } }, {}],
    ['allowed', { users, events: { x: 51 } }, { events: { x: 51 } }],
    ['allowed', { users, events: { x: 50 }, notifications: { room: 50 } }, { events: { y: 50 } }],
    ['10.9.1', { users: { [bob]: 50, [carol]: 49, [dave]: 25 } }, {}],
    ['10.9.1', { users: { [bob]: 50, [dave]: 25 } }, {}],
    ['10.10.1', { users: { ...users, [bob]: 51 } }, {}],
    ['10.10.1', { users: { ...users, [dave]: 51 } }, {}],
    ['10.10.1', { users: { ...users, '@eve:e': 51 } }, {}],
    ['allowed', { users: { [bob]: 49, [carol]: 50, [dave]: 50 } }, {}],
    ['allowed', { users: { [bob]: 50, [carol]: 50 } }, {}],
  ] as const)('%s %j after %j', (rule, next, before) => {
    expect(verdict(set(next as JsonObject), [bobIn, power({ users, ...before } as JsonObject)])).toBe(rule);
  });
  it('10.4: also counts additional creators', () => {
    const shared = createEvent({ additional_creators: [carol] });
    const event = makeEvent({ ...set({ users: { [carol]: 0 } }, alice).pdu, room_id: shared.room });
    expect(verdict(event, [aliceIn], shared)).toBe('10.4');
  });
  it('10.5: anything well-formed goes where there was none, for who may send it', () => {
    expect(verdict(set({ users: { [bob]: 2 ** 53 - 1 }, ban: 1_000 }, alice), [aliceIn])).toBe('allowed');
    expect(verdict(set({}), [bobIn])).toBe('8');
  });
  it('lets a creator change what is far above everybody else', () => {
    const before = power({ users: { [bob]: 2 ** 53 - 1 }, events: { x: 2 ** 53 - 1 }, kick: 2 ** 53 - 1 });
    expect(verdict(set({ users: { [bob]: 0 } }, alice), [aliceIn, before])).toBe('allowed');
  });
});

describe('auth events selection', () => {
  const keys = (event: Event): string[] =>
    authEventKeys(event.pdu, v12)
      .map((key: StateKey) => Object.values(splitStateKey(key)).join(' ').trim())
      .sort();
  it('selects nothing for the create event', () => expect(keys(create)).toEqual([]));
  it('selects power levels and the sender for a message, and not the create event', () => {
    expect(keys(inRoom({ sender: bob }))).toEqual(['m.room.member @bob:bob.example', 'm.room.power_levels']);
  });
  it('adds target, join rules, token and authoriser for the memberships that need them', () => {
    const base = [
      'm.room.member @alice:alice.example',
      'm.room.member @bob:bob.example',
      'm.room.power_levels',
    ];
    expect(keys(member(bob, 'ban', {}, alice))).toEqual(base);
    expect(keys(member(bob, 'invite', {}, alice))).toEqual(['m.room.join_rules', ...base]);
    expect(keys(member(bob, 'invite', { third_party_invite: { signed: { token: 't' } } }, alice))).toEqual(
      ['m.room.join_rules', ...base, 'm.room.third_party_invite t'].sort(),
    );
    expect(keys(member(bob, 'join', { join_authorised_via_users_server: alice }))).toEqual([
      'm.room.join_rules',
      ...base,
    ]);
    expect(keys(member(bob, 'knock', { join_authorised_via_users_server: alice }))).toEqual(
      ['m.room.join_rules', ...base].filter((key) => !key.includes('alice')),
    );
  });
  it('knows restricted joins only in versions that have them', () => {
    const { pdu } = member(bob, 'join', { join_authorised_via_users_server: alice });
    expect(authEventKeys(pdu, { ...v12, restrictedJoins: false })).not.toContain(
      stateKey('m.room.member', alice),
    );
  });
});

describe('power levels', () => {
  it('have the defaults of the specification', () => {
    const none = powerLevels(create, undefined, v12);
    expect([none.ban, none.kick, none.redact, none.invite]).toEqual([50, 50, 50, 0]);
    expect([none.user(bob), none.user(alice), none.notification('room')]).toEqual([0, Infinity, 50]);
    expect([none.event('m.room.topic', true), none.event('m.room.message', false)]).toEqual([50, 0]);
  });
  it('read what the event says, for what it names', () => {
    const some = powerLevels(
      create,
      power({ users_default: 5, users: { [bob]: 7 }, notifications: { room: 20 }, invite: 3 }),
      v12,
    );
    expect([some.user(bob), some.user(carol), some.notification('room'), some.invite]).toEqual([7, 5, 20, 3]);
  });
  it('make every creator infinitely powerful, whatever the event says', () => {
    const shared = createEvent({ additional_creators: [bob] });
    expect([...creatorsOf(shared, v12)]).toEqual([alice, bob]);
    expect(powerLevels(shared, power({ users: { [bob]: 1 } }), v12).user(bob)).toBe(Infinity);
  });
});
