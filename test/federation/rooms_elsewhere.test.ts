import { beforeEach, describe, expect, it } from 'vitest';
import type { FederationCall } from '../../src/federation/transport.ts';
import { wholeFilter } from '../../src/homeserver/messages.ts';
import type { DeviceId, RoomId, ServerName, UserId } from '../../src/matrix/ids.ts';
import type { JsonObject, JsonValue } from '../../src/matrix/json.ts';
import { setPublished } from '../../src/storage/aliases.ts';
import { A, B, C, HOUR, testKey } from './fixtures.ts';
import { Network, openSide, type Side } from './sides.ts';

/* Rooms of alice on A, of which bob on B wants to know without being in them. */

let network: Network;
let a: Side;
let b: Side;

const until = <T>(outcome: Promise<T>): Promise<T> => network.time.until(outcome, HOUR);
const HIERARCHY = '/_matrix/federation/v1/hierarchy/';
const AT_TIME = '/_matrix/federation/v1/timestamp_to_event/';

beforeEach(async () => {
  network = new Network();
  a = await openSide(network, A, testKey(1), 1);
  b = await openSide(network, B, testKey(2), 2);
});

const open = (options: JsonObject = {}): Promise<RoomId> =>
  until(a.rooms.create(a.user('alice'), { preset: 'public_chat', ...options }));
const space = (options: JsonObject = {}): Promise<RoomId> =>
  open({ creation_content: { type: 'm.space' }, ...options });
const add = (to: RoomId, child: RoomId, content: JsonObject = {}) =>
  until(a.rooms.setState(to, a.user('alice'), 'm.space.child', child, { via: [A], ...content }));
const restricted = (to: RoomId): JsonObject => ({
  type: 'm.room.join_rules',
  content: { join_rule: 'restricted', allow: [{ type: 'm.room_membership', room_id: to }] },
});

/** Answers of A to B whose path has `part` go through `change`. */
function changed(part: string, change: (body: JsonObject) => JsonValue): void {
  const request = b.transport.request.bind(b.transport);
  b.transport.request = async (to: ServerName, call: FederationCall, kind) => {
    const answer = await request(to, call, kind);
    return call.path.includes(part) ? { ...answer, body: change(answer.body as JsonObject) } : answer;
  };
}

