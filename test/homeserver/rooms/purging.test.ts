import { join } from 'node:path';
import Connection from 'better-sqlite3';
import { beforeEach, describe, expect, it } from 'vitest';
import { type Random, seededRandom } from '../../../src/base/random.ts';
import { Purging } from '../../../src/homeserver/rooms/purging.ts';
import type { EventId, RoomId, UserId } from '../../../src/matrix/ids.ts';
import { depthOf } from '../../../src/matrix/pdu.ts';
import { purgeRoom } from '../../../src/storage/purge.ts';
import { askForPurge, endPurge, purgeOf } from '../../../src/storage/purges.ts';
import { stateGroupState } from '../../../src/storage/sync.ts';
import { temporaryFolder } from '../../storage/temporary_database.ts';
import { sharedRoom } from './shared_room.ts';
import type { Server, World } from './world.ts';

const log = { info: () => {}, warn: () => {} };

let world: World;
let a: Server;
let b: Server;
let alice: UserId;
let bob: UserId;
let gone: UserId;
let room: RoomId;
let said: EventId[];

beforeEach(async () => {
  ({ world, a, b, alice, bob, gone, room } = await sharedRoom());
  const early = a.user('early');
  await a.database.transaction((tx) => tx.run('INSERT INTO users (user_id, created) VALUES (?, 0)', early));
  await a.rooms.memberships.join(early, room, {});
  await a.say(alice, room, 'hello');
  await a.rooms.memberships.leave(early, room);
  said = [];
});

/** Three hundred events: talk, topics, levels, comings and goings, redactions and forks. */
async function live(random: Random, count: number): Promise<void> {
  for (let n = 0; n < count; n++) {
    said.push(await a.say(alice, room, `a${n}`));
    const dice = random.integer(12);
    if (dice === 0)
      await a.rooms.setState(room, alice, 'm.room.power_levels', '', { users: { [bob]: 10 + n } });
    if (dice < 4) await a.rooms.setState(room, alice, 'm.room.topic', '', { topic: `${n}` });
    if (dice === 4) await a.redact(alice, room, said[random.integer(said.length)]!);
    if (dice === 5) await a.rooms.memberships.leave(gone, room);
    if (dice === 6) await a.rooms.memberships.join(gone, room, {});
    if (dice > 8) await b.say(bob, room, `b${n}`);
    if (dice === 9) await b.rooms.setState(room, bob, 'x.bob', `${n % 3}`, { n }).catch(() => undefined);
    if (random.integer(3) === 0) await world.settle();
  }
  await world.settle();
  await a.rooms.memberships.leave(gone, room).catch(() => undefined);
}

const purgingOf = (server: Server, turn = async (): Promise<void> => undefined): Purging =>
  new Purging({ database: server.database, writer: server.rooms.writer, clock: world.clock, turn, log });

/** Lets virtual time pass until something settles; `between` runs at each pause. */
async function settled(task: Promise<unknown>, between: () => Promise<void> = async () => {}): Promise<void> {
  let isOver = false;
  const over = task.finally(() => (isOver = true));
  while (!isOver) {
    await new Promise(setImmediate);
    world.clock.step();
    await between();
  }
  await over;
}

const ask = (event: EventId) => a.database.transaction((tx) => askForPurge(tx, room, { event }));

async function copyOf(server: Server): Promise<string> {
  const [{ file }] = (await server.database.all('PRAGMA database_list')) as [{ file: string }];
  const path = join(temporaryFolder(), 'copy.db');
  const connection = new Connection(file, { readonly: true });
  connection.exec(`VACUUM INTO '${path}'`);
  connection.close();
  return path;
}

interface Contents {
  readonly [table: string]: readonly unknown[];
}

/** What a database holds of the rooms, by event ids. */
function contentsOf(path: string): Contents {
  const connection = new Connection(path, { readonly: true });
  const all = (sql: string): unknown[] => connection.prepare(sql).all();
  const contents = {
    events: all(
      `SELECT event_id, status, position, state_before, state_after, json, redacted_by FROM events ORDER BY id`,
    ),
    groups: all('SELECT id, parent, hex(entries) FROM state_groups ORDER BY id'),
    auth: all(
      `SELECT e.event_id AS event, a.event_id AS auth FROM event_auth x LEFT JOIN events e ON e.id = x.event
       LEFT JOIN events a ON a.id = x.auth ORDER BY 1, 2`,
    ),
    // Of the timeline: where mere state events lead to is asked by nobody.
    prev: all(
      `SELECT e.event_id AS event, p.event_id AS prev FROM event_prev x LEFT JOIN events e ON e.id = x.event
       LEFT JOIN events p ON p.id = x.prev WHERE e.state_after IS NOT NULL OR e.id IS NULL OR p.id IS NULL ORDER BY 1, 2`,
    ),
    unknown: all(
      `SELECT e.event_id AS event, x.prev FROM unknown_prev x LEFT JOIN events e ON e.id = x.event
       WHERE e.state_after IS NOT NULL OR e.id IS NULL ORDER BY 1, 2`,
    ),
    changes: all('SELECT room, position, place, event FROM current_state_changes ORDER BY 1, 2, 3'),
    current: all('SELECT room, place, event FROM current_state ORDER BY 1, 2'),
    ends: all('SELECT room, event FROM forward_extremities ORDER BY 1, 2'),
    redactions: all(
      `SELECT redacts, e.event_id AS redaction FROM redactions LEFT JOIN events e ON e.id = redaction ORDER BY 1, 2`,
    ),
    rooms: all('SELECT * FROM rooms ORDER BY id'),
  };
  connection.close();
  return contents;
}

