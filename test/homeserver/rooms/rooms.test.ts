import { beforeEach, describe, expect, it } from 'vitest';
import { MatrixError } from '../../../src/matrix/error.ts';
import type { DeviceId, EventId, RoomId, UserId } from '../../../src/matrix/ids.ts';
import type { JsonValue } from '../../../src/matrix/json.ts';
import type { Server } from './world.ts';
import { World } from './world.ts';

/** An array in an array ..., `levels` deep. */
const nested = (levels: number): JsonValue => (levels === 0 ? 0 : [nested(levels - 1)]);

let world: World;
let a: Server;
let alice: UserId;
let amy: UserId;

beforeEach(() => {
  world = new World();
  a = world.server('a.example');
  alice = a.user('alice');
  amy = a.user('amy');
});

const types = async (server: Server): Promise<string[]> =>
  (await server.database.all<{ type: string }>('SELECT type FROM events ORDER BY position')).map(
    ({ type }) => type,
  );

const content = async (room: RoomId, type: string, key = '') =>
  (await a.rooms.queries.currentEvent(room, type, key))?.pdu.content;

const error = (status: number, errcode: string) => expect.objectContaining({ status, errcode });

describe('creating a room', () => {
  it('adds the events in the order of the specification, each at a position of its own', async () => {
    a.displayNames.set(alice, 'Alice');
    const room = await a.rooms.create(alice, {
      preset: 'public_chat',
      name: 'Tea',
      topic: 'Pots',
      initial_state: [{ type: 'm.room.encryption', content: { algorithm: 'm.megolm.v1.aes-sha2' } }],
      invite: [amy],
      is_direct: true,
    });
    expect(await types(a)).toEqual([
      'm.room.create',
      'm.room.member',
      'm.room.power_levels',
      'm.room.join_rules',
      'm.room.history_visibility',
      'm.room.guest_access',
      'm.room.encryption',
      'm.room.name',
      'm.room.topic',
      'm.room.member',
    ]);
    expect(room).toMatch(/^![A-Za-z0-9_-]{43}$/);
    expect(await content(room, 'm.room.member', alice)).toEqual({ membership: 'join', displayname: 'Alice' });
    expect(await content(room, 'm.room.member', amy)).toEqual({ membership: 'invite', is_direct: true });
    expect(a.published).toMatchObject([
      { position: 9, rooms: [room], users: [alice] },
      { position: 10, rooms: [room], users: [amy] },
    ]);
  });

  it.each([
    ['private_chat', 'invite', 'can_join'],
    ['trusted_private_chat', 'invite', 'can_join'],
    ['public_chat', 'public', 'forbidden'],
  ] as const)('takes join rules and guest access from %s', async (preset, rule, guests) => {
    const room = await a.rooms.create(alice, { preset });
    expect(await content(room, 'm.room.join_rules')).toEqual({ join_rule: rule });
    expect(await content(room, 'm.room.guest_access')).toEqual({ guest_access: guests });
    expect(await content(room, 'm.room.history_visibility')).toEqual({ history_visibility: 'shared' });
  });

  it('lets initial_state take the place of what the preset says', async () => {
    const room = await a.rooms.create(alice, {
      initial_state: [{ type: 'm.room.join_rules', content: { join_rule: 'public' } }],
    });
    expect(await content(room, 'm.room.join_rules')).toEqual({ join_rule: 'public' });
    expect((await types(a)).filter((type) => type === 'm.room.join_rules')).toHaveLength(1);
  });

  it('makes invitees of a trusted private chat creators', async () => {
    const room = await a.rooms.create(alice, {
      preset: 'trusted_private_chat',
      invite: [amy],
      creation_content: {
        'm.federate': false,
        additional_creators: ['@x:b.example'],
        creator: '@me:c.example',
      },
    });
    expect(await content(room, 'm.room.create')).toEqual({
      room_version: '12',
      'm.federate': false,
      additional_creators: ['@x:b.example', amy],
    });
  });

  it('gives the tombstone a level above state_default, and names no creator in the power levels', async () => {
    const room = await a.rooms.create(alice, { power_level_content_override: { ban: 77 } });
    expect(await content(room, 'm.room.power_levels')).toMatchObject({
      users: {},
      ban: 77,
      state_default: 50,
      events: { 'm.room.tombstone': 150 },
    });
  });

  it('makes two rooms of two equal requests of the same millisecond', async () => {
    const rooms = await Promise.all([a.rooms.create(alice, {}), a.rooms.create(alice, {})]);
    expect(new Set(rooms).size).toBe(2);
  });

  it.each([
    [{ room_version: 'none' }, 'M_UNSUPPORTED_ROOM_VERSION'],
    [{ power_level_content_override: { users: { '@alice:a.example': 100 } } }, 'M_INVALID_ROOM_STATE'],
    [{ creation_content: { additional_creators: ['nobody'] } }, 'M_INVALID_ROOM_STATE'],
    [{ initial_state: [{ type: 'm.room.create', content: {} }] }, 'M_INVALID_ROOM_STATE'],
    [{ invite: ['amy'] }, 'M_BAD_JSON'],
    [{ initial_state: [{ type: 'x', content: { half: 0.5 } }] }, 'M_BAD_JSON'],
    [{ invite: Array.from({ length: 101 }, (_, i) => `@u${i}:a.example`) }, 'M_BAD_JSON'],
  ])('refuses %j and leaves nothing behind', async (request, errcode) => {
    await expect(a.rooms.create(alice, request)).rejects.toEqual(error(400, errcode));
    expect(await types(a)).toEqual([]);
  });
});

