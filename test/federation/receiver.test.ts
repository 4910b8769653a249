import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { ok } from '../../src/base/result.ts';
import type { VirtualClock } from '../../src/base/virtual_clock.ts';
import { VirtualTime } from '../../src/base/virtual_time.ts';
import { inOrder } from '../../src/federation/gap.ts';
import { pduJson } from '../../src/federation/pdu_json.ts';
import { Receiver } from '../../src/federation/receiver.ts';
import { type EventChecker, RemoteEvents } from '../../src/federation/remote_events.ts';
import type { FederationCall } from '../../src/federation/transport.ts';
import type { FederatedRooms, Received, StateBefore } from '../../src/homeserver/rooms/federated_rooms.ts';
import { notFound } from '../../src/matrix/error.ts';
import { parsePdu } from '../../src/matrix/event_format.ts';
import type { EventId, RoomId, UserId } from '../../src/matrix/ids.ts';
import type { JsonObject, JsonValue } from '../../src/matrix/json.ts';
import { type Event, prevEvents } from '../../src/matrix/pdu.ts';
import type { SqliteDatabase } from '../../src/storage/sqlite.ts';
import { temporaryDatabase } from '../storage/temporary_database.ts';
import {
  A,
  B,
  C,
  DAY,
  EventFactory,
  HOUR,
  recordingLog,
  ScriptedTransport,
  testKey,
  V12,
} from './fixtures.ts';

const alice = '@alice:b.example' as UserId;
const factory = new EventFactory(new Map([[B, testKey(2)]]), alice);
const room = factory.create.room;

/** Rooms that know which events they hold, and nothing of authorisation. */
class FakeRooms implements FederatedRooms {
  readonly stored = new Map<EventId, Event>([[factory.create.id, factory.create]]);
  readonly order: EventId[] = [];
  readonly given = new Map<EventId, StateBefore>();
  joined = true;
  known_ = true;
  /** Another room that this server is in. */
  elsewhere: RoomId | undefined;
  /** What becomes of an event, where it is not simply taken. */
  verdict: (event: Event, before: StateBefore | undefined) => Received | undefined = () => undefined;
  /** Runs before an event is taken. */
  pause: (event: Event) => Promise<void> = async () => undefined;

  async receive(event: Event, before?: StateBefore): Promise<Received> {
    await this.pause(event);
    if (!this.#isIn(event.room)) return { kind: 'unknown_room' };
    if (this.stored.has(event.id)) return { kind: 'duplicate' };
    const missing = prevEvents(event.pdu).filter((id) => !this.stored.has(id));
    if (missing.length > 0 && before === undefined) return { kind: 'missing_prev', missing };
    const verdict = this.verdict(event, before);
    if (verdict !== undefined) return verdict;
    if (before !== undefined) this.given.set(event.id, before);
    this.stored.set(event.id, event);
    this.order.push(event.id);
    return { kind: 'accepted' };
  }
  /** A join that is being stored: rooms wait for it. */
  settled: Promise<unknown> = Promise.resolve();
  async versionOf(id: RoomId) {
    if (id === room) await this.settled;
    return (this.known_ && id === room) || id === this.elsewhere ? '12' : undefined;
  }
  async isServerInRoom(id: RoomId) {
    return this.#isIn(id);
  }
  #isIn(id: RoomId): boolean {
    return id === this.elsewhere || (this.joined && id === room);
  }
  async known(ids: readonly EventId[]) {
    return new Set(ids.filter((id) => this.stored.has(id)));
  }
  async event(id: EventId) {
    return this.stored.get(id);
  }
  async forwardExtremities() {
    return [...this.stored.keys()].slice(-1);
  }
  makeJoin = notUsed;
  sendJoin = notUsed;
  makeKnock = notUsed;
  sendKnock = notUsed;
  makeLeave = notUsed;
  sendLeave = notUsed;
  receiveInvite = notUsed;
  stateIds = notUsed;
  missingEvents = notUsed;
  receiveHistoric = notUsed;
  backfill = notUsed;
  closest = notUsed;
}

function notUsed(): never {
  throw new Error('not used here');
}

/** A peer that has these events and answers as it should. */
class Peer {
  readonly events: ReadonlyMap<EventId, Event>;
  readonly state: readonly Event[];
  constructor(events: readonly Event[], state: readonly Event[] = []) {
    this.events = new Map([...events, ...state, factory.create].map((event) => [event.id, event]));
    this.state = state;
  }

