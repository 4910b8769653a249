import { describe, expect, test } from 'vitest';
import type { TrustPolicy } from '../../src/exchange/trust.ts';
import { nameOf } from '../../src/pipe/identity.ts';
import type { PipeStore } from '../../src/pipe/resumption.ts';
import { pipeSessionStore } from '../../src/storage/pipe_sessions.ts';
import { IN_CLEAR } from '../../src/storage/sealing.ts';
import { temporaryDatabase } from '../storage/temporary_database.ts';
import { FAST, MINUTE, type Node, put, SLOW, World } from './world.ts';

const OPTIONS = { timeoutMs: 10 * MINUTE, priority: 1 } as const;
/** A handler that comes to no answer before the server stops. */
const never: Node['answer'] = (_, signal) =>
  new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(new Error('stopped')));
  });

/** Two servers with a session, each with a database, so that a restart goes on. */
async function connected(seed: number, profile = FAST) {
  const world = new World(seed);
  world.connect('a', 'b', profile);
  const stores: Record<string, PipeStore> = {
    a: pipeSessionStore(temporaryDatabase(), IN_CLEAR, 'udp'),
    b: pipeSessionStore(temporaryDatabase(), IN_CLEAR, 'udp'),
  };
  const start = (letter: string, trust?: TrustPolicy): Node =>
    world.start(letter, profile, { store: stores[letter]!, ...(trust && { trust }) });
  const [a, b] = [start('a'), start('b')];
  const ask = (from: Node, to: Node, text: string) =>
    from.socket.request(to.name, to.address, put(text), OPTIONS);
  await world.time.until(ask(a, b, 'hello'), 10 * MINUTE);
  /** What has gone over the link since, and is no data. */
  const others = () => world.seen.filter(({ label = '' }) => /^(XX|IK|hint)/.test(label)).length;
  const handshakes = others();
  return { world, start, stores, a, b, ask, newHandshakes: () => others() - handshakes };
}