describe('sending', () => {
  let room: RoomId;
  const phone = { device: 'PHONE' as DeviceId, txnId: '1' };
  beforeEach(async () => {
    room = await a.rooms.create(alice, { preset: 'public_chat' });
  });

  it('makes one event of a transaction, however often and at once it is asked for, also after a restart', async () => {
    const send = () => a.rooms.sending.send(room, 'm.text', { n: 1 }, { user: alice, ...phone });
    const ids = await Promise.all(Array.from({ length: 20 }, send));
    ids.push(await send());
    a.restart();
    ids.push(await send());
    expect(new Set(ids).size).toBe(1);
    const { n } = (await a.database.get<{ n: number }>(
      "SELECT COUNT(*) AS n FROM events WHERE type = 'm.text'",
    ))!;
    expect(n).toBe(1);
  });

  it('tells transactions of other devices, users, rooms and types apart', async () => {
    await a.rooms.memberships.join(amy, room, {});
    const send = (user: UserId, device: string, type: string, to = room) =>
      a.rooms.sending.send(to, type, {}, { user, device: device as DeviceId, txnId: '1' });
    const other = await a.rooms.create(alice, {});
    const ids = [
      await send(alice, 'PHONE', 'm.text'),
      await send(alice, 'DESK', 'm.text'),
      await send(amy, 'PHONE', 'm.text'),
      await send(alice, 'PHONE', 'm.image'),
      await send(alice, 'PHONE', 'm.text', other),
    ];
    expect(new Set(ids).size).toBe(5);
  });

  it('does not remember a transaction that failed', async () => {
    const send = () => a.rooms.sending.send(room, 'm.text', {}, { user: amy, ...phone });
    await expect(send()).rejects.toEqual(error(403, 'M_FORBIDDEN'));
    await a.rooms.memberships.join(amy, room, {});
    expect(await send()).toMatch(/^\$/);
  });

  it('puts concurrent events on one line', async () => {
    await Promise.all(Array.from({ length: 20 }, (_, i) => a.say(alice, room, `${i}`)));
    expect(a.rooms.counters.forks).toBe(0);
    expect((await a.timeline(room)).length).toBe(20);
  });

  it.each([
    ['an event over 65,536 bytes', 'm.text', { body: 'x'.repeat(65_536) }, 413, 'M_TOO_LARGE'],
    ['content that nests too deep', 'm.text', { body: '', deep: nested(100) }, 400, 'M_BAD_JSON'],
    ['a type over 255 bytes', 'x'.repeat(256), {}, 413, 'M_TOO_LARGE'],
    ['a fraction', 'm.text', { body: 1.5 }, 400, 'M_BAD_JSON'],
  ])('refuses %s', async (_, type, body, status, errcode) => {
    const sent = a.rooms.sending.send(room, type, body, { user: alice, ...phone });
    await expect(sent).rejects.toEqual(error(status, errcode));
  });

  it('refuses who is not in the room, and rooms that are not known', async () => {
    await expect(a.say(amy, room, 'hi')).rejects.toEqual(error(403, 'M_FORBIDDEN'));
    await expect(a.say(alice, '!nowhere' as RoomId, 'hi')).rejects.toEqual(error(403, 'M_FORBIDDEN'));
  });

  it('sends a state event once where nothing changes', async () => {
    const set = (name: string) => a.rooms.setState(room, alice, 'm.room.name', '', { name });
    const first = await set('Tea');
    expect(await set('Tea')).toBe(first);
    expect(await set('Coffee')).not.toBe(first);
  });

  it('leaves a room as it was where a transaction fails half-way, and tells nobody', async () => {
    const set = (topic: string) => a.rooms.setState(room, alice, 'm.room.topic', '', { topic });
    await set('one');
    const before = await a.state(room);
    const published = a.published.length;
    const run = (sql: string) => a.database.transaction(async (tx) => void (await tx.run(sql)));
    await run(
      "CREATE TRIGGER broken BEFORE INSERT ON forward_extremities BEGIN SELECT RAISE(ABORT, 'broken'); END",
    );
    await expect(set('two')).rejects.toThrow('broken');
    expect(await a.state(room)).toEqual(before);
    expect(a.published).toHaveLength(published);
    await run('DROP TRIGGER broken');
    await set('three');
    expect((await content(room, 'm.room.topic'))?.topic).toBe('three');
    expect(a.published).toHaveLength(published + 1);
    a.restart();
    expect((await content(room, 'm.room.topic'))?.topic).toBe('three');
  });

  it('leaves the name that a member has in one room alone where they join it again', async () => {
    a.displayNames.set(alice, 'Alice');
    await a.rooms.setState(room, alice, 'm.room.member', alice, { membership: 'join', displayname: 'Al' });
    await a.rooms.memberships.join(alice, room, {});
    expect((await content(room, 'm.room.member', alice))?.displayname).toBe('Al');
  });

  it('shows a profile that changes at any point of a join', async () => {
    for (let turns = 0; turns < 60; turns++) {
      const open = await a.rooms.create(alice, { preset: 'public_chat' });
      a.displayNames.set(amy, 'before');
      const joining = a.rooms.memberships.join(amy, open, {});
      for (let turn = 0; turn < turns; turn++) await Promise.resolve();
      a.displayNames.set(amy, 'after');
      await Promise.all([a.rooms.profileChanged(amy), joining]);
      const member = await a.rooms.queries.currentEvent(open, 'm.room.member', amy);
      expect(member?.pdu.content.displayname, `after ${turns} turns`).toBe('after');
    }
  });

  it('shows a new profile in every room that the user is in', async () => {
    const other = await a.rooms.create(alice, {});
    a.displayNames.set(alice, 'Alice');
    await a.rooms.profileChanged(alice);
    await a.rooms.profileChanged(alice);
    for (const each of [room, other]) {
      expect(await content(each, 'm.room.member', alice)).toEqual({
        membership: 'join',
        displayname: 'Alice',
      });
    }
    const { n } = (await a.database.get<{ n: number }>(
      "SELECT COUNT(*) AS n FROM events WHERE type = 'm.room.member'",
    ))!;
    expect(n).toBe(4);
  });
});