  answer(call: FederationCall): JsonValue {
    const [, , , , endpoint] = call.path.split('/');
    const last = decodeURIComponent(call.path.split('/').at(-1)!) as EventId;
    if (endpoint === 'get_missing_events') return this.missing(call.body as JsonObject);
    if (endpoint === 'state_ids')
      return { pdu_ids: this.state.map(({ id }) => id), auth_chain_ids: [factory.create.id] };
    if (endpoint === 'state') return { pdus: this.state.map(({ pdu }) => pduJson(pdu)), auth_chain: [] };
    if (endpoint === 'event_auth') return { auth_chain: this.state.map(({ pdu }) => pduJson(pdu)) };
    const event = this.events.get(last);
    if (event === undefined) throw notFound('no such event');
    return { pdus: [pduJson(event.pdu)] };
  }

  missing(body: JsonObject): JsonValue {
    const earliest = new Set(body.earliest_events as EventId[]);
    const found = new Map<EventId, Event>();
    const queue = [...(body.latest_events as EventId[])];
    for (let id = queue.shift(); id !== undefined; id = queue.shift()) {
      const at = this.events.get(id);
      for (const prev of at === undefined ? [] : prevEvents(at.pdu)) {
        const event = this.events.get(prev);
        if (event === undefined || earliest.has(prev) || found.size >= Number(body.limit)) continue;
        found.set(prev, event);
        queue.push(prev);
      }
    }
    return { events: [...found.values()].reverse().map(({ pdu }) => pduJson(pdu)) };
  }
}

/** Takes every well-formed event, except those named. */
class FakeChecker implements EventChecker {
  readonly problems = new Map<EventId, 'invalid' | 'no_key'>();
  checks = 0;
  async check(pdu: unknown) {
    this.checks++;
    const parsed = parsePdu(pdu, V12);
    if (!parsed.ok)
      return { ok: false as const, problem: { kind: 'invalid' as const, reason: parsed.problem } };
    const kind = this.problems.get(parsed.value.id);
    return kind === undefined
      ? ok(parsed.value)
      : { ok: false as const, problem: { kind, reason: `it is ${kind}` } };
  }
}

let time: VirtualTime;
let clock: VirtualClock;
let database: SqliteDatabase;
let rooms: FakeRooms;
let checker: FakeChecker;
let transport: ScriptedTransport;
let joining: Promise<unknown> | undefined;
let log: ReturnType<typeof recordingLog>;

beforeEach(() => {
  time = new VirtualTime();
  clock = time.clock;
  database = temporaryDatabase();
  rooms = new FakeRooms();
  checker = new FakeChecker();
  transport = new ScriptedTransport();
  joining = undefined;
  log = recordingLog();
});

const newReceiver = () =>
  new Receiver({
    serverName: A,
    database,
    clock,
    rooms,
    checker,
    remote: new RemoteEvents({ transport, checker }),
    joining: (id) => (id === room ? joining : undefined),
    log,
  });

/** A receiver that goes on with what one before it on the same database has left. */
async function started(): Promise<Receiver> {
  const receiver = newReceiver();
  await receiver.start();
  onTestFinished(() => receiver.stop());
  return receiver;
}

const inInbox = async (): Promise<string[]> =>
  (await database.all<{ event_id: string }>('SELECT event_id FROM inbox ORDER BY position')).map(
    ({ event_id: id }) => id,
  );

const transaction = (...events: readonly Event[]): JsonObject => ({
  origin: B,
  origin_server_ts: 1,
  pdus: events.map(({ pdu }) => pduJson(pdu)),
});

/** A line of messages after the create event: `length` events, each after the one before. */
function line(length: number, start: Event = factory.create): Event[] {
  const events: Event[] = [];
  for (let i = 0; i < length; i++) {
    events.push(factory.event(alice, 'm.room.message', { prev: [events.at(-1) ?? start] }));
  }
  return events;
}

const state = (key: string) =>
  factory.event(alice, 'm.room.topic', { stateKey: key, auth: [factory.create] });
const endpoints = () => transport.calls.map(({ call }) => call.path.split('/')[4]);