async function statesOf(server: Server): Promise<Record<string, string[]>> {
  const rows = await server.database.all<{ id: string; group: number }>(
    `SELECT event_id AS id, state_after AS "group" FROM events WHERE position IS NOT NULL`,
  );
  const states: Record<string, string[]> = {};
  for (const { id, group } of rows)
    states[id] = (await stateGroupState(server.database, group, true)).map((event) => event.event_id).sort();
  return states;
}

describe('a purge beside a server that runs', () => {
  it.each([1, 2, 3, 4])('leaves what a purge of the stopped server leaves (seed %i)', async (seed) => {
    const random = seededRandom(seed);
    await live(random, 120);
    const cut = said[60 + random.integer(40)]!;
    const path = await copyOf(a);
    const whole = purgeRoom(path, room, { event: cut });
    await ask(cut);
    await settled(purgingOf(a).run());
    const purge = await purgeOf(a.database, room);
    expect(purge).toMatchObject({ stage: 'done', removed: whole.removed, groups: whole.groups });
    const [stopped, running] = [contentsOf(path), contentsOf(await copyOf(a))];
    for (const table of Object.keys(stopped)) expect(running[table], table).toEqual(stopped[table]);
    expect(whole.removed).toBeGreaterThan(50);
    expect(whole.groups).toBeGreaterThan(5);
  });

  it('lets the room live on, also between its steps, and over restarts, and leaves every state as it was', async () => {
    const random = seededRandom(9);
    await live(random, 400);
    const cut = said[380]!;
    await ask(cut);
    const stages = new Set<string>();
    let steps = 0;
    let purging = purgingOf(a);
    const expected: Record<string, string[]> = {};
    for (let isDone = false; !isDone; ) {
      let stop: Promise<void> | undefined;
      await settled(purging.run(), async () => {
        const purge = await purgeOf(a.database, room);
        stages.add(purge!.stage);
        if (stop !== undefined || purge!.stage === 'done') return;
        steps++;
        const id = await a.say(alice, room, `during ${steps}`);
        if (steps % 2 === 0)
          await a.rooms.setState(room, alice, 'm.room.topic', '', { topic: `during ${steps}` });
        if (steps % 3 === 0) await b.say(bob, room, `b during ${steps}`);
        await world.settle();
        const group = (await a.stored(id)).stateAfter!;
        const state = await stateGroupState(a.database, group, true);
        expected[id] = state.map((event) => event.event_id).sort();
        if (steps % 4 === 0) stop = purging.stop();
      });
      await stop;
      isDone = (await purgeOf(a.database, room))!.stage === 'done';
      if (!isDone) a.restart();
      purging = purgingOf(a);
    }
    expect([...stages].sort()).toEqual(['changes', 'done', 'events', 'groups', 'timeline']);
    expect(steps).toBeGreaterThan(5);
    expect(await statesOf(a)).toMatchObject(expected);
    expect(await a.state(room)).toEqual(await b.state(room));
    for (const [name, sql] of Object.entries(DANGLING)) expect(await a.database.all(sql), name).toEqual([]);
    const { state, authChain } = await a.rooms.stateIds(room, said[390]!, a.name);
    const there = await b.rooms.stateIds(room, said[390]!, b.name);
    expect([...state].sort()).toEqual([...there.state].sort());
    expect([...authChain].sort()).toEqual([...there.authChain].sort());
    // What has gone and comes once more is late: it is no end of the room.
    const ends = await a.rooms.forwardExtremities(room);
    const { event } = await b.stored(said[20]!);
    expect(await a.rooms.receive(event, await b.stateBefore(event, a))).toEqual({ kind: 'accepted' });
    expect(await a.rooms.forwardExtremities(room)).toEqual(ends);
  });

  it('spares what another server branches off from before the point meanwhile, with its state', async () => {
    await live(seededRandom(5), 60);
    const cut = said[50]!;
    const { event: old } = await b.stored(said[10]!);
    const { hashes: _h, signatures: _s, ...fields } = old.pdu;
    const [member] = await b.database.all<{ id: EventId }>(
      "SELECT event_id AS id FROM events WHERE type = 'm.room.member' AND state_key = ?",
      bob,
    );
    const [levels] = await b.database.all<{ id: EventId }>(
      "SELECT event_id AS id FROM events WHERE type = 'm.room.power_levels' ORDER BY id LIMIT 1",
    );
    const branch = b.sign({
      ...fields,
      ...{
        sender: bob,
        content: { body: 'late' },
        prev_events: [old.id],
        auth_events: [levels!.id, member!.id],
      },
    });
    const before = { state: await b.stateBefore(old, a) };
    await ask(cut);
    let taken = false;
    await settled(purgingOf(a).run(), async () => {
      if (taken || (await purgeOf(a.database, room))!.stage !== 'groups') return;
      taken = true;
      expect(await a.rooms.receive(branch, before.state)).toMatchObject({
        kind: expect.stringMatching('accepted|soft_failed'),
      });
    });
    expect(taken).toBe(true);
    const { stateBefore } = await a.stored(branch.id);
    const state = await stateGroupState(a.database, stateBefore!, true);
    expect(state.map((event) => event.event_id).sort()).toEqual(
      before.state.state.map(({ id }) => id).sort(),
    );
    for (const [name, sql] of Object.entries(DANGLING)) expect(await a.database.all(sql), name).toEqual([]);
  });

  it('spares what an event names that comes after it has found out what is needed', async () => {
    await live(seededRandom(7), 20);
    const rulesNow = () =>
      a.database.get<{ id: EventId }>(
        "SELECT event_id AS id FROM events WHERE type = 'm.room.join_rules' ORDER BY id DESC LIMIT 1",
      );
    await a.rooms.setState(room, alice, 'm.room.join_rules', '', { join_rule: 'public', old: true });
    const old = (await rulesNow())!.id;
    await a.rooms.setState(room, alice, 'm.room.join_rules', '', { join_rule: 'public' });
    await live(seededRandom(8), 40);
    await world.settle();
    const cut = said.at(-2)!;
    const current = await a.state(room);
    const { event: last } = await a.stored((await a.rooms.forwardExtremities(room))[0]!);
    const rename = b.sign({
      ...{ type: 'm.room.member', sender: bob, state_key: bob, room_id: room },
      content: { membership: 'join', displayname: 'Bob' },
      ...{ origin_server_ts: world.clock.wall(), depth: depthOf(last.pdu) + 1, prev_events: [last.id] },
      auth_events: [current['m.room.power_levels ']!, current[`m.room.member ${bob}`]!, old] as EventId[],
    });
    await ask(cut);
    let taken: unknown;
    const { writer } = a.rooms;
    const purging = new Purging({
      ...{ database: a.database, clock: world.clock, turn: async () => undefined, log },
      writer: {
        ...{ events: writer.events, states: writer.states },
        // After it has found out what is needed, just before the first step that goes by it.
        locked: async (of, task) => {
          if (taken === undefined && (await purgeOf(a.database, room))!.stage === 'events')
            taken = await a.rooms.receive(rename);
          return writer.locked(of, task);
        },
      },
    });
    await settled(purging.run());
    expect(taken).toEqual({ kind: 'accepted' });
    for (const [name, sql] of Object.entries(DANGLING)) expect(await a.database.all(sql), name).toEqual([]);
    const next = await a.say(alice, room, 'on');
    expect((await a.rooms.stateIds(room, next, a.name)).authChain).toContain(old);
  });

  it('ends where it is taken back, and another can be asked for', async () => {
    await live(seededRandom(6), 60);
    await ask(said[50]!);
    await expect(ask(said[40]!)).rejects.toThrow('under way');
    expect(await a.database.transaction((tx) => endPurge(tx, room))).toBe(true);
    await settled(purgingOf(a).run());
    expect(await a.rooms.event(said[3]!, a.name)).toBeDefined();
    expect(await a.database.transaction((tx) => endPurge(tx, room))).toBe(false);
    await ask(said[50]!);
    await settled(purgingOf(a).run());
    expect(await a.rooms.event(said[3]!, a.name)).toBeUndefined();
    await expect(ask('$none' as EventId)).rejects.toThrow('is no event');
  });
});

const missing = (table: string, column: string, of = 'events'): string =>
  `SELECT * FROM ${table} WHERE ${column} IS NOT NULL AND ${column} NOT IN (SELECT id FROM ${of})`;
const DANGLING = {
  prev: missing('event_prev', 'prev'),
  follower: missing('event_prev', 'event'),
  unknown: missing('unknown_prev', 'event'),
  auth: missing('event_auth', 'auth'),
  authorised: missing('event_auth', 'event'),
  current: missing('current_state', 'event'),
  changes: missing('current_state_changes', 'event'),
  ends: missing('forward_extremities', 'event'),
  redactions: missing('redactions', 'redaction'),
  parents: missing('state_groups', 'parent', 'state_groups'),
  before: missing('events', 'state_before', 'state_groups'),
  after: missing('events', 'state_after', 'state_groups'),
};
