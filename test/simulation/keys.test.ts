import { describe, expect, it } from 'vitest';
import { noCounts } from './keys/counts.ts';
import { simulateKeys } from './keys/world.ts';

/* RAVINE_SEEDS=first-last runs other seeds than the standard ones; RAVINE_SEEDS=17-17 replays one. */
const STANDARD = '1-100';
/** In so many runs everything that can happen does. */
const ENOUGH = 100;

const [first, last] = (process.env.RAVINE_SEEDS ?? STANDARD).split('-').map(Number) as [number, number];

describe('two servers whose users have keys for end-to-end encryption', () => {
  it(`hand out no key twice, miss no change and lose no message, seeds ${first} to ${last}`, async () => {
    const counts = noCounts();
    for (let seed = first; seed <= last; seed++) {
      try {
        await simulateKeys(seed, counts);
      } catch (error) {
        throw new Error(`RAVINE_SEEDS=${seed}-${seed}`, { cause: error });
      }
    }
    process.stdout.write(`\nkeys, seeds ${first} to ${last}: ${JSON.stringify(counts)}\n`);
    if (last - first + 1 < ENOUGH) return;
    for (const [what, count] of Object.entries(counts)) expect(count, what).toBeGreaterThan(0);
  });
});
