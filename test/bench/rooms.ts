import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemRandom } from '../../src/base/random.ts';
import { systemClock } from '../../src/base/time.ts';
import { nextTurn } from '../../src/base/turn.ts';
import { authDifference } from '../../src/homeserver/rooms/auth_difference.ts';
import { EventCache } from '../../src/homeserver/rooms/event_cache.ts';
import { RoomState } from '../../src/homeserver/rooms/room_state.ts';
import { Rooms } from '../../src/homeserver/rooms/rooms.ts';
import { StateStore } from '../../src/homeserver/rooms/state_store.ts';
import type { DeviceId, EventId, KeyId, RoomId, ServerName, UserId } from '../../src/matrix/ids.ts';
import { depthOf, type Event, type StateKey, stateKey } from '../../src/matrix/pdu.ts';
import { roomVersion } from '../../src/matrix/room_version.ts';
import { signEvent, signingKey } from '../../src/matrix/signing.ts';
import { putEvent } from '../../src/storage/events.ts';
import { migrate } from '../../src/storage/migrate.ts';
import { openSqlite, type SqliteDatabase } from '../../src/storage/sqlite.ts';
import { stateGroupEntry } from '../../src/storage/sync.ts';

/*
 * A room to which 50,000 users of another server come one after the other, each with a message behind it every tenth time:
 * how fast their events are authorised and stored, what they take on the disk, and how fast the state at any of them is
 * read, from the disk and in memory. Then a fork of 10,000 events in that room, resolved.
 */

const MESSAGES = 5_000;
const FORK = 10_000;
/** Events of a fork that are received, half of them on each side. */
const RECEIVED_FORK = 200;
const READS = 50;
/** How often what is read and resolved is measured. */
const RUNS = 5;
/** Statements of the yardstick. */
const YARDSTICK = 20_000;
/** The budgets: milliseconds for the state at an event with warm names, and at one place; bytes of state an event. */
const STATE_MS = 50;
const PLACE_MS = 5;
const STATE_BYTES = 100;

const BUDGETS = `the whole state at any event ${STATE_MS} ms, one place of it ${PLACE_MS} ms, ${STATE_BYTES} bytes a state event`;

const V12 = roomVersion('12')!;
const HERE = 'here.example' as ServerName;
const THERE = 'there.example' as ServerName;
const ADMIN = `@admin:${HERE}` as UserId;
const DEVICE = 'D' as DeviceId;

const key = (seed: number) => signingKey('ed25519:1' as KeyId, new Uint8Array(32).fill(seed));

function openRooms(database: SqliteDatabase): Rooms {
  const refused = (): never => {
    throw new Error('no other server is asked');
  };
  return new Rooms({
    ...{ database, clock: systemClock, random: systemRandom, serverName: HERE, signingKey: key(1) },
    remote: {
      join: refused,
      imported: refused,
      leave: refused,
      makeKnock: refused,
      sendKnock: refused,
      invite: refused,
    },
    outbox: { enqueue: async () => {} },
    notifier: { published: () => {} },
    profiles: { get: async () => undefined },
    localUserExists: async () => true,
  });
}

