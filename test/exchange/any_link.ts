import { expect, test } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import type { LinkProfile } from '../../src/link/link.ts';
import { FAST, MINUTE, type Node, put, SLOW, World } from './world.ts';

const REQUESTS = 8;
const KINDS: readonly LinkProfile[] = [SLOW, { ...FAST, rate: 9600, delay: 300 }];

const texts = (node: Node): string[] => node.handled.map(({ request }) => JSON.stringify(request.body));

/** Requests both ways over links that lose, double, delay and damage, with restarts. */
export function soak(seeds: number): void {
  test(`whatever the link does, each request is handled at most once and answered with its own answer (seeds 1 to ${seeds})`, async () => {
    const totals = {
      answered: 0,
      timeout: 0,
      closed: 0,
      resent: 0,
      duplicates: 0,
      restarts: 0,
      forged: 0,
      replayed: 0,
    };
    const fates: Record<string, number> = {};
    for (let seed = 1; seed <= seeds; seed++) {
      const world = new World(seed);
      const dice = seededRandom(seed + 5000);
      const profile = KINDS[seed % KINDS.length]!;
      world.connect('a', 'b', profile, {
        loss: dice.fraction() * 0.4,
        duplication: dice.fraction() * 0.2,
        corruption: dice.fraction() * 0.1,
        reordering: dice.fraction() * 0.2,
        reorderingDelay: 5000,
      });
      const a = world.start('a', profile);
      let b = world.start('b', profile);
      const incarnations = [a, b];
      const restartAt = seed % 3 === 0 ? dice.integer(REQUESTS) : -1;
      const outcomes: Promise<void>[] = [];
      const ask = (from: Node, to: Node, text: string): void => {
        const request = from.socket.request(to.name, to.address, put(text), {
          timeoutMs: 240 * MINUTE,
          priority: 1,
        });
        const outcome = request.then(
          ({ body }) => {
            expect(body, `seed ${seed}`).toEqual({ kind: 'json', value: { text } });
            totals.answered++;
          },
          (error: { reason: 'timeout' | 'closed' }) => {
            expect(['timeout', 'closed']).toContain(error.reason);
            totals[error.reason]++;
          },
        );
        outcomes.push(outcome);
      };
      for (let i = 0; i < REQUESTS; i++) {
        const text = `${i}${'x'.repeat(dice.integer(300))}`;
        ask(a, b, text);
        ask(b, a, `back ${text}`);
        await world.time.pass(dice.integer(MINUTE));
        if (i !== restartAt) continue;
        await b.socket.close();
        b = world.start('b', profile);
        incarnations.push(b);
      }
      await world.time.until(Promise.all(outcomes), 300 * MINUTE);
      for (const node of incarnations) {
        expect(new Set(texts(node)).size, `seed ${seed}: handled twice`).toBe(node.handled.length);
        const { inPipe, pipe, restarts } = node.socket.counters;
        totals.resent += inPipe.resent;
        totals.duplicates += inPipe.duplicates;
        totals.restarts += restarts;
        totals.forged += pipe.unauthenticated;
        totals.replayed += pipe.replayed;
      }
      for (const [fate, count] of Object.entries(world.fates())) fates[fate] = (fates[fate] ?? 0) + count;
    }
    // Nothing of what should have happened has stayed away.
    for (const [what, count] of Object.entries({ ...totals, ...fates, timeout: 1 }))
      expect(count, what).toBeGreaterThan(0);
    expect(fates).toMatchObject({
      lost: expect.any(Number),
      duplicated: expect.any(Number),
      corrupted: expect.any(Number),
    });
    // CoAP gives up after half of its exchange lifetime; the sender above it tries again.
    expect(totals.timeout).toBeLessThan(totals.answered / 50);
  });
}
