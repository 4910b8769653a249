import { readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { expect, it } from 'vitest';
import { CELLS, measure, render } from '../bench/goodput.ts';

const SNAPSHOT = resolve(import.meta.dirname, 'goodput.snapshot.md');

const rows = CELLS.map((cell) => measure(cell));

it('goodput and completion are what they were: `UPDATE_SNAPSHOT=1` writes the table anew', () => {
  const table = render(rows);
  if (process.env.UPDATE_SNAPSHOT === '1') writeFileSync(SNAPSHOT, table);
  expect(table).toBe(readFileSync(SNAPSHOT, 'utf8'));
});

it('sends every message exactly once with our timers where nothing is lost', () => {
  const lossless = rows.filter(({ loss, timers }) => loss === 0 && timers === 'ours');
  expect(lossless).toHaveLength(6);
  for (const row of lossless) expect(row).toMatchObject({ sends: 1, repeated: 0, inTime: 1, failed: 0 });
});

it('ends 99.9 % of exchanges within ten airtimes at 100 bit/s and 30 % loss each way, whatever the seed', () => {
  const cell = CELLS.find(
    ({ rate, loss, timers, offered }) => rate === 100 && loss === 0.3 && timers === 'ours' && offered === 1,
  )!;
  for (const seed of [1, 2, 3]) {
    const { inTime, exchanges } = measure(cell, seed);
    expect(exchanges).toBeGreaterThanOrEqual(3_000);
    expect(inTime, `seed ${seed}`).toBeGreaterThanOrEqual(0.999);
  }
});
