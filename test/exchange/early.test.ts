import { describe, expect, test, vi } from 'vitest';
import { isEarlySend, mayBeEarly, TOO_EARLY } from '../../src/exchange/early_requests.ts';
import type { ExchangeRequest, Method } from '../../src/exchange/request.ts';
import type { LinkProfile } from '../../src/link/link.ts';
import { pipeSessionStore } from '../../src/storage/pipe_sessions.ts';
import { IN_CLEAR } from '../../src/storage/sealing.ts';
import { A, B, testKey } from '../federation/fixtures.ts';
import { Network, openSide } from '../federation/sides.ts';
import { temporaryDatabase } from '../storage/temporary_database.ts';
import { FAST, MINUTE, type Node, put, SLOW, World } from './world.ts';

vi.mock('../../src/exchange/early_requests.ts', async (original) => {
  const actual = await original<typeof import('../../src/exchange/early_requests.ts')>();
  return { ...actual, mayBeEarly: vi.fn(actual.mayBeEarly) };
});

const HOUR = 60 * MINUTE;
const OPTIONS = { timeoutMs: HOUR, priority: 1 } as const;
const FORGETFUL = { limits: { pipe: { sessions: 1 } } } as const;

/** A has had a session with b, which its session with c has displaced. */
async function acquainted(seed: number, profile: LinkProfile, early = { a: true, b: true }) {
  const world = new World(seed);
  world.connect('a', 'b', profile);
  world.connect('a', 'c', profile);
  const database = temporaryDatabase();
  const store = pipeSessionStore(database, IN_CLEAR, 'udp');
  const startB = (): Node => world.start('b', profile, { store, earlySends: early.b });
  const a = world.start('a', profile, { ...FORGETFUL, earlySends: early.a });
  const [b, c] = [startB(), world.start('c', profile)];
  const ask = (text: string, to: Node = b) => a.socket.request(to.name, to.address, put(text), OPTIONS);
  await world.time.until(ask('hello'), HOUR);
  await world.time.until(ask('hello', c), HOUR);
  await world.time.pass(10 * MINUTE);
  world.seen.length = 0;
  b.handled.length = 0;
  return { world, a, b, ask, database, startB };
}

/** How long until the handler has the request, and until the answer is there. */
async function timed({ world, b, ask }: Awaited<ReturnType<typeof acquainted>>) {
  const start = world.time.clock.monotonic();
  let effectMs = Number.NaN;
  b.answer = async () => {
    effectMs = world.time.clock.monotonic() - start;
    return { status: 200, headers: {} };
  };
  const response = await world.time.until(ask('help'), HOUR);
  return { response, effectMs, answerMs: world.time.clock.monotonic() - start };
}

