import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { pipeCrashes } from '../crash/pipe_crashes.ts';

const RUNS = 20;
const SEED = 1;

/* 200 and more: node test/crash/main.ts --runs 200 */
it(`loses nothing, repeats nothing and needs no handshake when servers are killed ${RUNS} times under traffic`, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ravine-crash-'));
  try {
    const report = await pipeCrashes({ runs: RUNS, seed: SEED, folder });
    expect(report.lost).toEqual([]);
    expect(report.twice).toEqual([]);
    expect(report.ledger.problems).toEqual([]);
    // Otherwise there is nothing to find.
    expect(report.acknowledged).toBeGreaterThan(10 * RUNS);
    expect(report.ledger.counts.salted).toBeGreaterThanOrEqual(2 * RUNS);
    expect(report.ledger.counts.records).toBeGreaterThan(10 * RUNS);
    expect(report.handshakes).toBe(0);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