describe('a transaction', () => {
  it('is answered with what became of each PDU', async () => {
    const [good, bad] = line(2);
    rooms.verdict = (event) =>
      event.id === bad!.id ? { kind: 'rejected', reason: 'not allowed' } : undefined;
    const answer = await newReceiver().receive(B, 't1', {
      ...transaction(good!, bad!),
      edus: [{ edu_type: 'm.typing', content: {} }],
    });
    expect(answer).toEqual({ pdus: { [good!.id]: {}, [bad!.id]: { error: 'not allowed' } } });
  });

  it('is done once, also over a restart, and answered the same each time', async () => {
    const [event] = line(1);
    const first = await newReceiver().receive(B, 't1', transaction(event!));
    rooms.verdict = () => notUsed();
    rooms.stored.clear();
    const second = newReceiver();
    expect(await second.receive(B, 't1', transaction(event!))).toEqual(first);
    expect(second.counters.repeated).toBe(1);
    rooms.verdict = () => undefined;
    rooms.stored.set(factory.create.id, factory.create);
    await second.receive(C, 't1', transaction(event!));
    expect(rooms.order).toEqual([event!.id, event!.id]);
  });

  it('that comes twice at a time is done once for both', async () => {
    let open: () => void = () => undefined;
    rooms.pause = () => new Promise((resolve) => (open = resolve));
    const receiver = newReceiver();
    const [event] = line(1);
    const both = [
      receiver.receive(B, 't1', transaction(event!)),
      receiver.receive(B, 't1', transaction(event!)),
    ];
    await time.settle();
    open();
    const [one, two] = await Promise.all(both);
    expect(one).toEqual(two);
    expect(rooms.order).toHaveLength(1);
  });

  it.each<[string, JsonValue]>([
    ['no object', []],
    ['no PDUs', {}],
    ['51 PDUs', { pdus: Array(51).fill({}) }],
    ['101 EDUs', { pdus: [], edus: Array(101).fill({}) }],
    ['EDUs that are no list', { pdus: [], edus: {} }],
  ])('with %s is refused', async (_, body) => {
    await expect(newReceiver().receive(B, 't1', body)).rejects.toMatchObject({
      status: 400,
      errcode: 'M_BAD_JSON',
    });
  });

  it('may hold PDUs that are nonsense, of no room, and of a room that is not known', async () => {
    const elsewhere = new EventFactory(new Map([[B, testKey(2)]]), alice, 77);
    const foreign = elsewhere.event(alice, 'm.room.message');
    const [event] = line(1);
    const pdus = ['nonsense', { room_id: 7 }, pduJson(foreign.pdu), pduJson(event!.pdu)];
    const { pdus: results } = await newReceiver().receive(B, 't1', { pdus });
    expect(results).toEqual({ [foreign.id]: { error: 'This server is not in the room.' }, [event!.id]: {} });
    expect(transport.calls).toEqual([]);
  });

  it('keeps the order within a room, and one waits for another of the same server', async () => {
    const events = line(6);
    rooms.pause = () => new Promise((resolve) => void clock.after(10, resolve));
    const receiver = newReceiver();
    const both = Promise.all([
      receiver.receive(B, 't1', transaction(...events.slice(0, 3))),
      receiver.receive(B, 't2', transaction(...events.slice(3))),
    ]);
    await time.until(both, 10_000);
    expect(rooms.order).toEqual(events.map(({ id }) => id));
    expect(transport.calls).toEqual([]);
  });

  it('is turned away where too many of one server wait, and not where they are of others', async () => {
    rooms.pause = () => new Promise(() => undefined);
    const receiver = newReceiver();
    const [event] = line(1);
    const outcomes = Array.from({ length: 30 }, (_, i) =>
      receiver.receive(B, `t${i}`, transaction(event!)).catch((error: unknown) => error),
    );
    const refused = await Promise.race(outcomes);
    expect(refused).toMatchObject({
      status: 429,
      errcode: 'M_LIMIT_EXCEEDED',
      extra: { retry_after_ms: expect.any(Number) },
    });
    rooms.pause = async () => undefined;
    expect(await receiver.receive(C, 't1', transaction(event!))).toEqual({ pdus: { [event!.id]: {} } });
  });
});