describe('a space of another server', () => {
  const tell = async (room: RoomId, user: UserId = b.user('bob')): Promise<unknown[]> => {
    const { rooms } = await until(b.hierarchy.page({ user, room }));
    return (rooms as JsonObject[]).map(({ room_id: id }) => id);
  };

  /** A space of bob's own that has the other one in it. */
  const own = async (child: RoomId, via: ServerName[] = [A]): Promise<RoomId> => {
    const room = await until(
      b.rooms.create(b.user('bob'), { creation_content: { type: 'm.space' }, preset: 'private_chat' }),
    );
    await until(b.rooms.setState(room, b.user('bob'), 'm.space.child', child, { via }));
    return room;
  };

  it('is told with what bob could join of it, and asked for once in a while', async () => {
    const [room, closed] = [await open(), await until(a.rooms.create(a.user('alice'), {}))];
    const deeper = await space();
    const outer = await space();
    const deep = await open();
    await add(outer, room, { order: 'a' });
    await add(outer, deeper, { order: 'b' });
    await add(outer, closed, { order: 'c' });
    await add(deeper, deep);
    await add(deeper, outer);
    const mine = await own(outer);
    expect(await tell(mine)).toEqual([mine, outer, room, deeper, deep]);
    // What the space has told of its rooms is enough.
    expect(network.count(B, A, HIERARCHY)).toBe(2);
    await tell(mine);
    expect(network.count(B, A, HIERARCHY)).toBe(2);
    await network.time.pass(6 * 60_000);
    await tell(mine);
    expect(network.count(B, A, HIERARCHY)).toBe(4);
    const { rooms } = await until(b.hierarchy.page({ user: b.user('bob'), room: mine, suggestedOnly: true }));
    expect(rooms).toHaveLength(1);
  });

  it('shows a restricted room to whom it admits, as this server knows and not as that one says', async () => {
    const club = await open();
    await until(b.rooms.memberships.join(b.user('bob'), club, { via: [A] }));
    await network.time.pass(1_000);
    const forMembers = await open({ initial_state: [restricted(club)] });
    const outer = await space();
    await add(outer, forMembers);
    const mine = await own(outer);
    await until(b.rooms.memberships.invite(b.user('bob'), mine, b.user('carol')));
    await until(b.rooms.memberships.join(b.user('carol'), mine, {}));
    expect(await tell(mine)).toEqual([mine, outer, forMembers]);
    expect(await tell(mine, b.user('carol'))).toEqual([mine, outer]);
  });

  it('is asked of the next server where one is away, and left out where all are', async () => {
    const outer = await space();
    const mine = await own(outer, [C, A]);
    expect(await tell(mine)).toEqual([mine, outer]);
    network.passes = () => false;
    await network.time.pass(6 * 60_000);
    expect(await tell(mine)).toEqual([mine]);
  });

  it.each<[string, (body: JsonObject, other: RoomId) => JsonValue]>([
    ['nothing', () => []],
    ['another room', (body, other) => ({ ...body, room: { ...(body.room as JsonObject), room_id: other } })],
    ['no room', (body) => ({ ...body, room: 7 })],
  ])('is left out where its server tells %s', async (_, change) => {
    const [outer, other] = [await space(), await open()];
    changed(HIERARCHY, (body) => change(body, other));
    const mine = await own(outer);
    expect(await tell(mine)).toEqual([mine]);
  });

  it('tells nothing of a room that is here but what is known here, whatever is told of it', async () => {
    const outer = await space();
    const secret = await until(b.rooms.create(b.user('dora'), {}));
    await add(outer, secret, { via: [B] });
    changed(HIERARCHY, (body) => ({
      ...body,
      children: [
        { room_id: secret, name: 'Open', join_rule: 'public', world_readable: true, num_joined_members: 1 },
      ],
    }));
    expect(await tell(await own(outer))).not.toContain(secret);
  });
});

describe('the summary of a room of another server', () => {
  it('is told to who could join it, and of an invite what came with it', async () => {
    const room = await open({ name: 'Tea' });
    const bob = b.user('bob');
    await expect(until(b.summaries.summary(room, bob))).rejects.toMatchObject({ errcode: 'M_NOT_FOUND' });
    expect(await until(b.summaries.summary(room, bob, [A]))).toMatchObject({
      ...{ room_id: room, name: 'Tea', join_rule: 'public', num_joined_members: 1, room_version: '12' },
    });
    const closed = await until(a.rooms.create(a.user('alice'), { name: 'Closed' }));
    await expect(until(b.summaries.summary(closed, bob, [A]))).rejects.toMatchObject({ status: 404 });
    await until(a.rooms.memberships.invite(a.user('alice'), closed, bob));
    expect(await until(b.summaries.summary(closed, bob))).toMatchObject({
      name: 'Closed',
      membership: 'invite',
    });
    await network.time.pass(2 * 60_000);
    expect(await until(b.summaries.summary(closed, bob, [A]))).toMatchObject({
      name: 'Closed',
      membership: 'invite',
    });
    await expect(until(b.summaries.summary(closed, b.user('carol'), [A]))).rejects.toMatchObject({
      status: 404,
    });
  });
});

