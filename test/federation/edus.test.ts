import { beforeEach, describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { EduOutbox, MAX_HELD_BACK_MS, QUIET_MS, RECEIPT_DELAY_MS } from '../../src/federation/edus/outbox.ts';
import { eduPolicies } from '../../src/federation/edus/policy.ts';
import { receiptEdus, receiptsIn } from '../../src/federation/edus/receipts.ts';
import { Sender } from '../../src/federation/sender.ts';
import { FederationError } from '../../src/federation/transport.ts';
import { Transports } from '../../src/federation/transports.ts';
import { MatrixError } from '../../src/matrix/error.ts';
import type { DeviceId, EventId, RoomId, ServerName, UserId } from '../../src/matrix/ids.ts';
import type { JsonObject, JsonValue } from '../../src/matrix/json.ts';
import { enqueuePdu } from '../../src/storage/outbox.ts';
import { enqueueReceipt, receiptDestinations } from '../../src/storage/outbox_receipts.ts';
import { temporaryDatabase } from '../storage/temporary_database.ts';
import { A, B, HOUR, recordingLog, ScriptedTransport, testKey } from './fixtures.ts';
import { Network, type NetworkTime, openServer, openSide, type Side } from './sides.ts';

const SECOND = 1_000;
/** Long enough for everything that is told soon. */
const SOON = 3 * SECOND;

let network: Network;
let time: NetworkTime;
let a: Side;
let b: Side;
let room: RoomId;
let alice: UserId;
let bob: UserId;

const within = <T>(outcome: Promise<T>): Promise<T> => time.until(outcome, HOUR);
const say = (text: string): Promise<EventId> => within(a.say(alice, room, text));

beforeEach(async () => {
  network = new Network();
  time = network.time;
  a = await openSide(network, A, testKey(1), 1);
  b = await openSide(network, B, testKey(2), 2);
  [alice, bob] = [a.user('alice'), b.user('bob')];
  room = await within(a.rooms.create(alice, { preset: 'public_chat' }));
  await within(b.rooms.memberships.join(bob, room, { via: [A] }));
  await time.pass(SOON);
});

interface Sent {
  readonly path: string;
  readonly pdus: readonly JsonObject[];
  readonly edus: readonly JsonObject[];
}

/** Transactions that arrived at B from A. */
function sent(): readonly Sent[] {
  return network.calls
    .filter(({ from, path }) => from === A && path.includes('/send/'))
    .map(({ path, body }) => {
      const { pdus = [], edus = [] } = body as Record<string, readonly JsonObject[]>;
      return { path, pdus, edus };
    });
}
const edusSent = (): readonly JsonObject[] => sent().flatMap(({ edus }) => edus);
const contentsOf = (type: string): readonly JsonObject[] =>
  edusSent().flatMap(({ edu_type, content }) => (edu_type === type ? [content as JsonObject] : []));

/** Whom a server shows as typing in the room. */
async function typingAt({ database }: Side): Promise<JsonValue> {
  const row = await database.get<{ users: string }>('SELECT users FROM typing WHERE room = ?', room);
  return row === undefined ? [] : (JSON.parse(row.users) as JsonValue);
}
/** Receipts that a server shows: user, thread, event. */
const receiptsAt = async ({ database }: Side): Promise<string[]> => {
  const rows = await database.all<{ user_id: string; thread: string; event_id: string }>(
    "SELECT user_id, thread, event_id FROM receipts WHERE type = 'm.read' ORDER BY user_id, thread",
  );
  return rows.map(({ user_id, thread, event_id }) => `${user_id} ${thread} ${event_id}`);
};
const presenceAt = ({ database }: Side) =>
  database.all('SELECT user_id, presence, status_msg, currently_active FROM presence');
const waiting = async (): Promise<number> =>
  (await a.database.get<{ n: number }>('SELECT COUNT(*) AS n FROM outbox_receipts'))!.n;

const read = (event: EventId, threadId?: string): Promise<void> =>
  within(a.receipts.mark(alice, room, { read: event, threadId }));
const type = (isTyping: boolean): Promise<void> => within(a.typing.set(alice, room, { isTyping }));
const online = (statusMsg: string): Promise<void> =>
  within(a.presence.set({ user: alice, device: 'D' as DeviceId }, 'online', statusMsg));

/** The same server anew, over the same database. */
async function restartA(): Promise<void> {
  await time.until(
    Promise.all([a.sender.stop(), a.edus.stop(), a.typing.stop(), a.presence.stop(), a.receiver.stop()]),
    HOUR,
  );
  const transports = new Transports({ serverName: A, peers: [], https: network.transportOf(A, testKey(1)) });
  a = await openServer({
    ...{ clock: time.clock, serverName: A, signingKey: testKey(1), seed: 9, transports },
    ...{ database: a.database, policy: () => network.policy },
  });
  network.sides.set(A, a);
}

/** What B makes of EDUs of A. */
const hear = async (edus: JsonValue[], txn: string, from: ServerName = A): Promise<JsonObject> =>
  within(b.receiver.receive(from, txn, { origin: from, origin_server_ts: 1, pdus: [], edus }));

describe.each([
  ['in signed JSON', false],
  ['in short forms', true],
])('what is told besides events, %s', (_, formed) => {
  beforeEach(() => {
    network.formed = formed;
    // As over HTTPS.
    network.signed = !formed;
  });

  it('is who types, who is there and what was read', async () => {
    const event = await say('hello');
    await type(true);
    await online('at sea');
    await read(event);
    await time.pass(SOON);
    expect(await typingAt(b)).toEqual([alice]);
    expect(await receiptsAt(b)).toEqual([`${alice}  ${event}`]);
    expect(await presenceAt(b)).toEqual([
      { user_id: alice, presence: 'online', status_msg: 'at sea', currently_active: 1 },
    ]);
    await type(false);
    await time.pass(SOON);
    expect(await typingAt(b)).toEqual([]);
    expect(await waiting()).toBe(0);
  });

  it('is the newest of each only', async () => {
    const events = [await say('one'), await say('two')];
    await time.pass(SOON);
    const before = sent().length;
    for (const event of events) await read(event);
    for (const isTyping of [true, false, true]) await type(isTyping);
    for (const text of ['a', 'b', 'c']) await online(text);
    await time.pass(SOON);
    expect(contentsOf('m.receipt')).toEqual([
      {
        [room]: { 'm.read': { [alice]: { data: { ts: expect.any(Number) }, event_ids: [events[1]!] } } },
      },
    ]);
    expect(contentsOf('m.typing')).toEqual([{ room_id: room, user_id: alice, typing: true }]);
    expect(contentsOf('m.presence')).toMatchObject([{ push: [{ user_id: alice, status_msg: 'c' }] }]);
    expect(sent().length - before).toBeLessThanOrEqual(2);
  });

  it('rides with the events that go anyway', async () => {
    const event = await say('one');
    await time.pass(SOON);
    const before = sent().length;
    await read(event);
    await say('two');
    await time.pass(SOON);
    expect(sent().slice(before)).toMatchObject([{ pdus: [{}], edus: [{ edu_type: 'm.receipt' }] }]);
    expect(await receiptsAt(b)).toEqual([`${alice}  ${event}`]);
  });

  it('receipts survive lost answers and a restart', async () => {
    const event = await say('one');
    await time.pass(SOON);
    network.beforeAnswer = async () => {
      throw new FederationError('timeout', 'the answer is lost');
    };
    await read(event);
    await time.pass(SOON);
    expect(await receiptsAt(b)).toEqual([`${alice}  ${event}`]);
    expect(await waiting()).toBe(1);
    await restartA();
    network.beforeAnswer = async () => undefined;
    await time.pass(HOUR);
    expect(await waiting()).toBe(0);
    expect(await receiptsAt(b)).toEqual([`${alice}  ${event}`]);
    expect(await b.messages()).toEqual(['one']);
  });
});

describe('receipts', () => {
  it('wait for a server that is away, the newest of each thread, and go when it is back', async () => {
    const events = [await say('one'), await say('two'), await say('three')];
    await time.pass(SOON);
    network.passes = () => false;
    await read(events[0]!);
    await time.pass(SOON);
    await read(events[2]!);
    await read(events[1]!, 'main');
    await restartA();
    await time.pass(HOUR);
    expect(await waiting()).toBe(2);
    network.passes = () => true;
    await time.pass(2 * HOUR);
    expect(await receiptsAt(b)).toEqual([`${alice}  ${events[2]}`, `${alice} main ${events[1]}`]);
    expect(await waiting()).toBe(0);
  });

  it('that come while an older one is under way are told as well', async () => {
    const events = [await say('one'), await say('two')];
    await time.pass(SOON);
    let held = true;
    network.beforeAnswer = async () => {
      if (!held) return;
      held = false;
      await a.receipts.mark(alice, room, { read: events[1]! });
    };
    await read(events[0]!);
    await time.pass(SOON);
    expect(await receiptsAt(b)).toEqual([`${alice}  ${events[1]}`]);
    expect(await waiting()).toBe(0);
  });

  it('go again where the events that they rode with were not answered for', async () => {
    const event = await say('one');
    await time.pass(SOON);
    // The transaction does not arrive.
    network.passes = (from) => from !== A;
    await read(event);
    await say('two');
    await time.pass(SOON);
    network.passes = () => true;
    await time.pass(HOUR);
    expect(await b.messages()).toEqual(['one', 'two']);
    expect(await receiptsAt(b)).toEqual([`${alice}  ${event}`]);
    expect(await waiting()).toBe(0);
  });

  it('that are private are not told', async () => {
    const event = await say('one');
    await within(a.receipts.mark(alice, room, { readPrivate: event, fullyRead: event }));
    await time.pass(HOUR);
    expect(edusSent()).toEqual([]);
  });

  it('that their destination refuses do not keep events back', async () => {
    const event = await say('one');
    await time.pass(SOON);
    network.passes = (_, __, { body }) => {
      if (((body as JsonObject | undefined)?.edus as JsonValue[] | undefined) === undefined) return true;
      throw new MatrixError(400, 'M_BAD_JSON', 'no EDUs here');
    };
    await read(event);
    await time.pass(SOON);
    await read(await say('two'));
    await say('three');
    await time.pass(60 * SECOND);
    expect(await b.messages()).toEqual(['one', 'two', 'three']);
    expect(await waiting()).toBe(0);
    expect(a.sender.counters.setAside).toBe(0);
  });

  it('of many rooms, users and threads take as few EDUs as will do, and are read back', () => {
    const rows = ['!a:x', '!b:x'].flatMap((roomId) =>
      ['@u:x', '@v:x'].flatMap((user) =>
        ['', 'main', '$root'].map((thread, ts) => ({
          ...{ room: roomId as RoomId, user: user as UserId, thread, event: `$${thread}e` as EventId, ts },
        })),
      ),
    );
    const edus = receiptEdus(rows);
    expect(edus).toHaveLength(3);
    const found = edus.flatMap(({ content }) => [...receiptsIn('x', content as JsonObject)]);
    expect(found).toHaveLength(rows.length);
    expect(
      found.map(({ room: at, receipt: { user, threadId = '' } }) => `${at} ${user} ${threadId}`).sort(),
    ).toEqual(rows.map(({ room: at, user, thread }) => `${at} ${user} ${thread}`).sort());
  });
});

describe('typing and presence', () => {
  it('are not told a server that is away, nor bring an attempt forward', async () => {
    network.passes = () => false;
    await say('one');
    await time.pass(10 * 60 * SECOND);
    const attempts = a.sender.counters.failed;
    await type(true);
    await time.pass(SOON);
    expect(a.sender.counters.failed).toBe(attempts);
    network.passes = () => true;
    await time.pass(2 * HOUR);
    expect(await b.messages()).toEqual(['one']);
    // That it ended is too old as well.
    expect(contentsOf('m.typing')).toEqual([]);
    expect(await typingAt(b)).toEqual([]);
  });

  it('that are lost are not repeated, and typing ends by itself, after a restart too', async () => {
    await type(true);
    await time.pass(SOON);
    expect(await typingAt(b)).toEqual([alice]);
    network.passes = () => false;
    await restartA();
    await time.pass(60 * SECOND);
    expect(await typingAt(b)).toEqual([]);
    network.passes = () => true;
    await time.pass(HOUR);
    expect(contentsOf('m.typing')).toHaveLength(1);
  });

  it('wait until a server that was away has the events', async () => {
    network.passes = () => false;
    for (let n = 0; n < 110; n++) await say(`${n}`);
    await type(true);
    await time.pass(SECOND);
    network.passes = () => true;
    a.sender.peerSpoke(B);
    await time.pass(10 * SECOND);
    const queue = sent().filter(({ pdus }) => (pdus[0]?.type ?? 'm.room.message') === 'm.room.message');
    expect(queue.map(({ pdus, edus }) => [pdus.length, edus.length])).toEqual([
      [1, 0],
      [50, 0],
      [50, 0],
      [9, 1],
    ]);
    expect(await typingAt(b)).toEqual([alice]);
  });

  it('wait for a server that did not answer, after a restart too', async () => {
    let attempts = 0;
    network.passes = () => {
      attempts++;
      return false;
    };
    await online('lost');
    await time.pass(SECOND);
    expect(attempts).toBe(1);
    await restartA();
    await type(true);
    await time.pass(SECOND);
    expect(attempts).toBe(1);
  });

  it('are told as they become again after a fault, with nothing else to tell', async () => {
    network.passes = () => false;
    await online('lost');
    await time.pass(60 * SECOND);
    network.passes = () => true;
    await online('back');
    await time.pass(SOON);
    expect(await presenceAt(b)).toMatchObject([{ status_msg: 'back' }]);
  });
});

describe('over a slow link', () => {
  beforeEach(() => {
    network.policy = { typing: false, presence: false, receipts: 'idle' };
  });

  it('receipts wait for silence and do not ride with events, and nothing else is told', async () => {
    const event = await say('one');
    await time.pass(SOON);
    await read(event);
    await type(true);
    await online('at sea');
    await time.pass(QUIET_MS / 2);
    const last = await say('two');
    await read(last);
    await time.pass(QUIET_MS - SECOND);
    expect(edusSent()).toEqual([]);
    await time.pass(2 * SECOND);
    expect(edusSent()).toMatchObject([{ edu_type: 'm.receipt' }]);
    expect(sent().at(-1)!.pdus).toEqual([]);
    expect(await receiptsAt(b)).toEqual([`${alice}  ${last}`]);
  });

  it('receipts do not wait for ever where there is no silence', async () => {
    await read(await say('one'));
    for (let at = 0; at < MAX_HELD_BACK_MS; at += QUIET_MS / 2) {
      expect(edusSent()).toEqual([]);
      await say(`${at}`);
      await time.pass(QUIET_MS / 2);
    }
    await time.pass(SECOND);
    expect(edusSent()).toMatchObject([{ edu_type: 'm.receipt' }]);
  });

  it('a receipt that is under way gives way to an event, and goes another time', async () => {
    const { clock } = time;
    const database = temporaryDatabase();
    const givenUp: unknown[] = [];
    const transport = new ScriptedTransport((_, { body, signal }) => {
      if ((body as JsonObject).edus === undefined || givenUp.length > 0) return { pdus: {} };
      return new Promise((_resolve, reject) =>
        signal!.addEventListener('abort', () => {
          givenUp.push(body);
          reject(new FederationError('unreachable', 'given up'));
        }),
      );
    });
    const of = { serverName: A, database, clock, log: recordingLog(), transport, random: seededRandom(1) };
    const edus = new EduOutbox({ ...of, policy: () => network.policy, nudge: (to) => sender.nudge(to) });
    const sender: Sender = new Sender({ ...of, edus });
    const event = '$one' as EventId;
    await database.transaction((tx) =>
      enqueueReceipt(tx, { room, user: alice, thread: '', event, ts: 1 }, [B]),
    );
    await sender.start();
    await time.pass(QUIET_MS + SECOND);
    expect(transport.calls).toHaveLength(1);
    await database.transaction((tx) => enqueuePdu(tx, { eventId: '$two' as EventId, json: '{}' }, [B]));
    sender.wake([B]);
    await time.pass(SECOND);
    expect(givenUp).toHaveLength(1);
    expect(transport.calls.at(-1)!.call).toMatchObject({ body: { pdus: [{}] }, priority: 1 });
    expect(sender.counters).toMatchObject({ failed: 0, delivered: 1 });
    await time.pass(QUIET_MS);
    expect(transport.calls.at(-1)!.call).toMatchObject({ body: { edus: [{}] }, priority: 3 });
    expect(await receiptDestinations(database)).toEqual([]);
    await Promise.all([sender.stop(), edus.stop()]);
  });

  it('is what the configuration and the link make of it', () => {
    const config = { slow_below: 9_600, typing: 'fast', presence: 'always', receipts: 'idle' } as const;
    const rates = new Map<string, number | null>([
      ['slow', 9_599],
      ['fast', 9_600],
      ['unknown', null],
    ]);
    const policyOf = eduPolicies(config, (server) => rates.get(server) ?? null);
    const slow = { typing: false, presence: true, receipts: 'idle', isSlow: true };
    const fast = { typing: true, presence: true, receipts: 'soon', isSlow: false };
    expect(['slow', 'fast', 'unknown'].map((name) => policyOf(name as ServerName))).toEqual([
      slow,
      fast,
      fast,
    ]);
    const never = eduPolicies({ ...config, typing: 'never', receipts: 'fast' }, () => 100);
    expect(never(B)).toEqual({ typing: false, presence: true, receipts: 'never', isSlow: true });
  });
});

describe('what another server tells', () => {
  const typing = (user: string, more: JsonObject = {}): JsonObject => ({
    edu_type: 'm.typing',
    content: { room_id: room, user_id: user, typing: true, ...more },
  });
  const receipt = (user: string, data: JsonValue, events: JsonValue): JsonObject => ({
    edu_type: 'm.receipt',
    content: { [room]: { 'm.read': { [user]: { data, event_ids: events } } } },
  });
  const present = (...push: JsonValue[]): JsonObject => ({ edu_type: 'm.presence', content: { push } });

  it('is taken of its own users who are in the room alone', async () => {
    const event = await say('one');
    await time.pass(SOON);
    const strangers = [bob, '@mallory:a.example', '@alice:c.example', 'alice', 7 as never];
    for (const user of strangers) {
      const presence = { user_id: user, presence: 'online', last_active_ago: 1, currently_active: true };
      await hear([typing(user), receipt(String(user), { ts: 1 }, [event]), present(presence)], `t${user}`);
    }
    await hear(
      [{ ...typing(alice), content: { room_id: '!other:a.example', user_id: alice, typing: true } }],
      'x',
    );
    expect(await typingAt(b)).toEqual([]);
    expect(await receiptsAt(b)).toEqual([]);
    expect(await presenceAt(b)).toEqual([]);
    await hear([typing(alice), receipt(alice, { ts: 1 }, [event])], 'good');
    expect(await typingAt(b)).toEqual([alice]);
    expect(await receiptsAt(b)).toEqual([`${alice}  ${event}`]);
  });

  it('is left out in rooms whose access control list denies it', async () => {
    const event = await say('one');
    const acl = { allow: ['*'], deny: ['a.*'] };
    await within(a.rooms.sending.setState(room, alice, 'm.room.server_acl', '', acl));
    await time.pass(SOON);
    await hear([typing(alice), receipt(alice, { ts: 1 }, [event])], 'denied');
    expect([await typingAt(b), await receiptsAt(b)]).toEqual([[], []]);
    // It is of no room.
    await hear([present({ user_id: alice, presence: 'online', last_active_ago: 1 })], 'presence');
    expect(await presenceAt(b)).toMatchObject([{ user_id: alice }]);
  });

  it('is left out alone where it is malformed or unknown', async () => {
    const event = await say('one');
    await time.pass(SOON);
    const user = { user_id: alice, presence: 'online' };
    const malformed: JsonValue[] = [
      ...[null, 1, 'm.typing', [], {}, { edu_type: 'm.typing' }, { edu_type: 3, content: {} }],
      ...[
        { edu_type: 'm.typing', content: [] },
        { edu_type: 'org.example', content: { a: 1 } },
      ],
      ...[typing(alice, { typing: 'yes' }), typing(alice, { room_id: 5 }), typing(alice, { room_id: 'x' })],
      ...[
        receipt(alice, null, [event]),
        receipt(alice, { ts: -1 }, [event]),
        receipt(alice, { ts: 1.5 }, [event]),
      ],
      ...[receipt(alice, { ts: 1 }, []), receipt(alice, { ts: 1 }, [5]), receipt(alice, { ts: 1 }, event)],
      ...[receipt(alice, { ts: 1, thread_id: 3 }, [event]), receipt(alice, { ts: 1 }, ['no id'])],
      ...[receipt(alice, { ts: 1, thread_id: '' }, [event])],
      ...[receipt(alice, { ts: 1, thread_id: 'x'.repeat(256) }, [event])],
      ...[{ edu_type: 'm.receipt', content: { [room]: 3, '': {}, x: { 'm.read': {} } } }],
      ...[present(null, 3, {}, { ...user, presence: 'busy' }, { ...user, last_active_ago: '1' })],
      ...[present({ ...user, status_msg: 5 }), { edu_type: 'm.presence', content: { push: {} } }],
    ];
    for (const [i, edu] of malformed.entries()) {
      expect(await hear([edu], `m${i}`)).toEqual({ pdus: {} });
      expect([await typingAt(b), await receiptsAt(b), await presenceAt(b)], JSON.stringify(edu)).toEqual([
        [],
        [],
        [],
      ]);
    }
    await hear([...malformed, typing(alice)], 'with a good one');
    expect(await typingAt(b)).toEqual([alice]);
  });

  it('is done once, and the answer is the same', async () => {
    await hear([typing(alice)], 'same');
    await hear([typing(alice, { typing: false })], 'other');
    const told = b.incoming.counters.told;
    expect(await hear([typing(alice)], 'same')).toEqual({ pdus: {} });
    expect(b.incoming.counters.told).toBe(told);
    expect(await typingAt(b)).toEqual([]);
  });

  it('is bounded in number', async () => {
    await expect(
      hear(
        Array.from({ length: 101 }, () => typing(alice)),
        'many',
      ),
    ).rejects.toThrow(/100/);
    const event = await say('one');
    await time.pass(SOON);
    const users = Array.from({ length: 2_000 }, (_, i) => [
      `@u${i}:a.example`,
      { data: { ts: 1 }, event_ids: [event] },
    ]);
    const edu = { edu_type: 'm.receipt', content: { [room]: { 'm.read': Object.fromEntries(users) } } };
    await hear([edu as JsonObject, typing(alice)], 'large');
    expect(b.incoming.counters.told).toBe(500);
    expect(await typingAt(b)).toEqual([]);
  });

  it('does not keep the events of the same transaction from coming', async () => {
    b.typing.received = async () => {
      throw new Error('the disk is full');
    };
    await type(true);
    await say('one');
    await time.pass(SOON);
    expect(await b.messages()).toEqual(['one']);
    expect(b.log.lines.some(({ message }) => message.includes('an EDU'))).toBe(true);
  });
});

it('a receipt waits no longer than it is said to', () => {
  expect(RECEIPT_DELAY_MS).toBeLessThan(SOON);
});
