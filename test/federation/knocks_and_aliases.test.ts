import { beforeEach, describe, expect, it } from 'vitest';
import { FederationRemoteDirectory } from '../../src/federation/remote_directory.ts';
import { parseRoomAlias, type RoomAlias, type RoomId } from '../../src/matrix/ids.ts';
import { membershipOf, strippedStateOf } from '../../src/storage/memberships.ts';
import { A, B, HOUR, testKey } from './fixtures.ts';
import { Network, openSide, type Side } from './sides.ts';

let network: Network;
let a: Side;
let b: Side;

const until = <T>(outcome: Promise<T>): Promise<T> => network.time.until(outcome, HOUR);
const alias = (text: string): RoomAlias => {
  const parsed = parseRoomAlias(text);
  if (!parsed.ok) throw new Error(parsed.problem);
  return parsed.value;
};

beforeEach(async () => {
  network = new Network();
  a = await openSide(network, A, testKey(1), 1);
  b = await openSide(network, B, testKey(2), 2);
});

const memberIn = async (side: Side, room: RoomId): Promise<string | undefined> =>
  (await membershipOf(side.database, room, b.user('bob')))?.membership;

/** Bob of B knocks on a room of A. */
async function knocked(version = '12'): Promise<RoomId> {
  const rules = { type: 'm.room.join_rules', content: { join_rule: 'knock' } };
  const room = await until(
    a.rooms.create(a.user('alice'), { room_version: version, name: 'Tea', initial_state: [rules] }),
  );
  await until(b.rooms.memberships.knock(b.user('bob'), room, { via: [A], reason: 'please' }));
  return room;
}

describe('knocking on a room of another server', () => {
  it.each(['7', '10', '12'])(
    'is known there and here in version %s, with what tells the room',
    async (version) => {
      const room = await knocked(version);
      expect([await memberIn(a, room), await memberIn(b, room)]).toEqual(['knock', 'knock']);
      const current = await a.rooms.queries.currentEvent(room, 'm.room.member', b.user('bob'));
      expect(current?.pdu.content).toMatchObject({ membership: 'knock', reason: 'please' });
      const state = await strippedStateOf(b.database, room, b.user('bob'));
      expect(state?.map(({ type }) => type)).toEqual(
        expect.arrayContaining(['m.room.create', 'm.room.name', 'm.room.join_rules']),
      );
      expect(state?.every((event) => Object.keys(event).length === 4)).toBe(true);
    },
  );

  it('is answered with an invite, which leads in', async () => {
    const room = await knocked();
    await until(a.rooms.memberships.invite(a.user('alice'), room, b.user('bob')));
    expect(await memberIn(b, room)).toBe('invite');
    await until(b.rooms.memberships.join(b.user('bob'), room, {}));
    expect([await memberIn(a, room), await memberIn(b, room)]).toEqual(['join', 'join']);
  });

  it('is taken back', async () => {
    const room = await knocked();
    await until(b.rooms.memberships.leave(b.user('bob'), room));
    expect([await memberIn(a, room), await memberIn(b, room)]).toEqual(['leave', 'leave']);
  });

  it('is turned down', async () => {
    const room = await knocked();
    await until(a.rooms.memberships.kick(a.user('alice'), room, b.user('bob'), 'no'));
    await network.time.pass(1_000);
    expect([await memberIn(a, room), await memberIn(b, room)]).toEqual(['leave', 'leave']);
  });

  it('is refused as that server refuses it', async () => {
    const room = await until(a.rooms.create(a.user('alice'), {}));
    const knock = () => until(b.rooms.memberships.knock(b.user('bob'), room, { via: [A] }));
    await expect(knock()).rejects.toMatchObject({ status: 403, errcode: 'M_FORBIDDEN' });
    await until(a.rooms.memberships.ban(a.user('alice'), room, b.user('bob')));
    await expect(knock()).rejects.toMatchObject({ status: 403, errcode: 'M_FORBIDDEN' });
    const old = await until(a.rooms.create(a.user('alice'), { room_version: '6' }));
    const onOld = until(b.rooms.memberships.knock(b.user('bob'), old, { via: [A] }));
    await expect(onOld).rejects.toMatchObject({ status: 400, errcode: 'M_INCOMPATIBLE_ROOM_VERSION' });
  });

  it.each([
    ['an event that is no knock', { content: { membership: 'join' } }],
    ['somebody else', { state_key: '@carol:b.example' }],
    ['another type', { type: 'm.room.name' }],
  ])('is not done with %s', async (_, change) => {
    const room = await knocked();
    const { transport } = b;
    const made = await until(
      transport.request(A, {
        method: 'GET',
        path: `/_matrix/federation/v1/make_leave/${encodeURIComponent(room)}/${encodeURIComponent(b.user('bob'))}`,
        timeoutMs: 1_000,
        priority: 2,
      }),
    );
    const { event } = made.body as { event: object };
    const sent = transport.request(A, {
      method: 'PUT',
      path: `/_matrix/federation/v1/send_knock/${encodeURIComponent(room)}/${encodeURIComponent('$x')}`,
      body: { ...event, content: { membership: 'knock' }, ...change },
      timeoutMs: 1_000,
      priority: 2,
    });
    await expect(until(sent)).rejects.toMatchObject({ status: 400, errcode: 'M_INVALID_PARAM' });
  });
});