describe('the room directory of another server', () => {
  const listed = async (name: string): Promise<RoomId> => {
    const room = await open({ name });
    await a.database.transaction((tx) => setPublished(tx, room, true));
    return room;
  };

  it('is paged through and searched', async () => {
    const rooms = [await listed('Tea'), await listed('Coffee'), await listed('Tea again')];
    const found: unknown[] = [];
    let since: string | undefined;
    for (let page = 0; page < 3; page++) {
      const answer = await until(b.directory.publicRoomsOf(A, { limit: 1, since }));
      found.push(...(answer.chunk as JsonObject[]).map(({ room_id: id }) => id));
      since = answer.next_batch as string | undefined;
    }
    expect([found.toSorted(), since]).toEqual([rooms.toSorted(), undefined]);
    const teas = await until(b.directory.publicRoomsOf(A, { filter: { generic_search_term: 'tea' } }));
    expect((teas.chunk as JsonObject[]).map(({ name }) => name).toSorted()).toEqual(['Tea', 'Tea again']);
  });

  it('is told as far as it is one', async () => {
    const room = await listed('Tea');
    changed('publicRooms', (body) => ({
      ...body,
      chunk: [...(body.chunk as JsonObject[]), { room_id: 'tea' }, 7, { name: 'x' }],
      next_batch: { a: 1 },
      secret: 'x',
    }));
    const answer = await until(b.directory.publicRoomsOf(A, {}));
    expect(answer).toEqual({
      chunk: [expect.objectContaining({ room_id: room, name: 'Tea' })],
      total_room_count_estimate: 1,
    });
    changed('publicRooms', () => ({ chunk: 'none' }));
    await expect(until(b.directory.publicRoomsOf(A, {}))).rejects.toMatchObject({ status: 502 });
    network.passes = () => false;
    await expect(until(b.directory.publicRoomsOf(A, {}))).rejects.toMatchObject({ status: 502 });
  });
});

