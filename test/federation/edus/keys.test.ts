import { describe, expect, it } from 'vitest';
import { KeysRun } from './keys_run.ts';

const STEPS = 150;

describe('two servers over a link that loses what it carries', () => {
  it.each([1, 2])('give no key twice, miss no change, lose and double no message (seed %i)', async (seed) => {
    const run = await KeysRun.open(seed);
    for (let at = 0; at < STEPS; at++) await run.step();
    await run.end();
    expect(run.problems).toEqual([]);
    expect(Object.entries(run.counts).filter(([, count]) => count === 0)).toEqual([]);
  });
});
