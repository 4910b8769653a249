import { expect, it } from 'vitest';
import { KeysRun } from './keys_run.ts';

const SEEDS = 40;
const STEPS = 200;

it('no key is given twice, no change missed, no message lost or doubled, over many seeds', async () => {
  const totals: Record<string, number> = {};
  for (let seed = 100; seed < 100 + SEEDS; seed++) {
    const run = await KeysRun.open(seed);
    for (let at = 0; at < STEPS; at++) await run.step();
    await run.end();
    expect(run.problems, `seed ${seed}`).toEqual([]);
    for (const [name, count] of Object.entries(run.counts)) totals[name] = (totals[name] ?? 0) + count;
  }
  console.log(totals);
  expect(Object.entries(totals).filter(([, count]) => count === 0)).toEqual([]);
});
