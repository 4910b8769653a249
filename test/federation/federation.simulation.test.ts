import { describe, expect, it } from 'vitest';
import { noCounts, simulateFederation } from './federation_world.ts';

/* RAVINE_SEEDS=first-last runs other seeds than the standard ones; RAVINE_SEEDS=17-17 replays one. */
const STANDARD = '1-30';
/** In so many runs everything that can happen does. */
const ENOUGH = 30;

const [first, last] = (process.env.RAVINE_SEEDS ?? STANDARD).split('-').map(Number) as [number, number];

describe('three servers that send events in their short form, some of them before their signatures', () => {
  it(`have the same events in the end, all of them signed, seeds ${first} to ${last}`, async () => {
    const counts = noCounts();
    for (let seed = first; seed <= last; seed++) {
      try {
        await simulateFederation(seed, counts);
      } catch (error) {
        throw new Error(`RAVINE_SEEDS=${seed}-${seed}`, { cause: error });
      }
    }
    process.stdout.write(`\nfederation, seeds ${first} to ${last}: ${JSON.stringify(counts)}\n`);
    if (last - first + 1 < ENOUGH) return;
    for (const [what, count] of Object.entries(counts)) expect(count, what).toBeGreaterThan(0);
  });
});