describe('a gap', () => {
  it('is filled with the events in between, the oldest first', async () => {
    // create <- 0 <- 1 <- 2 <- ... <- 9: only 9 is sent
    const events = line(10);
    const peer = new Peer(events);
    transport.answer = (_, call) => peer.answer(call);
    const answer = await newReceiver().receive(B, 't1', transaction(events[9]!));
    expect(answer).toEqual({ pdus: { [events[9]!.id]: {} } });
    expect(rooms.order).toEqual(events.map(({ id }) => id));
    expect(endpoints()).toEqual(['get_missing_events']);
    expect(transport.calls[0]!.call.body).toEqual({
      earliest_events: [factory.create.id],
      latest_events: [events[9]!.id],
      limit: 50,
      min_depth: 0,
    });
  });

  it('with forks is filled in an order in which nothing is missing', async () => {
    //          /- b1 - b2 -\
    // create -a             d
    //          \- c1 -------/
    const [a] = line(1);
    const [b1, b2] = line(2, a);
    const [c1] = line(1, a);
    const d = factory.event(alice, 'm.room.message', { prev: [b2!, c1!] });
    const peer = new Peer([a!, b1!, b2!, c1!, d]);
    transport.answer = (_, call) => peer.answer(call);
    await newReceiver().receive(B, 't1', transaction(d));
    expect(rooms.given.size).toBe(0);
    expect(rooms.order.at(-1)).toBe(d.id);
    expect(rooms.order).toHaveLength(5);
  });

  it('of more events than one answer holds is filled in rounds', async () => {
    const events = line(120);
    const peer = new Peer(events);
    transport.answer = (_, call) => peer.answer(call);
    await newReceiver().receive(B, 't1', transaction(events[119]!));
    expect(rooms.order).toEqual(events.map(({ id }) => id));
    expect(endpoints()).toEqual(Array(3).fill('get_missing_events'));
  });

  it('that is too long is bridged by the state before its first known event', async () => {
    const events = line(400);
    const topic = state('new');
    const peer = new Peer(events, [topic]);
    transport.answer = (_, call) => peer.answer(call);
    const answer = await newReceiver().receive(B, 't1', transaction(events[399]!));
    expect(answer).toEqual({ pdus: { [events[399]!.id]: {} } });
    expect(rooms.order).toEqual(events.slice(249).map(({ id }) => id));
    expect([...rooms.given]).toEqual([[events[249]!.id, { state: [topic], authChain: [factory.create] }]]);
    expect(endpoints().slice(3)).toEqual(['state_ids', 'event']);
  });

  it('of which the server tells nothing is bridged at the event itself', async () => {
    const events = line(3);
    const peer = new Peer(events, [factory.create, state('x')]);
    transport.answer = (_, call) => (call.path.includes('get_missing') ? { events: [] } : peer.answer(call));
    await newReceiver().receive(B, 't1', transaction(events[2]!));
    expect(rooms.order).toEqual([events[2]!.id]);
    expect(rooms.given.get(events[2]!.id)?.state).toHaveLength(2);
  });

  it('with a large unknown state is bridged by one request for all of it', async () => {
    const topics = Array.from({ length: 80 }, (_, i) => state(`topic ${i}`));
    const [, last] = line(2);
    const peer = new Peer([], topics);
    transport.answer = (_, call) => (call.path.includes('get_missing') ? { events: [] } : peer.answer(call));
    await newReceiver().receive(B, 't1', transaction(last!));
    expect(endpoints()).toEqual(['get_missing_events', 'state_ids', 'state']);
    expect(rooms.given.get(last!.id)?.state).toHaveLength(80);
  });

  it('in the auth events is filled from the auth chain', async () => {
    const auth = state('auth');
    const [event] = line(1);
    rooms.verdict = (_, before) =>
      before === undefined ? { kind: 'missing_auth', missing: [auth.id] } : undefined;
    const peer = new Peer([], [auth]);
    transport.answer = (_, call) => peer.answer(call);
    await newReceiver().receive(B, 't1', transaction(event!));
    expect(endpoints()).toEqual(['event_auth']);
    expect(rooms.given.get(event!.id)).toEqual({ state: [], authChain: [auth] });
  });

  it('whose server cannot be reached for a day is filled when it is back, without another event being sent', async () => {
    // create <- 0 <- 1: only 1 is sent, and 0 cannot be asked for
    const events = line(2);
    const peer = new Peer(events);
    const receiver = await started();
    expect(await receiver.receive(B, 't1', transaction(events[1]!))).toEqual({
      pdus: { [events[1]!.id]: {} },
    });
    await time.pass(DAY);
    expect(rooms.order).toEqual([]);
    expect(await inInbox()).toEqual([events[1]!.id]);
    // With a pause that doubles up to an hour.
    expect(transport.calls.length).toBeGreaterThan(24);
    expect(transport.calls.length).toBeLessThan(40);
    transport.answer = (_, call) => peer.answer(call);
    await time.pass(HOUR);
    expect(rooms.order).toEqual(events.map(({ id }) => id));
    expect(await inInbox()).toEqual([]);
    expect(receiver.counters).toMatchObject({ accepted: 1, refused: 0, held: 1 });
    expect(clock.next()).toBeNull();
  });

  it('is filled soon after its server has spoken again', async () => {
    const events = line(2);
    const peer = new Peer(events);
    const receiver = await started();
    await receiver.receive(B, 't1', transaction(events[1]!));
    await time.pass(DAY);
    transport.answer = (_, call) => peer.answer(call);
    receiver.peerSpoke(C);
    await time.pass(1_000);
    expect(rooms.order).toEqual([]);
    receiver.peerSpoke(B);
    await time.pass(30_000);
    expect(rooms.order).toHaveLength(2);
  });

  it('is filled after a crash of this server', async () => {
    const events = line(2);
    const peer = new Peer(events);
    const first = await started();
    const answer = await first.receive(B, 't1', transaction(events[1]!));
    await first.stop();
    transport.answer = (_, call) => peer.answer(call);
    const second = await started();
    await time.settle();
    expect(rooms.order).toEqual(events.map(({ id }) => id));
    expect(await second.receive(B, 't1', transaction(events[1]!))).toEqual(answer);
  });

  it('costs one question where its server does not answer, and holds up nothing that needs none', async () => {
    const lost = line(20);
    const [good] = line(1);
    const receiver = await started();
    await receiver.receive(B, 't1', transaction(...lost.slice(10), good!));
    expect(transport.calls).toHaveLength(1);
    expect(rooms.order).toEqual([good!.id]);
    expect(await inInbox()).toEqual(lost.slice(10).map(({ id }) => id));
  });

  it('is asked for once: what comes while it is being filled goes behind it', async () => {
    const events = line(4);
    const peer = new Peer(events);
    const receiver = await started();
    await receiver.receive(B, 't1', transaction(events[1]!));
    let answer: () => void = () => undefined;
    transport.answer = async (_, call) => {
      await new Promise<void>((resolve) => (answer = resolve));
      return peer.answer(call);
    };
    await time.pass(10_000);
    const asked = transport.calls.length;
    const held = { pdus: { [events[2]!.id]: {}, [events[3]!.id]: {} } };
    expect(await time.until(receiver.receive(B, 't2', transaction(...events.slice(2))), 0)).toEqual(held);
    answer();
    await time.settle();
    expect(rooms.order).toEqual(events.map(({ id }) => id));
    expect(transport.calls).toHaveLength(asked);
  });

  it('that waits for too long is given up, and that is logged as a loss', async () => {
    const events = line(2);
    const receiver = await started();
    await receiver.receive(B, 't1', transaction(events[1]!));
    await time.pass(7 * DAY - HOUR);
    expect(await inInbox()).toHaveLength(1);
    await time.pass(2 * HOUR);
    expect(await inInbox()).toEqual([]);
    expect(log.lines).toContainEqual({
      level: 'warn',
      fields: { origin: B, room, eventId: events[1]!.id },
      message: expect.stringContaining('lost'),
    });
    expect(clock.next()).toBeNull();
  });

  it('whose filling shows that the event is not allowed lets it go', async () => {
    const events = line(2);
    const peer = new Peer(events);
    const receiver = await started();
    await receiver.receive(B, 't1', transaction(events[1]!));
    rooms.verdict = (event) =>
      event.id === events[1]!.id ? { kind: 'rejected', reason: 'not allowed' } : undefined;
    transport.answer = (_, call) => peer.answer(call);
    await time.pass(60_000);
    expect(await inInbox()).toEqual([]);
    expect(log.lines).toContainEqual(
      expect.objectContaining({ message: 'an event that waited was refused' }),
    );
  });

  /** The transactions of a server that sends all of these, fifty at a time. */
  async function sendAll(receiver: Receiver, events: readonly Event[], prefix = 't'): Promise<JsonValue[]> {
    const answers: JsonValue[] = [];
    for (let at = 0; at < events.length; at += 50)
      answers.push(await receiver.receive(B, `${prefix}${at}`, transaction(...events.slice(at, at + 50))));
    return answers;
  }

  it('of more events than may wait loses none of them once its server can be asked', async () => {
    // 0 is never sent, and all others come while it cannot be asked for.
    const events = line(1_500);
    const peer = new Peer(events);
    const receiver = await started();
    const answers = await sendAll(receiver, events.slice(1));
    expect(answers.flatMap((answer) => Object.values((answer as JsonObject).pdus as JsonObject))).toEqual(
      Array(1_499).fill({}),
    );
    const kept = await inInbox();
    expect(kept).toHaveLength(200);
    expect([kept[0], kept.at(-1)]).toEqual([events[1]!.id, events.at(-1)!.id]);
    expect(log.lines).toContainEqual({
      level: 'warn',
      fields: { origin: B, room, shed: expect.any(Array), refused: [] },
      message: expect.stringContaining('too many events of a room wait'),
    });
    await time.pass(DAY);
    // As servers do that tell few at a time.
    transport.answer = (_, call) =>
      call.path.includes('get_missing')
        ? peer.missing({ ...(call.body as JsonObject), limit: 20 })
        : peer.answer(call);
    await time.pass(6 * HOUR);
    expect(rooms.order).toEqual(events.map(({ id }) => id));
    expect(rooms.given.size).toBe(0);
    expect(await inInbox()).toEqual([]);
  });

  it('of more events than may wait does not hold up other rooms of its server', async () => {
    const other = new EventFactory(new Map([[B, testKey(2)]]), alice, 5);
    rooms.elsewhere = other.create.room;
    rooms.stored.set(other.create.id, other.create);
    const healthy = [1, 2].map(() => other.event(alice, 'm.room.message', { prev: [other.create] }));
    const events = line(202);
    const receiver = await started();
    await sendAll(receiver, events.slice(1, 201));
    const mixed = await receiver.receive(B, 'mixed', transaction(events[201]!, healthy[0]!));
    expect(mixed).toEqual({ pdus: { [events[201]!.id]: {}, [healthy[0]!.id]: {} } });
    await receiver.receive(B, 'next', transaction(healthy[1]!));
    expect(rooms.order).toEqual(healthy.map(({ id }) => id));
  });

  it('of more events than may wait refuses, aloud, those that no later one would bring back', async () => {
    // All of one depth: none of them is before another.
    const side = (): Event =>
      factory.event(alice, 'm.room.message', { unknownPrev: [`$${'x'.repeat(43)}` as EventId] });
    const events = Array.from({ length: 200 }, side);
    const receiver = await started();
    await sendAll(receiver, events);
    const [good] = line(1);
    const beyond = side();
    const answer = await receiver.receive(B, 'full', transaction(good!, beyond));
    expect(answer).toEqual({
      pdus: { [good!.id]: {}, [beyond.id]: { error: expect.stringContaining('Too many') } },
    });
    expect(rooms.order).toEqual([good!.id]);
    expect(await inInbox()).toEqual(events.map(({ id }) => id));
    expect(receiver.counters).toMatchObject({ held: 200, refused: 1 });
    expect(log.lines).toContainEqual(
      expect.objectContaining({ level: 'warn', fields: { origin: B, room, shed: [], refused: [beyond.id] } }),
    );
    expect(await receiver.receive(B, 'full', transaction(good!, beyond))).toEqual(answer);
    // Another server's events find their place.
    expect(await receiver.receive(C, 't1', transaction(beyond))).toEqual({ pdus: { [beyond.id]: {} } });
  });
});

