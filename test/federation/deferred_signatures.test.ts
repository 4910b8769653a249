import { beforeEach, describe, expect, it } from 'vitest';
import { PROVISIONAL_LIFE_MS } from '../../src/compact/pdu/provisional.ts';
import type { FederationCall } from '../../src/federation/transport.ts';
import { Sync } from '../../src/homeserver/sync/sync.ts';
import type { DeviceId, EventId, RoomId } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import { A, B, C, HOUR, testKey } from './fixtures.ts';
import { Network, type NetworkTime, openSide, type Side } from './sides.ts';

const SIGNATURES = 'org.ravine.signatures';
/** When what is quiet long enough has been followed by its signatures. */
const FOLLOWED_MS = 60_000;

let time: NetworkTime;
let network: Network;
let a: Side;
let b: Side;
let room: RoomId;

const within = <T>(outcome: Promise<T>): Promise<T> => time.until(outcome, HOUR);

beforeEach(async () => {
  network = new Network();
  network.formed = true;
  network.deferred = true;
  time = network.time;
  a = await openSide(network, A, testKey(1), 1);
  b = await openSide(network, B, testKey(2), 2);
  room = await within(a.rooms.create(a.user('alice'), { preset: 'public_chat', name: 'Ravine' }));
  await within(b.rooms.memberships.join(b.user('bob'), room, { via: [A] }));
  await time.pass(FOLLOWED_MS);
});

async function sayA(body: string): Promise<EventId> {
  const id = await within(a.say(a.user('alice'), room, body));
  await time.pass(1_000);
  return id;
}

interface Shown {
  readonly next: string;
  readonly events: readonly { event_id: string; type: string; content: JsonObject; unsigned: JsonObject }[];
}

/** What /sync shows bob of the room. */
async function sync(since?: string): Promise<Shown> {
  const reader = b.database;
  const requester = { user: b.user('bob'), device: 'D' as DeviceId };
  const service = new Sync({
    reader,
    clock: time.clock,
    notifier: { wait: async () => 'timeout' } as never,
    filters: { get: async () => undefined },
  });
  const body = await within(
    service.sync({
      requester: requester as never,
      since,
      timeoutMs: 0,
      filter: '{"room":{"timeline":{"limit":50}}}',
    }),
  );
  const joined = (body.rooms as JsonObject).join as unknown as Record<
    string,
    { timeline: { events: Shown['events'] } }
  >;
  return { next: body.next_batch as string, events: joined[room]?.timeline.events ?? [] };
}

const texts = ({ events }: Shown): unknown[] =>
  events.flatMap(({ content, type, unsigned }) =>
    type === 'm.room.message' ? [[content.body, unsigned['org.ravine.provisional'] ?? false]] : [],
  );

const kept = (side: Side): Promise<{ event_id: string; state: string }[]> =>
  side.database.all('SELECT event_id, state FROM provisional_events ORDER BY id');

/** Changes the first signature of each batch that goes. */
function spoilSignatures(): void {
  const { request } = a.transport;
  a.transport.request = (destination, call, ...more) => {
    if (!call.path.includes(SIGNATURES)) return request.call(a.transport, destination, call, ...more);
    const [first, ...others] = (call.body as { signatures: string[] }).signatures;
    const spoilt = `${first!.startsWith('A') ? 'B' : 'A'}${first!.slice(1)}`;
    const body = { signatures: [spoilt, ...others] };
    return request.call(a.transport, destination, { ...call, body }, ...more);
  };
}

/** The first signature of a batch with other bits of a hash. */
function renamed(bytes: Uint8Array, { path }: FederationCall): Uint8Array {
  if (!path.includes(SIGNATURES)) return bytes;
  const spoilt = bytes.slice();
  spoilt[63]! ^= 0x20;
  return spoilt;
}

