import { describe, expect, it, vi } from 'vitest';
import { counters, worst } from './attacked/invariants.ts';
import { simulate } from './attacked_network.ts';

/*
 * RAVINE_SEEDS=first-last runs other seeds than the standard ones; RAVINE_SEEDS=17-17 replays one. Diffie-Hellman is a model
 * here, which takes most of the time else; real_keys.simulation.test.ts has it as it is. `npm run bench -- planted` shows which
 * bugs this finds.
 */
vi.mock('../../src/crypto/x25519.ts', () => import('./attacked/model_x25519.ts'));

const STANDARD = '1-5000';
/** Seeds in one test, so that the report shows progress. */
const BATCH = 500;
/** In so many runs everything that can happen does. */
const ENOUGH = 1_000;

const [first, last] = (process.env.RAVINE_SEEDS ?? STANDARD).split('-').map(Number) as [number, number];

/** Everything that was counted, by name; what is counted by kind has a name of two parts. */
const flat = (): [string, number][] =>
  Object.entries(counters).flatMap(([name, count]) =>
    typeof count === 'number'
      ? [[name, count] as [string, number]]
      : Object.entries(count).map(([kind, value]) => [`${name} ${kind}`, value] as [string, number]),
  );

describe('two servers and a device, an attacker and a bad network', () => {
  for (let from = first; from <= last; from += BATCH) {
    const to = Math.min(from + BATCH - 1, last);
    it(`keep every invariant, seeds ${from} to ${to}`, () => {
      for (let seed = from; seed <= to; seed++) {
        try {
          simulate(seed);
        } catch (error) {
          throw new Error(`RAVINE_SEEDS=${seed}-${seed}`, { cause: error });
        }
      }
    });
  }

  it.runIf(last - first + 1 >= ENOUGH)('have met everything that they were to meet', () => {
    process.stdout.write(
      `\nseeds ${first} to ${last}: ${JSON.stringify(counters)}, healing took at the worst ${JSON.stringify(worst)}\n`,
    );
    for (const [name, count] of flat()) expect(count, name).toBeGreaterThan(0);
  });
});