describe('a send in the first message of a handshake', () => {
  test('has its effect a round trip sooner at 100 bit/s, and its answer comes as soon', async () => {
    const early = await timed(await acquainted(1, SLOW));
    const late = await timed(await acquainted(1, SLOW, { a: false, b: false }));
    expect(early.response.status).toBe(200);
    expect(early.effectMs).toBeLessThan(late.effectMs * 0.6);
    // The figures of docs/protocol.md, "Early data".
    const figures = [early, late].map(({ effectMs, answerMs }) => [effectMs, answerMs]);
    expect(figures).toEqual([
      [16_240, 40_320],
      [33_040, 40_000],
    ]);
  });

  test('reaches the handler once, with one name, and is counted', async () => {
    const { world, b, a, ask } = await acquainted(2, FAST);
    expect((await world.time.until(ask('help'), HOUR)).status).toBe(200);
    expect(b.handled.map(({ message }) => message?.number)).toEqual([0]);
    expect(b.socket.counters).toMatchObject({ earlyIn: 1, tooEarly: 0, pipe: { earlyTaken: 1 } });
    // The next one has another name, on the session.
    expect((await world.time.until(ask('more'), HOUR)).status).toBe(200);
    expect(b.handled.map(({ message }) => message?.number)).toEqual([0, expect.any(Number)]);
    expect(b.handled[1]!.message!.number).toBeGreaterThan(0);
    expect(a.socket.counters).toMatchObject({ requestsOut: 4 });
  });

  test('that is too early is made again on the session, and nobody sees the 425', async () => {
    const { world, b, ask } = await acquainted(3, FAST);
    vi.mocked(mayBeEarly).mockReturnValueOnce(false);
    expect((await world.time.until(ask('help'), HOUR)).status).toBe(200);
    expect(b.socket.counters).toMatchObject({ earlyIn: 0, tooEarly: 1 });
    expect(b.handled).toHaveLength(1);
  });

  test.each([0, 1, 2, 3])('arrives once under loss and duplication (seed %i)', async (seed) => {
    const { world, b, ask } = await acquainted(10 + seed, SLOW);
    world.connect('a', 'b', SLOW, { loss: 0.3, duplication: 0.3 });
    expect((await world.time.until(ask('help'), HOUR)).status).toBe(200);
    await world.time.pass(HOUR);
    expect(b.handled).toHaveLength(1);
  });

  test('is on the disk as taken before the handler has it', async () => {
    const world = await acquainted(4, FAST);
    let rows: unknown[] = [];
    world.b.answer = async () => {
      rows = await world.database.all('SELECT generation FROM pipe_early');
      return { status: 200, headers: {} };
    };
    await world.world.time.until(world.ask('help'), HOUR);
    expect(rows).toHaveLength(1);
  });

  test('does not come again when the receiver has started anew and somebody repeats it', async () => {
    const { world, a, b, ask, startB } = await acquainted(5, FAST);
    await world.time.until(ask('help'), HOUR);
    const first = a.observed.findLast(({ label }) => label === 'IK1')!;
    await b.socket.close();
    const again = startB();
    await world.time.pass(1_000);
    world.connect('x', 'b', FAST);
    world.network.join('x', FAST).send('b', first.bytes, 'IK1');
    await world.time.pass(MINUTE);
    expect(again.handled).toEqual([]);
    expect(again.socket.counters.pipe.replayed).toBeGreaterThan(0);
  });

  test('that comes again, since the disk is an older one, is done once: by its transaction', async () => {
    const { world, a, b, ask, startB, database } = await acquainted(6, FAST);
    const network = new Network();
    const { receiver } = await openSide(network, B, testKey(2), 2);
    const take: Node['answer'] = async () => {
      const pdus = await receiver.receive(A, '1', { origin: A, origin_server_ts: 1, pdus: [] });
      return { status: 200, headers: {}, body: { kind: 'json', value: pdus } };
    };
    b.answer = take;
    const answer = await world.time.until(ask('help'), HOUR);
    const sent = a.observed.findLast(({ label }) => label === 'IK1')!;
    await b.socket.close();
    await database.transaction(async (tx) => {
      await tx.run('DELETE FROM pipe_early');
      // The session that has come of it is not there either, but one of before.
      await tx.run('UPDATE pipe_sessions SET generation = generation - 10000000');
    });
    const again = startB();
    again.answer = take;
    await world.time.pass(1_000);
    world.connect('x', 'b', FAST);
    world.network.join('x', FAST).send('b', sent.bytes, 'IK1');
    await world.time.pass(MINUTE);
    expect(again.handled).toHaveLength(1);
    expect(receiver.counters.repeated).toBe(1);
    expect(answer).toMatchObject({ status: 200, body: { value: { pdus: {} } } });
  });
});

const request = (method: Method, path: string): ExchangeRequest => ({ method, path, query: '' });

describe('the list', () => {
  const ROOM = '/_matrix/client/v3/rooms/!room%3Aa.example';

  test.each([
    ['PUT', '/_matrix/federation/v1/send/1a'],
    ['PUT', `${ROOM}/send/m.room.message/t1`],
    ['PUT', `${ROOM}/redact/%24event/t1`],
  ] as const)('has %s %s where the operator allows it', (method, path) => {
    expect(isEarlySend(request(method, path))).toBe(true);
    expect(mayBeEarly(request(method, path), true)).toBe(true);
    expect(mayBeEarly(request(method, path), false)).toBe(false);
  });

  test.each([
    ['GET', '/_matrix/client/versions'],
    ['GET', '/_matrix/federation/v1/version'],
    ['GET', '/_matrix/key/v2/server'],
  ] as const)('has %s %s, which nobody sends early: its answer comes no sooner', (method, path) => {
    expect(isEarlySend(request(method, path))).toBe(false);
    expect(mayBeEarly(request(method, path), false)).toBe(true);
  });

  test.each([
    ['GET', '/_matrix/client/v3/sync'],
    ['GET', `${ROOM}/messages`],
    ['GET', '/_matrix/federation/v1/make_join/!r/@u'],
    ['POST', '/_matrix/client/v3/login'],
    ['PUT', `${ROOM}/state/m.room.name/`],
    ['PUT', `${ROOM}/typing/@u`],
    ['PUT', `${ROOM}/send/m.room.message`],
    ['PUT', `${ROOM}/send/m.room.message/t1/more`],
    ['PUT', '/_matrix/federation/v2/send_join/!r/$e'],
    ['PUT', '/_matrix/federation/v2/invite/!r/$e'],
    ['DELETE', '/_matrix/federation/v1/send/1'],
    ['PUT', '/_matrix/federation/v1/send/1?x'],
    ['PUT', '//_matrix/federation/v1/send/1'],
  ] as const)('has not %s %s', (method, path) => {
    expect(isEarlySend(request(method, path))).toBe(false);
    expect(mayBeEarly(request(method, path), true)).toBe(false);
  });

  test('has nothing that brings a token, which would be in a message that can be repeated', () => {
    const send = { ...request('PUT', `${ROOM}/send/m.room.message/t1`), authorization: 'Bearer x' };
    expect([isEarlySend(send), mayBeEarly(send, true)]).toEqual([false, false]);
  });

  test('answers 425 to everything else', () => {
    expect(TOO_EARLY).toMatchObject({ status: 425, body: { kind: 'json' } });
  });
});
