import { expect, test } from 'vitest';
import { CoapWorld, type Counts, NO_COUNTS } from './coap_world.ts';

const SEEDS = 5_000;
const SEEDS_RUN_TWICE = 50;

const only = process.env.COAP_SEED;

function run(seed: number): CoapWorld {
  const world = new CoapWorld(seed);
  try {
    world.run();
  } catch (error) {
    const command = `COAP_SEED=${seed} npx vitest run --project simulation test/simulation/coap.test.ts`;
    throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : error}\nAgain: ${command}`, {
      cause: error,
    });
  }
  return world;
}

test.runIf(only !== undefined)(`CoAP over a bad network, seed ${only}`, () => {
  run(Number(only));
});

test.skipIf(only !== undefined)(
  `CoAP over a bad network: each request ends once, nothing is done twice, nothing stays: seeds 0 to ${SEEDS - 1}`,
  () => {
    const sums: Counts = { ...NO_COUNTS };
    const names = Object.keys(sums) as (keyof Counts)[];
    for (let seed = 0; seed < SEEDS; seed++) {
      const { counts } = run(seed);
      for (const name of names) sums[name] += counts[name];
    }
    process.stdout.write(`CoAP, ${SEEDS} seeds: ${JSON.stringify(sums)}\n`);
    expect(names.filter((name) => sums[name] === 0)).toEqual([]);
    expect(sums.answered).toBeGreaterThan(sums.timeouts);
  },
);

test.skipIf(only !== undefined)(
  `the same seed sends the same bytes: seeds 0 to ${SEEDS_RUN_TWICE - 1}`,
  () => {
    const digests = (): number[] => Array.from({ length: SEEDS_RUN_TWICE }, (_, seed) => run(seed).digest);
    expect(digests()).toEqual(digests());
    expect(new Set(digests()).size).toBe(SEEDS_RUN_TWICE);
  },
);
