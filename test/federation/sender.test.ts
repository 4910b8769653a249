import { beforeEach, describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import type { VirtualClock } from '../../src/base/virtual_clock.ts';
import { VirtualTime } from '../../src/base/virtual_time.ts';
import { LocalOutbox } from '../../src/federation/local_outbox.ts';
import { Sender } from '../../src/federation/sender.ts';
import { type FederationCall, FederationError } from '../../src/federation/transport.ts';
import { MatrixError } from '../../src/matrix/error.ts';
import type { ServerName, UserId } from '../../src/matrix/ids.ts';
import type { JsonObject, JsonValue } from '../../src/matrix/json.ts';
import type { Event } from '../../src/matrix/pdu.ts';
import { destination } from '../../src/storage/destinations.ts';
import type { SqliteDatabase } from '../../src/storage/sqlite.ts';
import { temporaryDatabase } from '../storage/temporary_database.ts';
import {
  A,
  B,
  C,
  EventFactory,
  HOUR,
  recordingLog,
  ScriptedTransport,
  testKey,
  unreachable,
} from './fixtures.ts';

const factory = new EventFactory(new Map([[A, testKey(1)]]), '@alice:a.example' as UserId);

let time: VirtualTime;
let clock: VirtualClock;
let database: SqliteDatabase;
let transport: ScriptedTransport;

beforeEach(() => {
  time = new VirtualTime();
  clock = time.clock;
  database = temporaryDatabase();
  transport = new ScriptedTransport(() => ({ pdus: {} }));
});

function newSender(seed = 1) {
  const log = recordingLog();
  const sender = new Sender({ serverName: A, database, clock, random: seededRandom(seed), transport, log });
  const outbox = new LocalOutbox((destinations) => sender.wake(destinations));
  const enqueue = async (event: Event, ...to: ServerName[]): Promise<Event> => {
    await database.transaction((tx) => outbox.enqueue(tx, event, new Set(to)));
    return event;
  };
  return { sender, log, enqueue };
}

const message = (n: number): Event =>
  factory.event('@alice:a.example' as UserId, 'm.room.message', { content: { n } });
const numbers = (call: FederationCall): JsonValue[] =>
  ((call.body as JsonObject).pdus as JsonObject[]).map((pdu) => (pdu.content as JsonObject).n!);
const sentTo = (server: ServerName) =>
  transport.calls.filter(({ destination }) => destination === server).map(({ call }) => call);
const rows = async () => (await database.all<{ n: number }>('SELECT count(*) AS n FROM outbox'))[0]!.n;

describe('the sender', () => {
  it('sends an event to each destination, with our name and time, and forgets it when all have it', async () => {
    const { sender, enqueue } = newSender();
    await sender.start();
    await enqueue(message(1), B, C);
    await time.settle();
    expect(sentTo(B)).toHaveLength(1);
    expect(sentTo(C)).toHaveLength(1);
    expect(sentTo(B)[0]).toMatchObject({
      method: 'PUT',
      path: expect.stringMatching(/^\/_matrix\/federation\/v1\/send\/[\w-]{8}$/),
      body: { origin: A, origin_server_ts: clock.wall() },
    });
    expect(await rows()).toBe(0);
    expect(await database.all('SELECT * FROM outbox_pdus')).toEqual([]);
    expect(await database.all('SELECT * FROM destinations')).toEqual([]);
  });

  it('sends nothing of a transaction that is undone', async () => {
    const { sender } = newSender();
    await sender.start();
    const outbox = new LocalOutbox((destinations) => sender.wake(destinations));
    const undone = database.transaction(async (tx) => {
      await outbox.enqueue(tx, message(1), new Set([B]));
      throw new Error('undone');
    });
    await expect(undone).rejects.toThrow('undone');
    await time.pass(HOUR);
    expect(transport.calls).toEqual([]);
  });

  it('keeps the order, sends at most 50 at a time, and one transaction after another', async () => {
    let underWay = 0;
    let most = 0;
    transport.answer = async () => {
      most = Math.max(most, ++underWay);
      await new Promise<void>((resolve) => clock.after(1_000, resolve));
      underWay--;
      return { pdus: {} };
    };
    const { sender, enqueue } = newSender();
    await sender.start();
    for (let n = 0; n < 121; n++) await enqueue(message(n), B);
    await time.pass(10_000);
    expect(sentTo(B).flatMap(numbers)).toEqual(Array.from({ length: 121 }, (_, n) => n));
    expect(Math.max(...sentTo(B).map((call) => numbers(call).length))).toBe(50);
    expect(most).toBe(1);
    expect(await rows()).toBe(0);
  });

  it('repeats a transaction with the same id and the same events, whatever came meanwhile', async () => {
    transport.answer = (_, call) => {
      if (transport.calls.length < 4) throw new FederationError('timeout', 'lost');
      return { pdus: { [String(call.path)]: {} } };
    };
    const { sender, enqueue } = newSender();
    await sender.start();
    for (let n = 0; n < 6; n++) {
      await enqueue(message(n), B);
      await time.pass(100);
    }
    await time.pass(HOUR);
    const calls = sentTo(B);
    const [first, ...others] = calls;
    expect(others.slice(0, 3).map(({ path }) => path)).toEqual([first!.path, first!.path, first!.path]);
    expect(others.slice(0, 3).map((call) => call.body)).toEqual([first!.body, first!.body, first!.body]);
    expect(calls[4]!.path).not.toBe(first!.path);
    expect([...numbers(calls[3]!), ...numbers(calls[4]!)]).toEqual([0, 1, 2, 3, 4, 5]);
  });

  it('waits twice as long after each failure, up to an hour, with jitter, and never gives up', async () => {
    const attempts: number[] = [];
    transport.answer = () => {
      attempts.push(clock.monotonic());
      throw new MatrixError(500, 'M_UNKNOWN', 'no');
    };
    const { sender, enqueue } = newSender();
    await sender.start();
    await enqueue(message(1), B);
    await time.pass(24 * HOUR);
    const waits = attempts.slice(1).map((at, i) => at - attempts[i]!);
    waits.forEach((wait, i) => {
      const longest = Math.min(HOUR, 5_000 * 2 ** i);
      expect(wait).toBeGreaterThanOrEqual(longest / 2);
      expect(wait).toBeLessThanOrEqual(longest + 1);
    });
    expect(new Set(waits.slice(-10)).size).toBeGreaterThan(5);
    transport.answer = () => ({ pdus: {} });
    await time.pass(HOUR);
    expect(await rows()).toBe(0);
  });

  it('keeps failures and the date of the next attempt over a restart', async () => {
    transport.answer = () => {
      throw new FederationError('unreachable', 'gone');
    };
    const first = newSender();
    await first.sender.start();
    await first.enqueue(message(1), B);
    await time.pass(2 * HOUR);
    const { failures, retryAt } = await destination(database, B);
    expect(failures).toBeGreaterThan(5);
    const composed = sentTo(B).at(-1);
    await first.sender.stop();

    transport.calls.length = 0;
    transport.answer = () => ({ pdus: {} });
    const second = newSender(2);
    await second.sender.start();
    await time.pass(retryAt - clock.wall() - 1);
    expect(transport.calls).toEqual([]);
    await time.pass(2);
    expect(sentTo(B)).toHaveLength(1);
    expect(sentTo(B)[0]).toMatchObject({ path: composed!.path, body: composed!.body! });
  });

  it('repeats what was under way when it was stopped', async () => {
    transport.answer = (_, { signal }) =>
      new Promise((_resolve, reject) =>
        signal!.addEventListener('abort', () => reject(new Error('stopped'))),
      );
    const first = newSender();
    await first.sender.start();
    await first.enqueue(message(1), B);
    await time.settle();
    await first.sender.stop();
    expect(first.sender.counters.failed).toBe(0);

    transport.answer = () => ({ pdus: {} });
    const second = newSender(2);
    await second.sender.start();
    await time.settle();
    const [before, after] = sentTo(B);
    expect(after).toMatchObject({ path: before!.path, body: before!.body! });
    expect(await rows()).toBe(0);
  });

  it('tries at once when the destination speaks', async () => {
    transport.answer = () => {
      throw new FederationError('unreachable', 'gone');
    };
    const { sender, enqueue } = newSender();
    await sender.start();
    await enqueue(message(1), B);
    await time.pass(3 * HOUR);
    transport.answer = () => ({ pdus: {} });
    const { retryAt } = await destination(database, B);
    expect(retryAt - clock.wall()).toBeGreaterThan(60_000);
    await time.pass(30_000);
    sender.peerSpoke(C);
    sender.peerSpoke(B);
    await time.pass(0);
    expect(await rows()).toBe(0);
  });

  it('is not made to hammer by a destination that speaks and does not listen', async () => {
    transport.answer = () => {
      throw new FederationError('unreachable', 'deaf');
    };
    const { sender, enqueue } = newSender();
    await sender.start();
    await enqueue(message(1), B);
    for (let second = 0; second < 3600; second++) {
      sender.peerSpoke(B);
      await time.pass(1_000);
    }
    expect(transport.calls.length).toBeLessThan(140);
  });

  it('tries again soon after a new event while the failure is fresh', async () => {
    transport.answer = () => {
      throw new FederationError('unreachable', 'gone');
    };
    const { sender, enqueue } = newSender();
    await sender.start();
    await enqueue(message(1), B);
    await time.pass(200_000);
    const { retryAt, failures } = await destination(database, B);
    expect(failures).toBeLessThanOrEqual(8);
    expect(retryAt - clock.wall()).toBeGreaterThan(31_000);
    transport.answer = () => ({ pdus: {} });
    await enqueue(message(2), B);
    await time.pass(30_000);
    expect(await rows()).toBe(0);
  });

  it('tries again soon where the new event came during the attempt that failed', async () => {
    transport.answer = unreachable;
    const { sender, enqueue } = newSender();
    await sender.start();
    await enqueue(message(1), B);
    await time.pass(100_000);
    transport.answer = async () => {
      await new Promise<void>((resolve) => clock.after(10_000, resolve));
      throw new FederationError('timeout', 'gone');
    };
    while ((await destination(database, B)).failures < 6) {
      const before = transport.calls.length;
      while (transport.calls.length === before) await time.pass(1_000);
      await enqueue(message(transport.calls.length), B);
      await time.pass(10_000);
    }
    transport.answer = () => ({ pdus: {} });
    await time.pass(30_000);
    expect(await rows()).toBe(0);
  });

  it('logs events that were refused, and does not send them again', async () => {
    const event = message(1);
    transport.answer = () => ({ pdus: { [event.id]: { error: 'not allowed' } } });
    const { sender, log, enqueue } = newSender();
    await sender.start();
    await enqueue(event, B);
    await time.pass(HOUR);
    expect(transport.calls).toHaveLength(1);
    expect(log.lines).toContainEqual(
      expect.objectContaining({ level: 'warn', fields: expect.objectContaining({ eventId: event.id }) }),
    );
    expect(sender.counters).toMatchObject({ delivered: 1, refused: 1, failed: 0 });
  });

  describe('whose transaction is refused as such', () => {
    /** A destination that takes nothing with one of these messages in it. */
    const refusing =
      (status: number, ...poison: number[]) =>
      (_: ServerName, call: FederationCall) => {
        if (numbers(call).some((n) => poison.includes(Number(n))))
          throw new MatrixError(status, 'M_BAD_JSON', 'no');
        taken.push(...numbers(call));
        return { pdus: {} };
      };
    let taken: JsonValue[] = [];

    beforeEach(() => {
      taken = [];
    });

    it.each([400, 413])(
      'with %i sends its events one by one, and sets aside the one to blame',
      async (status) => {
        const { sender, log, enqueue } = newSender();
        const events = [0, 1, 2, 3, 4].map(message);
        for (const event of events) await enqueue(event, B);
        transport.answer = refusing(status, 2);
        await sender.start();
        await time.pass(60_000);
        expect(taken).toEqual([0, 1, 3, 4]);
        expect(sentTo(B).map(numbers)).toEqual([[0, 1, 2, 3, 4], [0], [1], [2], [2], [], [3], [4]]);
        expect(new Set(sentTo(B).map(({ path }) => path)).size).toBe(7);
        expect(await rows()).toBe(0);
        expect(sender.counters.setAside).toBe(1);
        const warnings = log.lines.filter(({ level }) => level === 'warn');
        expect(warnings).toEqual([
          {
            level: 'warn',
            fields: { destination: B, status, errcode: 'M_BAD_JSON', eventId: events[2]!.id },
            message: expect.stringContaining('set aside'),
          },
        ]);
        // Later ones go together again.
        await database.transaction(async (tx) => {
          const outbox = new LocalOutbox((destinations) => sender.wake(destinations));
          for (const n of [5, 6]) await outbox.enqueue(tx, message(n), new Set([B]));
        });
        await time.settle();
        expect(numbers(sentTo(B).at(-1)!)).toEqual([5, 6]);
      },
    );

    it('loses the one to blame and nothing else over a restart in between', async () => {
      const first = newSender();
      for (let n = 0; n < 5; n++) await first.enqueue(message(n), B);
      transport.answer = refusing(400, 2);
      await first.sender.start();
      await time.settle();
      await first.sender.stop();
      expect(taken).toEqual([0, 1]);
      await newSender(2).sender.start();
      await time.pass(10 * 60_000);
      expect(taken).toEqual([0, 1, 3, 4]);
      expect(await rows()).toBe(0);
    });

    it.each([401, 403, 404, 429, 500])('is repeated as it is where the answer is %i', async (status) => {
      const { sender, enqueue } = newSender();
      for (let n = 0; n < 3; n++) await enqueue(message(n), B);
      transport.answer = refusing(status, 1);
      await sender.start();
      await time.pass(24 * HOUR);
      expect(new Set(sentTo(B).map((call) => JSON.stringify([call.path, numbers(call)]))).size).toBe(1);
      expect(await rows()).toBe(3);
    });

    it('keeps an event that is refused alone once, then fails otherwise, then is refused again', async () => {
      const { sender, enqueue } = newSender();
      await enqueue(message(0), B);
      transport.answer = () => {
        throw transport.calls.length % 2 === 1
          ? new MatrixError(400, 'M_BAD_JSON', 'no')
          : new FederationError('unreachable', 'gone');
      };
      await sender.start();
      await time.pass(24 * HOUR);
      expect(await rows()).toBe(1);
      expect(sender.counters.setAside).toBe(0);
    });

    it('loses nothing to a destination that refuses everything for a day', async () => {
      const { sender, enqueue } = newSender();
      for (let n = 0; n < 100; n++) await enqueue(message(n), B);
      transport.answer = () => {
        throw new MatrixError(400, 'M_UNKNOWN', 'a broken proxy');
      };
      await sender.start();
      await time.pass(24 * HOUR);
      expect(sender.counters.setAside).toBe(0);
      transport.answer = refusing(400);
      await time.pass(HOUR);
      expect(taken).toEqual(Array.from({ length: 100 }, (_, n) => n));
    });
  });

  it('sees an event that is queued in the moment in which it finds the queue empty', async () => {
    const { sender, enqueue } = newSender();
    const { transaction } = database;
    // What the sender does of itself after one event: compose, take it out of the queue, look again.
    let untilLook = 3;
    database.transaction = (body) => {
      const running = transaction.call(database, body) as ReturnType<
        typeof transaction<Awaited<ReturnType<typeof body>>>
      >;
      if (untilLook > 0 && --untilLook === 0) void enqueue(message(2), B);
      return running;
    };
    await sender.start();
    untilLook++;
    await enqueue(message(1), B);
    await time.settle();
    expect(untilLook).toBe(0);
    expect(sentTo(B).flatMap(numbers)).toEqual([1, 2]);
  });

  it('does not let one destination hold up another', async () => {
    transport.answer = (to) => (to === B ? new Promise(() => undefined) : { pdus: {} });
    const { sender, enqueue } = newSender();
    await sender.start();
    await enqueue(message(1), B, C);
    await enqueue(message(2), B, C);
    await time.settle();
    expect(sentTo(C).flatMap(numbers)).toEqual([1, 2]);
    expect(sentTo(B)).toHaveLength(1);
  });

  it('is not held up by any number of destinations that do not answer', async () => {
    const { sender, enqueue } = newSender();
    const silent = Array.from({ length: 100 }, (_, i) => `s${i}.example` as ServerName);
    transport.answer = unreachable;
    await sender.start();
    await enqueue(message(1), ...silent);
    await time.settle();
    // From the second time on they take the connection and say nothing.
    transport.answer = (to) => (to === B ? { pdus: {} } : new Promise(() => undefined));
    await time.pass(60_000);
    await enqueue(message(2), B);
    await time.settle();
    expect(sentTo(B)).toHaveLength(1);
  });

  it('loses nothing, keeps the order and never changes a composed transaction, over seeds of faults and restarts', async () => {
    const counted = { lost: 0, late: 0, restarts: 0, repeated: 0 };
    for (let seed = 1; seed <= 12; seed++) {
      const dice = seededRandom(seed);
      // What the destination has, as a receiver that remembers transaction ids would.
      const received: JsonValue[] = [];
      const byId = new Map<string, string>();
      transport.calls.length = 0;
      transport.answer = async (_, call) => {
        const fate = dice.integer(4);
        if (fate === 0) {
          counted.lost++;
          throw new FederationError('unreachable', 'lost on the way');
        }
        const composition = JSON.stringify(numbers(call));
        const known = byId.get(call.path);
        expect(known ?? composition, `seed ${seed}`).toBe(composition);
        if (known === undefined) received.push(...numbers(call));
        else counted.repeated++;
        byId.set(call.path, composition);
        if (fate === 1) {
          counted.late++;
          await new Promise<void>((resolve) => clock.after(90_000, resolve));
          throw new FederationError('timeout', 'the answer was lost');
        }
        return { pdus: {} };
      };
      let current = newSender(seed);
      await current.sender.start();
      for (let n = 0; n < 60; n++) {
        await current.enqueue(message(n), B);
        if (dice.integer(3) === 0) await time.pass(dice.integer(60_000));
        if (dice.integer(12) === 0) {
          counted.restarts++;
          const stopped = current.sender.stop();
          await time.until(stopped, HOUR);
          current = newSender(seed * 100 + n);
          await current.sender.start();
        }
      }
      await time.pass(48 * HOUR);
      await current.sender.stop();
      expect(received, `seed ${seed}`).toEqual(Array.from({ length: 60 }, (_, n) => n));
      expect(await rows()).toBe(0);
    }
    for (const [what, count] of Object.entries(counted)) expect(count, what).toBeGreaterThan(0);
  });
});