describe('membership', () => {
  let room: RoomId;
  beforeEach(async () => {
    room = await a.rooms.create(alice, {});
  });
  const members = () => a.rooms.memberships;

  it('lets an invited user in, and nobody else', async () => {
    await expect(members().join(amy, room, {})).rejects.toEqual(error(403, 'M_FORBIDDEN'));
    await members().invite(alice, room, amy, { reason: 'tea' });
    expect(await content(room, 'm.room.member', amy)).toEqual({ membership: 'invite', reason: 'tea' });
    await members().invite(alice, room, amy);
    await members().join(amy, room, {});
    await members().join(amy, room, {});
    expect(await a.rooms.queries.joinedRooms(amy)).toEqual([room]);
  });

  it('kicks, bans and unbans, and says what is not so', async () => {
    await expect(members().kick(alice, room, amy)).rejects.toEqual(error(403, 'M_FORBIDDEN'));
    await expect(members().unban(alice, room, amy)).rejects.toEqual(error(403, 'M_BAD_STATE'));
    await members().invite(alice, room, amy);
    await members().join(amy, room, {});
    await expect(members().ban(amy, room, alice)).rejects.toEqual(error(403, 'M_FORBIDDEN'));
    await members().kick(alice, room, amy, 'rude');
    expect(await content(room, 'm.room.member', amy)).toEqual({ membership: 'leave', reason: 'rude' });
    await members().ban(alice, room, amy);
    await expect(members().invite(alice, room, amy)).rejects.toEqual(error(403, 'M_FORBIDDEN'));
    await members().unban(alice, room, amy);
    await members().invite(alice, room, amy);
    expect(await a.membership(room, amy)).toBe('invite');
  });

  it('leaves once, and forgets only then', async () => {
    await expect(members().leave(amy, room)).rejects.toEqual(error(403, 'M_FORBIDDEN'));
    await expect(members().forget(alice, room)).rejects.toEqual(error(400, 'M_UNKNOWN'));
    await members().leave(alice, room);
    await members().leave(alice, room);
    expect((await a.rooms.queries.state(room, { user: alice, device: 'PHONE' as DeviceId })).length).toBe(6);
    await members().forget(alice, room);
    await expect(a.rooms.queries.state(room, { user: alice, device: 'PHONE' as DeviceId })).rejects.toEqual(
      error(403, 'M_FORBIDDEN'),
    );
  });

  it('shows who has left the state of that time, and the invited none', async () => {
    await members().invite(alice, room, amy);
    const asker = { user: amy, device: 'PHONE' as DeviceId };
    const { queries } = a.rooms;
    await expect(queries.state(room, asker)).rejects.toEqual(error(403, 'M_FORBIDDEN'));
    await members().join(amy, room, {});
    await a.rooms.setState(room, alice, 'm.room.name', '', { name: 'then' });
    await members().leave(amy, room);
    await a.rooms.setState(room, alice, 'm.room.name', '', { name: 'now' });
    expect((await queries.stateEvent(room, 'm.room.name', '', asker)).content).toEqual({ name: 'then' });
    await expect(queries.joinedMembers(room, amy)).rejects.toEqual(error(403, 'M_FORBIDDEN'));
    expect(Object.keys(await queries.joinedMembers(room, alice))).toEqual([alice]);
  });

  it('lets members of one room into another that is restricted to them', async () => {
    const restricted = await a.rooms.create(alice, {
      initial_state: [
        {
          type: 'm.room.join_rules',
          content: { join_rule: 'restricted', allow: [{ type: 'm.room_membership', room_id: room }] },
        },
      ],
    });
    await expect(members().join(amy, restricted, {})).rejects.toEqual(error(403, 'M_FORBIDDEN'));
    await members().invite(alice, room, amy);
    await members().join(amy, room, {});
    await members().join(amy, restricted, {});
    expect(await content(restricted, 'm.room.member', amy)).toEqual({
      membership: 'join',
      join_authorised_via_users_server: alice,
    });
  });
});