it('does not let one event that breaks something of ours keep out the others, and tries it again', async () => {
  const [good, breaking] = line(2);
  rooms.verdict = (event) => (event.id === breaking!.id ? notUsed() : undefined);
  const receiver = await started();
  await receiver.receive(B, 't1', transaction(good!, breaking!));
  expect(rooms.order).toEqual([good!.id]);
  rooms.verdict = () => undefined;
  await time.pass(60_000);
  expect(rooms.order).toEqual([good!.id, breaking!.id]);
});

describe('a hostile server', () => {
  it('that always knows one more missing event is stopped', async () => {
    let made = 0;
    const endless = (): Event =>
      factory.event(alice, 'm.room.message', { unknownPrev: [`$${made++}` as EventId] });
    transport.answer = (_, call) => {
      if (!call.path.includes('state_ids'))
        return { events: [pduJson(endless().pdu)], pdus: [pduJson(endless().pdu)] };
      return { pdu_ids: Array.from({ length: 10 }, () => endless().id), auth_chain_ids: [] };
    };
    const pdus = Array.from({ length: 50 }, () => pduJson(endless().pdu));
    await newReceiver().receive(B, 't1', { pdus });
    expect(transport.calls.length).toBeGreaterThan(180);
    expect(transport.calls.length).toBeLessThanOrEqual(200);
  });

  it('that tells a chain without end costs a few rounds', async () => {
    // Its events really lie before one another; each answer goes 50 further back.
    const events = line(600);
    const peer = new Peer(events);
    transport.answer = (_, call) => {
      if (!call.path.includes('get_missing')) throw notFound('no');
      return peer.answer(call);
    };
    const answer = await newReceiver().receive(B, 't1', transaction(events[599]!));
    expect(answer.pdus).toMatchObject({ [events[599]!.id]: { error: expect.any(String) } });
    expect(endpoints().filter((endpoint) => endpoint === 'get_missing_events').length).toBeLessThanOrEqual(4);
    expect(transport.calls.length).toBeLessThanOrEqual(200);
    expect(rooms.order).toEqual([]);
  });

  it.each<[string, JsonValue]>([
    [
      'events of other rooms and unrelated ones',
      {
        events: [
          pduJson(new EventFactory(new Map([[B, testKey(2)]]), alice, 5).create.pdu),
          pduJson(state('unrelated').pdu),
        ],
      },
    ],
    ['too many events', { events: Array(51).fill({}) }],
    ['no events', {}],
    ['no object', 'nonsense'],
    ['ids that are none', { events: [], pdu_ids: [7], auth_chain_ids: ['x'] }],
    ['too long a state', { events: [], pdu_ids: Array(20_001).fill('$x'), auth_chain_ids: [] }],
  ])('that answers with %s changes nothing', async (_, body) => {
    const events = line(2);
    transport.answer = () => body;
    const answer = await newReceiver().receive(B, 't1', transaction(events[1]!));
    expect(answer.pdus).toMatchObject({ [events[1]!.id]: { error: expect.any(String) } });
    expect(rooms.order).toEqual([]);
  });

  it('cannot slip in events that do not pass the checks', async () => {
    const events = line(3);
    checker.problems.set(events[1]!.id, 'invalid');
    const peer = new Peer(events, [factory.create]);
    transport.answer = (_, call) => peer.answer(call);
    await newReceiver().receive(B, 't1', transaction(events[2]!));
    expect(rooms.stored.has(events[1]!.id)).toBe(false);
  });
});

