import { join } from 'node:path';
import Connection from 'better-sqlite3';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { parseRoomEventFilter } from '../../src/homeserver/filter_events.ts';
import { Messages } from '../../src/homeserver/messages.ts';
import { Rooms } from '../../src/homeserver/rooms/rooms.ts';
import type { DeviceId, EventId, RoomId, UserId } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import { PurgeError, type PurgePoint, purgeRoom } from '../../src/storage/purge.ts';
import { openSqlite, type SqliteDatabase } from '../../src/storage/sqlite.ts';
import { stateGroupState } from '../../src/storage/sync.ts';
import { sharedRoom } from '../homeserver/rooms/shared_room.ts';
import type { Server, World } from '../homeserver/rooms/world.ts';
import { temporaryFolder } from './temporary_database.ts';

let world: World;
let a: Server;
let b: Server;
let alice: UserId;
let bob: UserId;
let gone: UserId;
let room: RoomId;
/** In the order in which they were sent. */
let said: EventId[];

beforeEach(async () => {
  ({ world, a, b, alice, bob, gone, room } = await sharedRoom());
  said = [];
  for (let n = 0; n < 20; n++) {
    said.push(await a.say(alice, room, `a${n}`));
    // The name stays authorised by the power levels before these.
    if (n === 2) await a.rooms.setState(room, alice, 'm.room.power_levels', '', { users: { [bob]: 10 } });
    if (n === 4) await a.rooms.memberships.leave(gone, room);
    if (n % 3 === 0) await a.rooms.setState(room, alice, 'm.room.topic', '', { topic: `${n}` });
    if (n % 5 === 0) {
      await b.say(bob, room, `b${n}`);
      await world.settle();
    }
  }
  await world.settle();
});

/** A copy of what the server has, which nobody has open. */
async function copyOf(server: Server): Promise<string> {
  const [{ file }] = (await server.database.all<{ file: string }>('PRAGMA database_list')) as [
    { file: string },
  ];
  const path = join(temporaryFolder(), 'copy.db');
  const connection = new Connection(file, { readonly: true });
  connection.exec(`VACUUM INTO '${path}'`);
  connection.close();
  return path;
}

function opened(path: string): SqliteDatabase {
  const database = openSqlite({ path, durability: 'off' });
  onTestFinished(() => database.close());
  return database;
}

const roomsOn = (database: SqliteDatabase): Rooms =>
  new Rooms({
    ...{ database, clock: world.clock, random: seededRandom(1), serverName: a.name, signingKey: a.key },
    remote: {
      join: () => Promise.reject(new Error('not asked')),
      imported: async () => {},
      leave: () => Promise.reject(new Error('not asked')),
      makeKnock: () => Promise.reject(new Error('not asked')),
      sendKnock: () => Promise.reject(new Error('not asked')),
      invite: () => Promise.reject(new Error('not asked')),
    },
    outbox: { enqueue: async () => {} },
    notifier: { published: () => {} },
    profiles: { get: async () => undefined },
    localUserExists: async () => true,
  });

const phone = (user: UserId) => ({ user, device: 'PHONE' as DeviceId });

/** Everything that paging back shows, the oldest first. */
async function pagedBack(database: SqliteDatabase, user: UserId): Promise<string[]> {
  const messages = new Messages({ reader: database, clock: world.clock });
  const filter = parseRoomEventFilter({});
  if (!filter.ok) throw new Error(filter.problem);
  const found: string[] = [];
  for (let from: string | undefined; ; ) {
    const request = { requester: phone(user), room, dir: 'b', limit: 4, filter: filter.value } as const;
    const page = await messages.messages(from === undefined ? request : { ...request, from });
    found.unshift(...(page.chunk as JsonObject[]).map((event) => event.event_id as string).reverse());
    if (page.end === undefined) return found;
    from = page.end as string;
  }
}

const timelineOf = (
  database: SqliteDatabase,
): Promise<{ id: EventId; before: number; after: number; position: number }[]> =>
  database.all(
    `SELECT event_id AS id, state_before AS "before", state_after AS "after", position FROM events
     WHERE position IS NOT NULL AND status = 'timeline' ORDER BY position`,
  );

async function statesOf(
  database: SqliteDatabase,
  events: readonly { before: number; after: number }[],
): Promise<string[][]> {
  const states: string[][] = [];
  for (const { before, after } of events) {
    for (const group of [before, after])
      states.push((await stateGroupState(database, group, true)).map((event) => event.event_id).sort());
  }
  return states;
}