describe('aliases of another server', () => {
  it('lead to the room and to servers that are in it', async () => {
    const room = await until(
      a.rooms.create(a.user('alice'), { preset: 'public_chat', room_alias_name: 'tea' }),
    );
    const tea = alias(`#tea:${A}`);
    const found = await until(b.directory.resolve(tea));
    expect(found).toEqual({ room, servers: [A] });
    await until(b.rooms.memberships.join(b.user('bob'), found.room, { via: found.servers }));
    expect((await until(b.directory.resolve(tea))).servers).toEqual([A, B]);
    // Bob's room may call itself so only if it is the room that A says.
    const other = await until(b.rooms.create(b.user('bob'), {}));
    const set = b.rooms.setState(other, b.user('bob'), 'm.room.canonical_alias', '', { alias: tea });
    await expect(until(set)).rejects.toMatchObject({ errcode: 'M_BAD_ALIAS' });
  });

  it('are asked for once, however many ask at once', async () => {
    const room = await until(a.rooms.create(a.user('alice'), { room_alias_name: 'tea' }));
    const tea = alias(`#tea:${A}`);
    const before = network.calls.length;
    const found = await until(Promise.all([b.directory.resolve(tea), b.directory.resolve(tea)]));
    expect(found.map((each) => each.room)).toEqual([room, room]);
    expect(network.calls.length - before).toBe(1);
  });

  it('that are not there are not found, and a server that does not answer is not waited for', async () => {
    await expect(until(b.directory.resolve(alias(`#none:${A}`)))).rejects.toMatchObject({
      status: 404,
      errcode: 'M_NOT_FOUND',
    });
    network.passes = () => false;
    await expect(until(b.directory.resolve(alias(`#tea:${A}`)))).rejects.toMatchObject({ status: 502 });
  });

  it.each([
    ['', 400, 'M_MISSING_PARAM'],
    ['room_alias=tea', 400, 'M_INVALID_PARAM'],
    [`room_alias=${encodeURIComponent('#tea:c.example')}`, 400, 'M_INVALID_PARAM'],
  ])('are asked for properly: %j', async (query, status, errcode) => {
    const path = '/_matrix/federation/v1/query/directory';
    const asked = b.transport.request(A, { method: 'GET', path, query, timeoutMs: 1_000, priority: 2 });
    await expect(until(asked)).rejects.toMatchObject({ status, errcode });
  });
});

describe('profiles of another server', () => {
  it('are asked for once, and not there where that server knows nobody', async () => {
    const remote = new FederationRemoteDirectory({ transport: b.transport });
    const before = network.calls.length;
    const twice = Promise.all([remote.profile(a.user('alice')), remote.profile(a.user('alice'))]);
    expect(await until(twice)).toEqual([{ displayname: 'Somebody' }, { displayname: 'Somebody' }]);
    expect(network.calls.length - before).toBe(1);
    await expect(until(remote.profile(a.user('nobody')))).rejects.toMatchObject({
      status: 404,
      errcode: 'M_NOT_FOUND',
    });
    network.passes = () => false;
    await expect(until(remote.profile(a.user('alice')))).rejects.toMatchObject({ status: 502 });
  });
});