describe('an event whose keys cannot be had', () => {
  it('waits for them, while one that is bad is refused at once', async () => {
    const [event, bad] = line(2);
    checker.problems.set(event!.id, 'no_key');
    checker.problems.set(bad!.id, 'invalid');
    const receiver = await started();
    expect(await receiver.receive(B, 't1', transaction(event!, bad!))).toEqual({
      pdus: { [event!.id]: {}, [bad!.id]: { error: 'it is invalid' } },
    });
    checker.problems.delete(event!.id);
    await time.pass(60_000);
    expect(rooms.order).toEqual([event!.id]);
  });
});

describe('an event before which there are others whose keys cannot be had', () => {
  it('waits for those of its auth events, as long as anything waits', async () => {
    const auth = state('auth');
    const [event] = line(1);
    rooms.verdict = (_, before) =>
      before?.authChain.length ? undefined : { kind: 'missing_auth', missing: [auth.id] };
    checker.problems.set(auth.id, 'no_key');
    const peer = new Peer([], [auth]);
    transport.answer = (_, call) => peer.answer(call);
    const receiver = await started();
    expect(await receiver.receive(B, 't1', transaction(event!))).toEqual({ pdus: { [event!.id]: {} } });
    await time.pass(3 * DAY);
    expect(await inInbox()).toEqual([event!.id]);
    checker.problems.delete(auth.id);
    await time.pass(HOUR);
    expect(rooms.order).toEqual([event!.id]);
    expect(receiver.counters).toMatchObject({ accepted: 1, refused: 0, held: 1 });
  });

  it('is refused at once where its auth events are bad', async () => {
    const auth = state('auth');
    const [event] = line(1);
    rooms.verdict = () => ({ kind: 'missing_auth', missing: [auth.id] });
    checker.problems.set(auth.id, 'invalid');
    const peer = new Peer([], [auth]);
    transport.answer = (_, call) => peer.answer(call);
    const answer = await newReceiver().receive(B, 't1', transaction(event!));
    expect(answer.pdus).toMatchObject({ [event!.id]: { error: expect.any(String) } });
  });

  it('waits for those of the gap before it, so that nothing is lost in it', async () => {
    const events = line(3);
    checker.problems.set(events[1]!.id, 'no_key');
    const peer = new Peer(events, [factory.create]);
    transport.answer = (_, call) => peer.answer(call);
    await (await started()).receive(B, 't1', transaction(events[2]!));
    await time.pass(5 * 60_000);
    expect(rooms.order).toEqual([]);
    checker.problems.delete(events[1]!.id);
    await time.pass(HOUR);
    expect(rooms.order).toEqual(events.map(({ id }) => id));
  });

  it('does without those of the gap after a quarter of an hour', async () => {
    const events = line(3);
    checker.problems.set(events[1]!.id, 'no_key');
    const peer = new Peer(events, [factory.create]);
    transport.answer = (_, call) => peer.answer(call);
    await (await started()).receive(B, 't1', transaction(events[2]!));
    await time.pass(HOUR);
    expect(rooms.order).toEqual([events[2]!.id]);
    expect(await inInbox()).toEqual([]);
  });
});