describe('a server that goes on with its sessions', () => {
  test('asks after a restart, without a handshake', async () => {
    const { world, a, b, start, ask, newHandshakes } = await connected(1);
    await a.socket.close();
    const again = start('a');
    const response = await world.time.until(ask(again, b, 'again'), MINUTE);
    expect(response).toMatchObject({ status: 200, body: { value: { text: 'again' } } });
    expect(again.socket.counters).toMatchObject({ resumed: 1, established: 0, restarts: 0 });
    expect(b.socket.counters).toMatchObject({ established: 1, restarts: 1 });
    expect(newHandshakes()).toBe(0);
  });

  test('tells that nothing has come from their peers yet, and then what comes', async () => {
    const { world, a, b, start, ask, newHandshakes } = await connected(6);
    await b.socket.close();
    const told: string[] = [];
    start('b', {
      async decide(claim, _, isResumed) {
        told.push(`${nameOf(claim)} ${isResumed ? 'resumed' : 'new'}`);
        return { trusted: true };
      },
      heard: (server) => void told.push(server),
    });
    await world.time.pass(1_000);
    expect(told).toEqual(['a.example resumed']);
    await world.time.until(ask(a, b, 'again'), MINUTE);
    expect(told[1]).toBe('a.example');
    expect(newHandshakes()).toBe(0);
  });

  test('ends the session of a peer that is no longer wanted as soon as that is heard', async () => {
    const { world, a, b, start, ask } = await connected(7);
    await b.socket.close();
    let isWanted = true;
    const again = start('b', {
      decide: async () => (isWanted ? { trusted: true } : { trusted: false, reason: 'forgotten' }),
      heard(server) {
        if (!isWanted) again.socket.forget(server, 'forgotten');
      },
    });
    await world.time.until(ask(a, again, 'wanted'), MINUTE);
    isWanted = false;
    const asks = ['the last', 'too late'].map((text) => ask(a, again, text));
    for (const one of asks) one.catch(() => undefined);
    await world.time.pass(MINUTE);
    expect(again.socket.counters.refused).toBeGreaterThan(0);
    expect(again.handled.map(({ request }) => request)).toEqual(['wanted', 'the last'].map(put));
    await a.socket.close();
  });

  test.each([
    ['at any rate', FAST, 0],
    ['at 100 bit/s', SLOW, 1],
  ] as const)(
    '%s: restarted between request and answer, it is asked again and answers',
    async (_, profile, n) => {
      const { world, a, b, start, ask, newHandshakes } = await connected(2 + n, profile);
      b.answer = never;
      const outcome = ask(a, b, 'question');
      while (b.handled.length < 2) await world.time.pass(1_000);
      await b.socket.close();
      const again = start('b');
      expect(await world.time.until(outcome, 10 * MINUTE)).toMatchObject({
        status: 200,
        body: { value: { text: 'question' } },
      });
      // Once before the restart and once after it.
      const questions = (node: Node): number =>
        node.handled.filter(({ request }) => JSON.stringify(request).includes('question')).length;
      expect([questions(b), questions(again)]).toEqual([1, 1]);
      expect(a.socket.counters).toMatchObject({ established: 1, restarts: 1 });
      expect(again.socket.counters).toMatchObject({ established: 0, resumed: 1, restarts: 0 });
      expect(newHandshakes()).toBe(0);
    },
  );

  test('both restarted while a request waits: it is asked and answered, each handler runs once at most', async () => {
    const { world, a, b, start, ask, newHandshakes } = await connected(4);
    await a.socket.close();
    await b.socket.close();
    const [a2, b2] = [start('a'), start('b')];
    const outcomes = Promise.all([ask(a2, b2, 'from a'), ask(b2, a2, 'from b')]);
    for (const { status } of await world.time.until(outcomes, MINUTE)) expect(status).toBe(200);
    expect([a2.handled.length, b2.handled.length]).toEqual([1, 1]);
    expect([a2, b2].map(({ socket }) => socket.counters.restarts)).toEqual([1, 1]);
    expect(newHandshakes()).toBe(0);
  });

  test('waits for its sessions before it answers or asks anything', async () => {
    const { world, a, b, start, stores, ask, newHandshakes } = await connected(5);
    await a.socket.close();
    const { load } = stores.a!;
    let release = (): void => {};
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    stores.a!.load = async () => {
      await released;
      return load();
    };
    const again = start('a');
    const outcomes = Promise.all([ask(again, b, 'from a'), ask(b, again, 'from b')]);
    const before = world.seen.length;
    await world.time.pass(1_000);
    expect(world.seen.slice(before).filter(({ from }) => from === 'a')).toEqual([]);
    release();
    for (const { status } of await world.time.until(outcomes, MINUTE)) expect(status).toBe(200);
    expect(newHandshakes()).toBe(0);
  });

  test('tries a commit again that has failed, and says nothing under numbers that are not reserved', async () => {
    const { world, a, b, start, stores, ask, newHandshakes } = await connected(6);
    await a.socket.close();
    const { commit } = stores.a!;
    let failures = 2;
    stores.a!.commit = async (writes) => {
      if (failures-- > 0) throw new Error('the disk is full');
      return commit(writes);
    };
    const again = start('a');
    const before = world.seen.length;
    const outcome = ask(again, b, 'x');
    await world.time.pass(9_000);
    expect(world.seen.slice(before)).toEqual([]);
    expect(await world.time.until(outcome, MINUTE)).toMatchObject({ status: 200 });
    expect(newHandshakes()).toBe(0);
  });

  test('without what the last process has stored, or where it cannot be read, a handshake begins', async () => {
    const { world, a, b, start, stores, ask, newHandshakes } = await connected(7);
    await a.socket.close();
    stores.a!.load = () => Promise.reject(new Error('no such table'));
    const again = start('a');
    expect(await world.time.until(ask(again, b, 'x'), MINUTE)).toMatchObject({ status: 200 });
    expect(newHandshakes()).toBeGreaterThan(0);
  });
});
