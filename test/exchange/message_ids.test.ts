import { describe, expect, test } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { type Delivery, rfc7252Timing } from '../../src/coap/timing.ts';
import { AgreedForms, OWN_DICTIONARIES } from '../../src/exchange/agreed_form.ts';
import type { ExchangeRequest } from '../../src/exchange/request.ts';
import type { Conditions } from '../../src/link/simulated.ts';
import type { PipeStore } from '../../src/pipe/resumption.ts';
import { pipeSessionStore } from '../../src/storage/pipe_sessions.ts';
import { IN_CLEAR } from '../../src/storage/sealing.ts';
import { temporaryDatabase } from '../storage/temporary_database.ts';
import { FAST, MINUTE, type Node, put, SLOW, World } from './world.ts';

const OPTIONS = { timeoutMs: 60 * MINUTE, priority: 1 } as const;
/** Does not get smaller by compression, so that it goes in blocks on either link. */
const LARGE = Buffer.from(seededRandom(9).bytes(6_000)).toString('base64');

const textOf = ({ body }: ExchangeRequest): string => {
  const value = body?.kind === 'json' ? (body.value as { readonly text: string }) : { text: '' };
  return value.text.slice(0, 20);
};

/** What each request was named by, in all times that a handler got it. */
function names(...nodes: readonly Node[]): Map<string, Set<string>> {
  const all = new Map<string, Set<string>>();
  for (const { request, message } of nodes.flatMap(({ handled }) => handled)) {
    const text = textOf(request);
    all.set(text, (all.get(text) ?? new Set()).add(JSON.stringify(message)));
  }
  return all;
}

/** Two servers that keep their sessions. */
async function connected(seed: number, profile = FAST, conditions: Partial<Conditions> = {}) {
  const world = new World(seed);
  world.connect('a', 'b', profile);
  const stores: Record<string, PipeStore> = {
    a: pipeSessionStore(temporaryDatabase(), IN_CLEAR, 'udp'),
    b: pipeSessionStore(temporaryDatabase(), IN_CLEAR, 'udp'),
  };
  const start = (letter: string): Node => world.start(letter, profile, { store: stores[letter]! });
  const [a, b] = [start('a'), start('b')];
  const ask = (from: Node, to: Node, text: string) =>
    from.socket.request(to.name, to.address, put(text), OPTIONS);
  await world.time.until(ask(a, b, 'hello'), 10 * MINUTE);
  world.connect('a', 'b', profile, conditions);
  return { world, start, a, b, ask };
}

const never: Node['answer'] = (_, signal) =>
  new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(new Error('stopped')));
  });

describe('the name of a request', () => {
  test('is another one for each, whoever asks, and the same for all copies (seeds 1 to 4)', async () => {
    for (const seed of [1, 2, 3, 4]) {
      const conditions = { loss: 0.3, duplication: 0.2, reordering: 0.3, reorderingDelay: 9_000 };
      const { world, a, b, ask } = await connected(seed, SLOW, conditions);
      const texts = Array.from({ length: 12 }, (_, i) => `text ${i}`);
      const outcomes = texts.map((text, i) => (i % 3 === 0 ? ask(b, a, text) : ask(a, b, text)));
      await world.time.until(Promise.all(outcomes), 60 * MINUTE);
      const named = [names(a), names(b)];
      expect(
        named.reduce((sum, { size }) => sum + size, 0),
        `seed ${seed}`,
      ).toBe(13);
      for (const one of named) {
        const ids = [...one.values()].flatMap((set) => [...set]);
        expect(new Set(ids).size, `seed ${seed}`).toBe(one.size);
        expect(ids).not.toContain(undefined);
      }
    }
  });

  test.each([
    ['in one message', 'question'],
    ['in blocks', LARGE],
  ])('%s, is the same after the server has started anew', async (_, text) => {
    for (const profile of [FAST, SLOW]) {
      const { world, a, b, start, ask } = await connected(5, profile);
      b.answer = never;
      const outcome = ask(a, b, text);
      while (b.handled.length < 2) await world.time.pass(1_000);
      await b.socket.close();
      const again = start('b');
      expect(await world.time.until(outcome, 60 * MINUTE)).toMatchObject({ status: 200 });
      expect([b, again].map(({ handled }) => handled.length)).toEqual([2, 1]);
      const named = names(b, again).get(text.slice(0, 20))!;
      expect([...named]).toHaveLength(1);
      expect([...named]).not.toContain(undefined);
    }
  });

  test('is the same where a new session begins between two copies', async () => {
    const { world, a, b, ask } = await connected(6);
    // Nothing that b says arrives, until a suspects the session and the copy after the handshake is answered.
    world.network.connect('a', 'b', {}, { loss: 1 });
    const outcome = ask(a, b, 'question');
    while (b.handled.length < 2) await world.time.pass(100);
    const sessions = a.socket.counters.established;
    await world.time.pass(20_000);
    world.network.connect('a', 'b', {});
    expect(await world.time.until(outcome, 5 * MINUTE)).toMatchObject({ status: 200 });
    expect(a.socket.counters.established).toBeGreaterThan(sessions);
    // Its copies on the new session are known to be copies: the handler has run once.
    expect(b.handled.map(({ request }) => textOf(request))).toEqual(['hello', 'question']);
    expect(b.socket.counters.inPipe.duplicates).toBeGreaterThan(0);
  });

  test('is of the session and of who has opened it', async () => {
    const { world, a, b, ask } = await connected(7);
    await world.time.until(ask(b, a, 'back'), MINUTE);
    const [fromA, fromB] = [b.handled.at(-1)!.message!, a.handled.at(-1)!.message!];
    expect(fromA.generation % 2).toBe(1);
    expect(fromB.generation).toBe(fromA.generation - 1);
  });
});

describe('a lone request and its answer', () => {
  test('have records of 20 bytes beside options and payload, and an answer without those takes no more', async () => {
    const { world, a, b, ask } = await connected(8);
    b.answer = async () => ({ status: 200, headers: {} });
    const before = world.seen.length;
    await world.time.until(ask(a, b, 'x'), MINUTE);
    const [request, answer] = world.seen.slice(before).filter(({ fate }) => fate === 'sent');
    expect([request?.label, answer?.label]).toEqual(['data CON PUT', 'data ACK 2.04']);
    expect(answer!.bytes).toBe(3 + 1 + 16);
    const { bytes } = a.observed.findLast(({ label }) => label === 'data CON PUT')!;
    const packed = new AgreedForms(() => ({ dictionaries: OWN_DICTIONARIES })).encodeRequest(
      b.name,
      put('x'),
    );
    if (!packed.ok) throw new Error(packed.problem);
    expect(bytes.length).toBe(3 + 1 + packed.value.payload.length + 16);
  });

  test('tell the timer which copy the answer is to', async () => {
    const replies: Delivery[] = [];
    const timing = { ...rfc7252Timing(), replied: (delivery: Delivery) => replies.push(delivery) };
    const world = new World(10);
    world.connect('a', 'b', FAST);
    const [a, b] = [
      world.start('a', FAST, { timing: { pipe: timing, plain: timing } }),
      world.start('b', FAST),
    ];
    const ask = () => a.socket.request(b.name, b.address, put('x'), OPTIONS);
    await world.time.until(ask(), MINUTE);
    world.network.connect('a', 'b', { loss: 1 }, {});
    const outcome = ask();
    await world.time.pass(1_000);
    world.network.connect('a', 'b', {});
    await world.time.until(outcome, MINUTE);
    expect(replies.map(({ answered }) => answered)).toEqual([0, 1]);
  });
});
