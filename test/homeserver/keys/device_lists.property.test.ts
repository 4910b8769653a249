import { describe, expect, test } from 'vitest';
import { DeviceListsRun } from './device_lists_run.ts';

const SEEDS = [1, 2, 3, 4];
const STEPS = 60;

describe('device lists', () => {
  test.each(SEEDS)('tell everything that changed, and nothing else (seed %i)', async (seed) => {
    const run = new DeviceListsRun(seed);
    await run.run(STEPS);
    expect(run.counts.changed).toBeGreaterThan(0);
    expect(run.counts.left).toBeGreaterThan(0);
  });
});