describe('an event by its time, of a past that is not here', () => {
  const bob = () => ({ user: b.user('bob'), device: 'D' as DeviceId });
  const closest = (room: RoomId, time: number, dir: 'b' | 'f') =>
    until(b.history.closest({ requester: bob(), room, time, dir }));

  /** A room in which alice says something each minute, twenty times; then bob comes. */
  async function diary(options: JsonObject = {}) {
    const room = await open(options);
    const said: { readonly id: string; readonly at: number }[] = [];
    for (let i = 0; i < 20; i++) {
      await network.time.pass(60_000);
      const at = network.time.clock.wall();
      said.push({ id: await until(a.say(a.user('alice'), room, `minute ${i}`)), at });
    }
    await network.time.pass(60_000);
    await until(b.rooms.memberships.join(b.user('bob'), room, { via: [A] }));
    await network.time.pass(1_000);
    return { room, said };
  }

  it('is found there, can be read here, and paging back from it leads to the beginning', async () => {
    const { room, said } = await diary();
    const fifth = said[5]!;
    expect(await closest(room, fifth.at + 1, 'b')).toEqual({
      event_id: fifth.id,
      origin_server_ts: fifth.at,
    });
    expect(await closest(room, fifth.at + 1, 'f')).toMatchObject({ event_id: said[6]!.id });
    const state = await b.database.get('SELECT position FROM stream');
    const filter = wholeFilter();
    const { start, event } = await until(
      b.history.context({ requester: bob(), room, event: fifth.id as never, limit: 2, filter }),
    );
    expect(event).toMatchObject({ content: { body: 'minute 5' } });
    const bodies: unknown[] = [];
    for (let from: unknown = start; from !== undefined; ) {
      const page = await until(
        b.history.messages({ requester: bob(), room, dir: 'b', limit: 5, filter, from: String(from) }),
      );
      bodies.push(
        ...(page.chunk as JsonObject[]).map(({ content }) => (content as JsonObject).body ?? 'state'),
      );
      from = page.end;
    }
    expect(bodies.filter((body) => body !== 'state').slice(-4)).toEqual(
      [3, 2, 1, 0].map((minute) => `minute ${minute}`),
    );
    expect(new Set(bodies.filter((body) => body !== 'state')).size).toBe(
      bodies.filter((body) => body !== 'state').length,
    );
    expect(await b.database.get('SELECT position FROM stream')).toEqual(state);
  });

  it('leaves the way from now back whole', async () => {
    const { room, said } = await diary();
    await closest(room, said[5]!.at, 'b');
    const filter = wholeFilter();
    const bodies: unknown[] = [];
    for (let from: string | undefined, page = 0; page < 50; page++) {
      const answer = await until(
        b.history.messages({ requester: bob(), room, dir: 'b', limit: 3, filter, from }),
      );
      bodies.push(
        ...(answer.chunk as JsonObject[]).flatMap(({ content }) => (content as JsonObject).body ?? []),
      );
      from = answer.end as string | undefined;
      if (from === undefined) break;
    }
    expect(bodies).toEqual(Array.from({ length: 20 }, (_, i) => `minute ${19 - i}`));
  });

  it.each<[string, (body: JsonObject, later: string) => JsonValue]>([
    ['no event', () => ({})],
    ['one that is not there', (body) => ({ ...body, event_id: '$nowhere' })],
    ['one on the other side', (body, later) => ({ ...body, event_id: later })],
  ])('is the one that is here where that server tells %s', async (_, change) => {
    const { room, said } = await diary();
    changed(AT_TIME, (body) => change(body, said[9]!.id));
    await expect(closest(room, said[5]!.at, 'b')).rejects.toMatchObject({
      status: 404,
      errcode: 'M_NOT_FOUND',
    });
  });

  it('is not taken from what is yet to come, which comes as all events do', async () => {
    const { room, said } = await diary();
    network.passes = (from) => from === B;
    const next = await until(a.say(a.user('alice'), room, 'next'));
    changed(AT_TIME, (body) => ({ ...body, event_id: next }));
    const filter = { requester: bob(), room, time: said[5]!.at, dir: 'f' } as const;
    expect((await until(b.history.closest(filter))).event_id).not.toBe(next);
    expect([...(await b.rooms.known([next]))]).toEqual([]);
    network.passes = () => true;
    await network.time.pass(2 * HOUR);
    expect(await b.messages()).toEqual(['next']);
  });

  it('has what lies before it brought, where what lies behind it is withheld', async () => {
    const { room, said } = await diary();
    expect(await closest(room, said[15]!.at, 'b')).toMatchObject({ event_id: said[15]!.id });
    const [last] = (await b.rooms.event(await joinOf(room), B))!.pdu.prev_events;
    expect(last).toBe(said[19]!.id);
    // As many as it is asked for, and never this one.
    changed('/backfill/', (body) => ({
      ...body,
      pdus: (body.pdus as JsonObject[])
        .filter(({ content }) => (content as JsonObject).body !== 'minute 19')
        .slice(0, 5),
    }));
    const bodies: unknown[] = [];
    for (let from: string | undefined, page = 0; page < 50; page++) {
      const request = { requester: bob(), room, dir: 'b', limit: 10, filter: wholeFilter(), from } as const;
      const answer = await until(b.history.messages(request));
      bodies.push(
        ...(answer.chunk as JsonObject[]).flatMap(({ content }) => (content as JsonObject).body ?? []),
      );
      from = answer.end as string | undefined;
      if (from === undefined) break;
    }
    expect(bodies).toEqual(Array.from({ length: 16 }, (_, i) => `minute ${15 - i}`));
  });

  const joinOf = async (room: RoomId) =>
    (await b.rooms.queries.currentEvent(room, 'm.room.member', b.user('bob')))!.id;

  it('is not one that bob may not see', async () => {
    const hidden = { type: 'm.room.history_visibility', content: { history_visibility: 'joined' } };
    const { room, said } = await diary({ initial_state: [hidden] });
    // A lies: it may not tell, and B judges by itself.
    changed(AT_TIME, () => ({ event_id: said[5]!.id, origin_server_ts: said[5]!.at }));
    await expect(closest(room, said[5]!.at, 'b')).rejects.toMatchObject({ status: 404 });
  });
});