it('names the servers whose events are left out of an answer because their keys cannot be had', async () => {
  const events = line(3);
  checker.problems.set(events[0]!.id, 'no_key');
  checker.problems.set(events[1]!.id, 'invalid');
  const remote = new RemoteEvents({ transport, checker, log });
  const good = await remote.goodEvents(
    { id: room, version: '12' },
    events.map(({ pdu }) => pduJson(pdu)),
  );
  expect(good).toEqual([events[2]]);
  expect(log.lines).toEqual([
    {
      level: 'warn',
      fields: { room, events: 1, told: 3, servers: [B], serverCount: 1 },
      message: 'events were left out: the keys of their servers cannot be had',
    },
  ]);
});

describe('while this server joins a room', () => {
  let answered: () => void;
  let fail: (error: Error) => void;

  beforeEach(() => {
    rooms.known_ = false;
    rooms.joined = false;
    joining = new Promise<void>((resolve, reject) => {
      answered = resolve;
      fail = reject;
    });
  });

  /** The join has been answered, and is being stored. */
  function store(): void {
    rooms.settled = new Promise<void>((resolve) => void clock.after(1_000, resolve)).then(() => {
      rooms.known_ = true;
      rooms.joined = true;
    });
    answered();
    joining = undefined;
  }

  it('its events are kept, and taken once the join is stored', async () => {
    const receiver = await started();
    const events = line(4);
    const answer = await receiver.receive(B, 't1', transaction(...events.slice(0, 3)));
    expect(answer).toEqual({ pdus: { [events[0]!.id]: {}, [events[1]!.id]: {}, [events[2]!.id]: {} } });
    await time.pass(HOUR);
    store();
    await time.settle();
    expect(rooms.order).toEqual([]);
    await receiver.receive(B, 't2', transaction(events[3]!));
    await time.pass(1_000);
    expect(rooms.order).toEqual(events.map(({ id }) => id));
    expect(transport.calls).toEqual([]);
    expect(receiver.counters).toMatchObject({ held: 4, accepted: 4 });
    expect(await inInbox()).toEqual([]);
  });

  it('those of several servers are taken in the order in which they came, so that nobody is asked', async () => {
    const receiver = await started();
    const events = line(6);
    for (const [i, event] of events.entries())
      await receiver.receive(i % 2 === 0 ? B : C, `t${i}`, transaction(event));
    store();
    await time.pass(1_000);
    expect(rooms.order).toEqual(events.map(({ id }) => id));
    expect(transport.calls).toEqual([]);
  });

  it('a crash between their answer and the join loses none, and a second join brings them', async () => {
    const events = line(3);
    const first = await started();
    await first.receive(B, 't1', transaction(...events.slice(0, 2)));
    await first.stop();
    joining = undefined;
    const receiver = await started();
    // What comes before the user tries again is not refused either.
    expect(await receiver.receive(B, 't2', transaction(events[2]!))).toEqual({
      pdus: { [events[2]!.id]: {} },
    });
    await time.pass(10 * 60_000);
    expect(await inInbox()).toHaveLength(3);
    joining = new Promise<void>((resolve) => (answered = resolve));
    await time.pass(2 * HOUR);
    store();
    await time.pass(1_000);
    expect(rooms.order).toEqual(events.map(({ id }) => id));
    expect(transport.calls).toEqual([]);
  });

  it('a crash between the join and their turn loses none', async () => {
    const events = line(3);
    const first = await started();
    await first.receive(B, 't1', transaction(...events));
    await first.stop();
    joining = undefined;
    rooms.known_ = true;
    rooms.joined = true;
    await started();
    await time.settle();
    expect(rooms.order).toEqual(events.map(({ id }) => id));
  });

  it('other rooms of the same server do not wait, nor for it to end', async () => {
    const other = new EventFactory(new Map([[B, testKey(2)]]), alice, 5);
    rooms.elsewhere = other.create.room;
    rooms.stored.set(other.create.id, other.create);
    const receiver = await started();
    const message = other.event(alice, 'm.room.message', { prev: [other.create] });
    await receiver.receive(B, 't1', transaction(...line(1), message));
    await time.pass(HOUR);
    expect(rooms.order).toEqual([message.id]);
  });

  it('they are kept where the join fails, for another one', async () => {
    const receiver = await started();
    const events = line(2);
    await receiver.receive(B, 't1', transaction(events[0]!));
    fail(new Error('no'));
    joining = undefined;
    await time.pass(HOUR);
    joining = new Promise<void>((resolve) => (answered = resolve));
    await receiver.receive(B, 't2', transaction(events[1]!));
    store();
    await time.pass(1_000);
    expect(rooms.order).toEqual(events.map(({ id }) => id));
  });

  it('more than may wait are thinned, and all of them arrive after the join', async () => {
    const receiver = await started();
    const events = line(301);
    const peer = new Peer(events);
    transport.answer = (_, call) => peer.answer(call);
    for (let i = 0; i < 7; i++)
      await receiver.receive(B, `t${i}`, transaction(...events.slice(50 * i, 50 * (i + 1))));
    expect(await inInbox()).toHaveLength(200);
    expect(transport.calls).toEqual([]);
    store();
    await time.pass(HOUR);
    expect(rooms.order).toEqual(events.map(({ id }) => id));
  });
});

it('puts events in an order in which each comes after those before it', () => {
  const events = line(30);
  const shuffled = events.toSorted((a, b) => (a.id < b.id ? -1 : 1));
  expect(inOrder(shuffled)).toEqual(events);
});