describe('redaction by local users', () => {
  let room: RoomId;
  beforeEach(async () => {
    room = await a.rooms.create(alice, { preset: 'public_chat' });
    await a.rooms.memberships.join(amy, room, {});
  });

  it('takes the content of own events, and of any with the power to', async () => {
    const own = await a.say(amy, room, 'oops');
    const redaction = await a.redact(amy, room, own);
    const stored = await a.stored(own);
    expect(stored).toMatchObject({
      redactedBy: redaction,
      status: 'timeline',
      event: { id: own, pdu: { content: {} } },
    });
    const others = await a.say(amy, room, 'rude');
    await a.redact(alice, room, others);
    expect((await a.stored(others)).event.pdu.content).toEqual({});
    expect(JSON.stringify(await a.database.all('SELECT json FROM events'))).not.toMatch(/oops|rude/);
  });

  it('refuses what others sent, and what is not there', async () => {
    const said = await a.say(alice, room, 'mine');
    await expect(a.redact(amy, room, said)).rejects.toEqual(error(403, 'M_FORBIDDEN'));
    await expect(a.redact(amy, room, '$nothing' as EventId)).rejects.toEqual(error(404, 'M_NOT_FOUND'));
    expect((await a.stored(said)).redactedBy).toBeNull();
  });

  it('names the first of two redactions', async () => {
    const said = await a.say(amy, room, 'oops');
    const first = await a.redact(amy, room, said);
    await a.redact(alice, room, said);
    expect((await a.stored(said)).redactedBy).toBe(first);
  });
});

it('keeps state groups that add up to the same state after a restart, in short chains', async () => {
  const room = await a.rooms.create(alice, {});
  for (let i = 0; i < 150; i++) await a.rooms.setState(room, alice, 'x', `${i % 7}`, { i });
  const before = await a.state(room);
  a.restart();
  await a.rooms.setState(room, alice, 'x', 'last', {});
  const asker = { user: alice, device: 'PHONE' as DeviceId };
  const state = await a.rooms.queries.state(room, asker);
  expect(state.map(({ event_id: id }) => id).sort()).toEqual(Object.values(await a.state(room)).sort());
  expect(Object.keys(await a.state(room)).length).toBe(Object.keys(before).length + 1);
  const { longest } = (await a.database.get<{ longest: number }>(
    `WITH RECURSIVE chain (id, length) AS (
       SELECT id, 1 FROM state_groups WHERE parent IS NULL
       UNION ALL SELECT g.id, chain.length + 1 FROM chain JOIN state_groups g ON g.parent = chain.id
     ) SELECT MAX(length) AS longest FROM chain`,
  ))!;
  expect(longest).toBeGreaterThan(1);
  expect(longest).toBeLessThanOrEqual(5);
});

it('answers a MatrixError where an operation fails', async () => {
  await expect(a.rooms.memberships.join(alice, '!unknown' as RoomId, {})).rejects.toBeInstanceOf(MatrixError);
});
