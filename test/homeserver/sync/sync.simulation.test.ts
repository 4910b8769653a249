import { expect, it } from 'vitest';
import { run } from './sync_run.ts';

const RUNS = 60;

it.each(Array.from({ length: RUNS }, (_, at) => 7_000 + at))(
  'a client that only applies what it is answered ends with what was done (seed %i)',
  async (seed) => {
    const { syncs } = await run(seed, { forks: false });
    expect(syncs).toBeGreaterThan(0);
  },
);

it.each(Array.from({ length: RUNS }, (_, at) => 8_000 + at))(
  'it does so too where another server builds on old events (seed %i)',
  async (seed) => {
    const { forks } = await run(seed, { forks: true });
    expect(forks).toBeGreaterThan(0);
  },
);
