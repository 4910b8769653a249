import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { clientCrashes, type DieAt } from '../crash/client_crashes.ts';

const RUNS = 8;
const SEED = 1;

/** Of the boundaries that the clients come by, those on which the rest hangs. */
const BOUNDARIES: readonly DieAt[] = [
  // The first ones may be of the start.
  { boundary: 'after COMMIT room_writer commit', nth: 10 },
  { boundary: 'before COMMIT account_data change' },
  { boundary: 'after COMMIT receipts mark' },
  { boundary: 'after COMMIT local_keys give' },
  { boundary: 'before COMMIT registration register' },
  { boundary: 'after COMMIT accounts setPassword' },
  { boundary: 'before COMMIT profiles tellRooms' },
];
/** At each boundary it is killed before as well, to be started with the order to die there. */
const KILLS = RUNS + 2 * BOUNDARIES.length;
/** Kinds of things that the clients do. */
const TRADES = 14;

/* 200 and more, at every boundary: node test/crash/main.ts --clients --runs 200 --failpoints */
it(`loses nothing that clients were answered, and repeats nothing, when a server dies ${KILLS} times under them`, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ravine-crash-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const report = await clientCrashes({ runs: RUNS, seed: SEED, folder, boundaries: BOUNDARIES });
  expect(report.wrong).toEqual([]);
  expect(report.missed).toEqual([]);
  // Otherwise there is nothing to find.
  expect(report.answered.size).toBe(TRADES);
  expect([...report.answered.values()].reduce((sum, times) => sum + times, 0)).toBeGreaterThan(10 * RUNS);
});