describe('purging a room before an event', () => {
  it('leaves what came from there on, with its states and their authorisation, and nothing else of the timeline', async () => {
    const cut = said[12]!;
    const before = await timelineOf(a.database);
    const left = before.slice(before.findIndex(({ id }) => id === cut));
    const statesBefore = await statesOf(a.database, left);
    const chainBefore = (await a.rooms.stateIds(room, said[15]!, a.name)).authChain;
    const stateBefore = await a.rooms.queries.state(room, phone(alice));

    const path = await copyOf(a);
    const purged = purgeRoom(path, room, { event: cut });
    const database = opened(path);
    expect(purged.removed).toBeGreaterThan(10);
    expect(purged.kept).toBeGreaterThan(5);
    expect((await timelineOf(database)).map(({ id }) => id)).toEqual(left.map(({ id }) => id));
    expect(await statesOf(database, left)).toEqual(statesBefore);
    const rooms = roomsOn(database);
    expect(await rooms.queries.state(room, phone(alice))).toEqual(stateBefore);
    expect([...(await rooms.stateIds(room, said[15]!, a.name)).authChain].sort()).toEqual(
      [...chainBefore].sort(),
    );
    expect(await rooms.event(said[3]!, a.name)).toBeUndefined();
    expect((await rooms.event(said[15]!, a.name))?.id).toBe(said[15]);
    const request = { earliest: [], latest: [said[14]!], limit: 100, minDepth: 0 };
    const missing = (await rooms.missingEvents(room, request, a.name)).map(({ id }) => id);
    expect(missing).toContain(said[13]);
    expect(missing).not.toContain(said[11]);
  });

  it('lets paging end where the history does, and the room goes on with the others', async () => {
    const path = await copyOf(a);
    purgeRoom(path, room, { event: said[12]! });
    const database = opened(path);
    const left = (await timelineOf(database)).map(({ id }) => id);
    expect(await pagedBack(database, alice)).toEqual(left);
    const rooms = roomsOn(database);
    await rooms.sending.send(room, 'm.room.message', { body: 'on' }, { ...phone(alice), txnId: 'x' });
    await b.say(bob, room, 'still here');
    const { event } = world.queue.at(-1)!;
    expect(await rooms.receive(event)).toEqual({ kind: 'accepted' });
    expect(await rooms.forwardExtremities(room)).toHaveLength(2);
  });

  it('lets who has left before read the state as it was then', async () => {
    const stateBefore = await a.rooms.queries.state(room, phone(gone));
    const path = await copyOf(a);
    purgeRoom(path, room, { event: said[12]! });
    expect(await roomsOn(opened(path)).queries.state(room, phone(gone))).toEqual(stateBefore);
  });

  it('keeps what authorises the state, though it is in no state any more', async () => {
    await a.rooms.memberships.join(gone, room, {});
    await a.rooms.setState(room, alice, 'm.room.power_levels', '', { users: { [bob]: 20 } });
    for (let n = 0; n < 40; n++) await a.rooms.setState(room, alice, 'x', `${n}`, {});
    const last = await a.say(alice, room, 'last');
    const { state, authChain } = await a.rooms.stateIds(room, last, a.name);
    const path = await copyOf(a);
    purgeRoom(path, room, { event: last });
    const after = await roomsOn(opened(path)).stateIds(room, last, a.name);
    expect([...after.state].sort()).toEqual([...state].sort());
    expect([...after.authChain].sort()).toEqual([...authChain].sort());
  });

  it('takes what has gone for late where it comes once more: it is no end of the room', async () => {
    const { event } = await a.stored(said[3]!);
    const state = await a.stateBefore(event, a);
    const path = await copyOf(a);
    purgeRoom(path, room, { event: said[12]! });
    const rooms = roomsOn(opened(path));
    const ends = await rooms.forwardExtremities(room);
    expect(await rooms.receive(event, state)).toEqual({ kind: 'accepted' });
    expect(await rooms.forwardExtremities(room)).toEqual(ends);
  });

  it('leaves no row that names one that is gone', async () => {
    const path = await copyOf(a);
    purgeRoom(path, room, { event: said[18]! }, { shrink: true });
    const database = opened(path);
    const dangling = (sql: string): Promise<unknown[]> => database.all(sql);
    for (const [table, column] of [
      ['event_prev', 'prev'],
      ['event_prev', 'event'],
      ['unknown_prev', 'event'],
      ['event_auth', 'event'],
      ['event_auth', 'auth'],
      ['current_state', 'event'],
      ['current_state_changes', 'event'],
      ['forward_extremities', 'event'],
      ['redactions', 'redaction'],
    ]) {
      const sql = `SELECT * FROM ${table} WHERE ${column} IS NOT NULL AND ${column} NOT IN (SELECT id FROM events)`;
      expect(await dangling(sql), `${table}.${column}`).toEqual([]);
    }
    expect(
      await dangling(
        `SELECT 1 FROM state_groups WHERE parent IS NOT NULL AND parent NOT IN (SELECT id FROM state_groups)
         UNION ALL SELECT 1 FROM events WHERE state_after IS NOT NULL AND state_after NOT IN (SELECT id FROM state_groups)`,
      ),
    ).toEqual([]);
    expect(await dangling("SELECT 1 FROM events WHERE status = 'outlier' AND position IS NOT NULL")).toEqual(
      [],
    );
    for (const { after } of await timelineOf(database)) {
      const rows = await stateGroupState(database, after, true);
      expect(rows.map(({ type }) => type)).toContain('m.room.create');
    }
  });

  it('tells what it would do, and does nothing', async () => {
    const path = await copyOf(a);
    const would = purgeRoom(path, room, { event: said[12]! }, { dryRun: true });
    expect(await timelineOf(opened(path))).toEqual(await timelineOf(a.database));
    expect(would).toEqual(purgeRoom(await copyOf(a), room, { event: said[12]! }));
  });

  it('refuses what is no point of the room, and a database that is in use', async () => {
    const path = await copyOf(a);
    const refused = (of: RoomId, point: PurgePoint): void =>
      expect(() => purgeRoom(path, of, point)).toThrow(PurgeError);
    refused('!other' as RoomId, { event: said[12]! });
    refused(room, { event: '$none' as EventId });
    refused(room, { sentFrom: 1e15 });
    const database = opened(path);
    await database.all('SELECT 1');
    refused(room, { event: said[12]! });
  });

  it('takes an instant for the first event from then on, so that late news with an old date spares what came before', async () => {
    const path = await copyOf(a);
    const { at } = (await a.database.get<{ at: number }>(
      'SELECT origin_server_ts AS at FROM events WHERE event_id = ?',
      said[12]!,
    ))!;
    purgeRoom(path, room, { sentFrom: at });
    const [first] = await timelineOf(opened(path));
    expect(first!.id).toBe(said[12]);
  });
});