function made(
  room: RoomId,
  given: Pick<Event['pdu'], 'type' | 'sender' | 'content' | 'depth' | 'prev_events' | 'auth_events'> & {
    state_key?: string;
  },
): Event {
  return signEvent({ ...given, room_id: room, origin_server_ts: 1_700_000_000_000 }, V12, THERE, key(2));
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!;

async function timed(task: () => Promise<unknown>): Promise<number> {
  const start = systemClock.monotonic();
  await task();
  return systemClock.monotonic() - start;
}

/**
 * The median of several runs, in milliseconds and in yardsticks: a fixed piece of work of the same kind, done just before
 * each run, so that what a busy machine takes can be compared with what a quiet one does.
 */
async function repeated(
  database: SqliteDatabase,
  figures: Figures,
  name: string,
  run: (number: number) => Promise<number>,
): Promise<void> {
  const times: number[] = [];
  const ratios: number[] = [];
  for (let number = 0; number < RUNS; number++) {
    const yardstick = await timed(async () => {
      for (let at = 0; at < YARDSTICK; at++)
        await database.get('SELECT json FROM events WHERE id = ?', 1 + ((at * 7_919) % MESSAGES));
    });
    const ms = await run(number);
    times.push(ms);
    ratios.push((1_000 * ms) / yardstick);
  }
  figures[`ms for ${name}, median`] = median(times);
  figures[`  ${name}, thousandths of a yardstick`] = median(ratios);
}

const idOf = async (database: SqliteDatabase, type: string): Promise<EventId> =>
  (await database.get<{ id: EventId }>(
    'SELECT event_id AS id FROM events WHERE type = ? ORDER BY id DESC LIMIT 1',
    type,
  ))!.id;

/** A figure and what it is of. */
type Figures = Record<string, number>;

async function fill(
  rooms: Rooms,
  database: SqliteDatabase,
  members: number,
  figures: Figures,
): Promise<{ room: RoomId; joins: EventId[]; power: EventId; rules: EventId }> {
  const room = await rooms.create(ADMIN, { preset: 'public_chat', room_version: '12' });
  const power = await idOf(database, 'm.room.power_levels');
  const rules = await idOf(database, 'm.room.join_rules');
  const [before] = await rooms.forwardExtremities(room);
  let prev = before!;
  const first = (await rooms.writer.events.get(prev))!.event.pdu.depth as number;
  const events: Event[] = [];
  const joins: EventId[] = [];
  for (let at = 0; at < members; at++) {
    const sender = `@member${at}:${THERE}` as UserId;
    const join = made(room, {
      ...{
        type: 'm.room.member',
        state_key: sender,
        sender,
        content: { membership: 'join', displayname: `Member ${at}` },
      },
      ...{ depth: first + events.length + 1, prev_events: [prev], auth_events: [power, rules] },
    });
    joins.push(join.id);
    events.push(join);
    prev = join.id;
    if (at % 10 !== 9) continue;
    const said = made(room, {
      ...{ type: 'm.room.message', sender, content: { msgtype: 'm.text', body: `Here I am, number ${at}.` } },
      ...{ depth: first + events.length + 1, prev_events: [prev], auth_events: [power, join.id] },
    });
    events.push(said);
    prev = said.id;
  }
  const ms = await timed(async () => {
    for (const event of events) {
      const { kind } = await rooms.receive(event);
      if (kind !== 'accepted') throw new Error(`an event was ${kind}`);
    }
  });
  figures['events received, authorised and stored a second, no fsync'] = (events.length / ms) * 1_000;
  return { room, joins, power, rules };
}

async function say(rooms: Rooms, room: RoomId, figures: Figures): Promise<void> {
  const ms = await timed(async () => {
    for (let at = 0; at < MESSAGES; at++)
      await rooms.sending.send(
        room,
        'm.room.message',
        { body: `${at}` },
        { user: ADMIN, device: DEVICE, txnId: `${at}` },
      );
  });
  figures['messages sent a second in the full room'] = (MESSAGES / ms) * 1_000;
}

async function read(
  database: SqliteDatabase,
  joins: readonly EventId[],
  figures: Figures,
): Promise<StateStore> {
  const groups: number[] = [];
  for (let at = 0; at < READS; at++) {
    const id = joins[Math.floor(((at * 0.618) % 1) * joins.length)]!;
    groups.push(
      (await database.get<{ g: number }>('SELECT state_after AS g FROM events WHERE event_id = ?', id))!.g,
    );
  }
  const last = (await database.get<{ g: number }>('SELECT MAX(current_group) AS g FROM rooms'))!.g;
  const states = new StateStore(database, new EventCache(database));
  const { heapUsed: empty } = collected();
  figures['ms for the whole state, the first time'] = await timed(() => states.load(last));
  figures['MB of memory for it'] = (collected().heapUsed - empty) / 1e6;
  await repeated(database, figures, 'the whole state at any event', async (run) => {
    const ms: number[] = [];
    for (const group of groups.filter((_, at) => at % RUNS === run))
      ms.push(await timed(() => states.load(group)));
    return median(ms);
  });
  await repeated(database, figures, 'one place of it', async () => {
    const ms: number[] = [];
    for (const group of groups)
      ms.push(await timed(() => stateGroupEntry(database, group, 'm.room.join_rules', '')));
    return median(ms);
  });
  return states;
}

function collected(): NodeJS.MemoryUsage {
  globalThis.gc?.();
  return process.memoryUsage();
}

/** Two branches in which the same users set other things, on top of the last state. */
async function fork(
  database: SqliteDatabase,
  room: RoomId,
  { states, members }: { readonly states: StateStore; readonly members: number },
  figures: Figures,
): Promise<void> {
  const { g: group, row } = (await database.get<{ g: number; row: number }>(
    'SELECT current_group AS g, id AS row FROM rooms ORDER BY id DESC LIMIT 1',
  ))!;
  const start = await states.load(group);
  const power = start.get('m.room.power_levels', '')!;
  const sides: Map<StateKey, EventId>[] = [new Map(), new Map()];
  await database.transaction(async (tx) => {
    for (const [side, changes] of sides.entries()) {
      for (let at = 0; at < Math.min(FORK / 2, members); at++) {
        const sender = `@member${at}:${THERE}` as UserId;
        const event = made(room, {
          ...{
            type: 'm.room.member',
            state_key: sender,
            sender,
            content: { membership: 'join', displayname: `${side}` },
          },
          ...{
            depth: 100_000 + at,
            prev_events: [],
            auth_events: [power, start.get('m.room.member', sender)!],
          },
        });
        await putEvent(tx, row, event, null);
        changes.set(stateKey('m.room.member', sender), event.id);
      }
    }
  });
  const [one, other] = sides.map((changes) => RoomState.stored(new Map([...start.map, ...changes]), 0));
  await repeated(database, figures, 'the auth difference of the fork of 10,000 events', () =>
    timed(() => authDifference(database, [one!.map, other!.map], new Map())),
  );
  // As after a start: nothing of it is in memory.
  await repeated(database, figures, 'resolving it', () => {
    const fresh = new StateStore(database, new EventCache(database));
    return timed(() => fresh.resolve([one!, RoomState.complete(other!.map)], V12, new Map()));
  });
}

/**
 * A fork whose events come from another server, one side after the other, as `receive` takes them: each of the second side
 * makes the current state be resolved anew.
 */
async function receiveFork(
  rooms: Rooms,
  room: RoomId,
  { joins, power, rules }: { joins: readonly EventId[]; power: EventId; rules: EventId },
  figures: Figures,
): Promise<void> {
  const [base] = await rooms.forwardExtremities(room);
  const first = depthOf((await rooms.writer.events.get(base!))!.event.pdu);
  for (const side of ['first', 'second']) {
    let prev = base!;
    const ms: number[] = [];
    for (let at = 0; at < RECEIVED_FORK / 2; at++) {
      const sender = `@member${at}:${THERE}` as UserId;
      const event = made(room, {
        ...{ type: 'm.room.member', state_key: sender, sender },
        content: { membership: 'join', displayname: `${side} side` },
        ...{ depth: first + at + 1, prev_events: [prev], auth_events: [power, rules, joins[at]!] },
      });
      ms.push(
        await timed(async () => {
          const { kind } = await rooms.receive(event);
          if (kind !== 'accepted') throw new Error(`an event was ${kind}`);
        }),
      );
      prev = event.id;
    }
    figures[`ms for an event of the ${side} side of a fork that is received, median of ${ms.length}`] =
      median(ms);
  }
}

async function sizeOf(database: SqliteDatabase, path: string): Promise<number> {
  await database.transaction(async (tx) => tx.erasesSecrets());
  return statSync(path).size;
}

export async function run({
  json,
  events: members,
}: {
  readonly json: boolean;
  readonly events: number;
}): Promise<boolean> {
  const folder = mkdtempSync(join(tmpdir(), 'ravine-bench-'));
  try {
    const path = join(folder, 'ravine.db');
    migrate(path);
    const figures: Figures = {};
    const filling = openSqlite({ path, durability: 'off', gather: nextTurn });
    const filled = await fill(openRooms(filling), filling, members, figures);
    const { room, joins } = filled;
    await filling.close();
    const database = openSqlite({ path, durability: 'full', gather: nextTurn });
    await say(openRooms(database), room, figures);
    figures['MB of JavaScript memory afterwards'] = collected().heapUsed / 1e6;
    await database.transaction(async (tx) => tx.erasesSecrets());
    const { stored, json: text } = (await database.get<{ stored: number; json: number }>(
      'SELECT COUNT(*) AS stored, SUM(LENGTH(json)) AS json FROM events',
    ))!;
    const { bytes, groups } = (await database.get<{ bytes: number; groups: number }>(
      'SELECT SUM(LENGTH(entries)) AS bytes, COUNT(*) AS groups FROM state_groups',
    ))!;
    figures['bytes of historic state a state event'] = bytes / groups;
    figures['bytes of JSON an event'] = text / stored;
    const states = await read(database, joins, figures);
    await fork(database, room, { states, members }, figures);
    const bytesOnDisk = await sizeOf(database, path);
    await receiveFork(openRooms(database), room, filled, figures);
    await database.close();
    figures['bytes of disk an event, all tables'] = bytesOnDisk / (stored + FORK);
    const kept =
      figures['ms for the whole state at any event, median']! <= STATE_MS &&
      figures['ms for one place of it, median']! <= PLACE_MS &&
      figures['bytes of historic state a state event']! <= STATE_BYTES;
    if (json) process.stdout.write(`${JSON.stringify({ kept, members, ...figures })}\n`);
    else {
      const rows = Object.entries(figures).map(
        ([name, value]) => `${name.padEnd(84)} ${value.toFixed(value < 10 ? 2 : 0).padStart(10)}`,
      );
      process.stdout.write(
        `${rows.join('\n')}\n${kept ? 'All budgets are kept' : 'Over budget'}: ${BUDGETS}.\n`,
      );
    }
    return kept;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
