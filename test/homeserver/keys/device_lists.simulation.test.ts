import { expect, it } from 'vitest';
import { DeviceListsRun } from './device_lists_run.ts';

const RUNS = 40;
const STEPS = 120;

it.each(Array.from({ length: RUNS }, (_, at) => 9_000 + at))(
  'device lists tell everything that changed, and nothing else (seed %i)',
  async (seed) => {
    const run = new DeviceListsRun(seed);
    await run.run(STEPS);
    expect(run.counts.changed).toBeGreaterThan(0);
  },
);