describe('an event whose signature follows', () => {
  it('is shown as provisional, and becomes part of the room at the same place when the signature has come', async () => {
    const before = await sync();
    const id = await sayA('hello');
    expect(await kept(b)).toEqual([{ event_id: id, state: 'provisional' }]);
    expect(await b.messages()).toEqual([]);
    const first = await sync(before.next);
    expect(texts(first)).toEqual([['hello', true]]);
    await time.pass(FOLLOWED_MS);
    expect(network.count(A, B, SIGNATURES)).toBe(1);
    expect(await kept(b)).toEqual([]);
    expect(await b.messages()).toEqual(['hello']);
    // Nobody is told twice, and whoever asks from before sees it once.
    expect((await sync(first.next)).events).toEqual([]);
    expect(texts(await sync(before.next))).toEqual([['hello', false]]);
    expect(await a.database.all('SELECT * FROM owed_signatures')).toEqual([]);
    expect(await b.rooms.forwardExtremities(room)).toEqual([id]);
  });

  it('is built on by its server, while what is said here is built on what is verified', async () => {
    const [end] = await b.rooms.forwardExtremities(room);
    const askedBefore = a.forms.counters.askedWhole;
    await sayA('one');
    const reply = await within(b.say(b.user('bob'), room, 'meanwhile'));
    await time.pass(1_000);
    await sayA('two');
    await sayA('three');
    expect((await b.rooms.event(reply, B))?.pdu.prev_events).toEqual([end]);
    expect((await kept(b)).map(({ state }) => state)).toEqual(['provisional', 'provisional', 'provisional']);
    expect(a.forms.counters.askedWhole).toBe(askedBefore);
    await time.pass(FOLLOWED_MS);
    expect(network.count(A, B, SIGNATURES)).toBe(1);
    expect([...(await b.messages())].sort()).toEqual(['meanwhile', 'one', 'three', 'two']);
    expect(await b.state()).toEqual(await a.state());
    expect(network.count(B, A, 'get_missing_events') + network.count(B, A, '/event/')).toBe(0);
  });

  it('is never a redaction', async () => {
    const id = await sayA('hello');
    await time.pass(FOLLOWED_MS);
    const from = { user: a.user('alice'), device: 'D' as DeviceId, txnId: 'r' };
    await within(a.rooms.sending.redact(room, id, undefined, from));
    await time.pass(1_000);
    expect(await kept(b)).toEqual([]);
    expect(a.owed.counters.deferred).toBe(1);
    const [row] = await b.database.all('SELECT redacted_by FROM events WHERE event_id = ?', id);
    expect(row).not.toEqual({ redacted_by: null });
  });

  it('is served to nobody', async () => {
    const id = await sayA('hello');
    expect(await b.rooms.event(id, A)).toBeUndefined();
    expect(await b.rooms.known([id])).toEqual(new Set());
    expect(await b.rooms.forwardExtremities(room)).not.toContain(id);
  });

  it('is taken into the room by the next start where the last one ended behind its signature', async () => {
    const id = await sayA('hello');
    await b.deferred.stop();
    await time.pass(FOLLOWED_MS);
    expect(await kept(b)).toEqual([{ event_id: id, state: 'verified' }]);
    expect(await a.database.all('SELECT * FROM owed_signatures')).toEqual([]);
    await within(b.deferred.start());
    await time.pass(1_000);
    expect(await kept(b)).toEqual([]);
    expect(await b.messages()).toEqual(['hello']);
  });

  it('is followed only when it has been answered for', async () => {
    network.passes = (_from, _to, call) => !call.path.includes('/send/');
    await sayA('hello');
    await time.pass(30 * 60_000);
    expect(await a.database.all('SELECT * FROM owed_signatures')).toHaveLength(1);
    expect(network.count(A, B, SIGNATURES)).toBe(0);
    network.passes = () => true;
    await time.pass(HOUR);
    expect(await b.messages()).toEqual(['hello']);
    expect(b.deferred.counters).toMatchObject({ provisional: 1, verified: 1, refetched: 0 });
  });

  it('is followed at once where a state event is built on it', async () => {
    await sayA('hello');
    await within(a.rooms.setState(room, a.user('alice'), 'm.room.topic', '', { topic: 'now' }));
    await time.pass(2_000);
    expect(await kept(b)).toEqual([]);
    expect(await b.state()).toEqual(await a.state());
    expect(network.count(B, A, 'get_missing_events')).toBe(0);
  });

  it('is asked for whole where its signature is bad, and taken where that one is good', async () => {
    spoilSignatures();
    await sayA('hello');
    await time.pass(FOLLOWED_MS);
    expect(b.deferred.counters).toMatchObject({ bad: 1, refetched: 1, rejected: 0 });
    expect(await b.messages()).toEqual(['hello']);
    expect(await kept(b)).toEqual([]);
  });

  it('is taken back where the whole event is bad as well', async () => {
    spoilSignatures();
    const id = await sayA('hello');
    const shown = await sync();
    await a.database.transaction(async (tx) => {
      const bad = JSON.stringify({
        [A]: { [testKey(1).keyId]: Buffer.alloc(64, 1).toString('base64').replace(/=+$/, '') },
      });
      await tx.run(
        "UPDATE events SET json = json_set(json, '$.signatures', json(?)) WHERE event_id = ?",
        bad,
        id,
      );
    });
    a.rooms.writer.events.drop([id]);
    await time.pass(FOLLOWED_MS);
    expect(b.deferred.counters).toMatchObject({ bad: 1, refetched: 1, rejected: 1 });
    expect(await kept(b)).toEqual([]);
    expect(await b.messages()).toEqual([]);
    const [notice, ...others] = (await sync(shown.next)).events;
    expect(others).toEqual([]);
    expect(notice).toMatchObject({
      type: 'm.room.redaction',
      content: { redacts: id },
      redacts: id,
      unsigned: { 'org.ravine.retracted': 'rejected' },
    });
    expect(texts(await sync())).toEqual([]);
  });

  it('is asked for whole at once where a signature comes that is of no event that waits', async () => {
    network.tamper = renamed;
    await sayA('hello');
    await time.pass(FOLLOWED_MS);
    expect(network.count(A, B, SIGNATURES)).toBe(1);
    expect(await a.database.all('SELECT * FROM owed_signatures')).toEqual([]);
    expect(b.deferred.counters).toMatchObject({ bad: 0, stray: 1, overdue: 0, refetched: 1, quarantined: 0 });
    expect(await kept(b)).toEqual([]);
    expect(await b.messages()).toEqual(['hello']);
  });

  it('is asked for whole when all signatures have come, where it is one of several', async () => {
    // The last one's signature is that of none, those of two others do not come for a while.
    const [first, second] = [await sayA('one'), await sayA('two')];
    const heldBack = await a.database.all<{ id: number; event_id: string }>('SELECT * FROM owed_signatures');
    expect(heldBack.map(({ event_id: id }) => id)).toEqual([first, second]);
    await a.database.transaction((tx) =>
      tx.run('DELETE FROM owed_signatures WHERE event_id IN (?, ?)', first, second),
    );
    await sayA('three');
    network.tamper = renamed;
    await time.pass(FOLLOWED_MS);
    expect(b.deferred.counters).toMatchObject({ bad: 0, stray: 1, refetched: 0 });
    await time.pass(20 * 60_000);
    expect(b.deferred.counters).toMatchObject({ overdue: 3, refetched: 3, misread: 0 });
    expect(await b.messages()).toEqual(['one', 'two', 'three']);
  });

  it('is asked for whole where its server has forgotten what it owes, also behind others and a restart', async () => {
    network.passes = (_from, _to, call) => !call.path.includes(SIGNATURES);
    await sayA('one');
    await a.owed.stop();
    await a.database.transaction((tx) => tx.run('DELETE FROM owed_signatures'));
    await a.owed.start();
    network.passes = () => true;
    await time.pass(HOUR);
    await sayA('two');
    await time.pass(FOLLOWED_MS);
    await within(b.deferred.stop());
    await time.pass(HOUR);
    await within(b.deferred.start());
    await time.pass(HOUR);
    expect(b.deferred.counters).toMatchObject({ verified: 1, overdue: 1, refetched: 1 });
    expect(await kept(b)).toEqual([]);
    expect([...(await b.messages())].sort()).toEqual(['one', 'two']);
  });

  it('comes after all where another event has come out of its short form, which is taken back', async () => {
    const { request } = a.transport;
    a.transport.request = async (destination, call, ...more) =>
      call.path.includes('/send/')
        ? { status: 200, body: { pdus: {} } }
        : request.call(a.transport, destination, call, ...more);
    const id = await sayA('hello');
    const other = `$${'x'.repeat(43)}`;
    const read = { ...(await a.rooms.event(id, A))!.pdu, origin_server_ts: 1, signatures: {} };
    await b.database.transaction((tx) =>
      tx.run(
        `INSERT INTO provisional_events (event_id, room, origin, state, type, sender, depth, json, received)
         SELECT ?, id, ?, 'provisional', 'm.room.message', ?, 9, ?, ? FROM rooms WHERE room_id = ?`,
        ...[other, A, a.user('alice')],
        ...[JSON.stringify(read), time.clock.wall(), room],
      ),
    );
    await within(b.deferred.stop());
    await within(b.deferred.start());
    await time.pass(4 * HOUR);
    expect(b.deferred.counters).toMatchObject({ overdue: 1, misread: 1, rejected: 0 });
    expect(await kept(b)).toEqual([]);
    expect(await b.messages()).toEqual(['hello']);
    expect(await b.rooms.forwardExtremities(room)).toEqual([id]);
  });

  it('is quarantined after 24 hours in which neither its signature came nor the whole event', async () => {
    network.passes = (_from, _to, call) => !call.path.includes(SIGNATURES) && !call.path.includes('/event/');
    const id = await sayA('hello');
    const shown = await sync();
    await time.pass(PROVISIONAL_LIFE_MS - HOUR);
    expect(await kept(b)).toHaveLength(1);
    await time.pass(HOUR + 60_000);
    expect(b.deferred.counters.quarantined).toBe(1);
    expect(await a.database.all('SELECT * FROM owed_signatures')).toHaveLength(1);
    expect(await kept(b)).toEqual([]);
    expect((await sync(shown.next)).events).toMatchObject([{ content: { redacts: id } }]);
    // It comes back like any other event of which one is missing.
    network.passes = () => true;
    await time.pass(2 * HOUR);
    expect(await a.database.all('SELECT * FROM owed_signatures')).toEqual([]);
    await within(a.rooms.setState(room, a.user('alice'), 'm.room.topic', '', { topic: 'now' }));
    await time.pass(FOLLOWED_MS);
    expect(await b.messages()).toEqual(['hello']);
    expect(await b.state()).toEqual(await a.state());
  });

  it('goes with its signature in a room of three servers, and where it is not agreed on', async () => {
    const c = await openSide(network, C, testKey(3), 3);
    await sayA('before');
    await within(c.rooms.memberships.join(c.user('carol'), room, { via: [A] }));
    await time.pass(2_000);
    await sayA('after');
    expect(await kept(b)).toEqual([]);
    expect(a.owed.counters.deferred).toBe(1);
    await time.pass(FOLLOWED_MS);
    expect(await b.messages()).toEqual(['before', 'after']);
    expect(await b.state()).toEqual(await a.state());
    network.deferred = false;
    await sayA('inline');
    expect(a.owed.counters.deferred).toBe(1);
  });

  it('is asked for whole where too many wait', async () => {
    network.passes = (_from, _to, call) => !call.path.includes(SIGNATURES);
    await within(b.rooms.create(b.user('bob'), { preset: 'private_chat' }));
    await b.database.transaction(async (tx) => {
      const id = (await tx.get<{ id: number }>('SELECT MAX(id) AS id FROM rooms'))!.id;
      for (let i = 0; i < 256; i++)
        await tx.run(
          `INSERT INTO provisional_events (event_id, room, origin, state, type, sender, depth, json, received)
           VALUES (?, ?, ?, 'provisional', 'm.room.message', '@alice:a.example', 0,
             '{"type":"m.room.message","sender":"@alice:a.example","prev_events":[],"auth_events":[],"depth":0}', ?)`,
          ...[`$${i}`, id, A, time.clock.wall()],
        );
    });
    await sayA('hello');
    expect(await b.messages()).toEqual(['hello']);
    expect(b.deferred.counters.provisional).toBe(0);
  });
});
