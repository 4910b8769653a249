import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { type FailpointCase, failpoints } from '../crash/failpoints.ts';
import { pipeCrashes } from '../crash/pipe_crashes.ts';

const RUNS = 20;
const SEED = 1;

/** Of the boundaries that a full run comes by, those on which the rest hangs. */
const CASES: readonly FailpointCase[] = [
  { victim: 'alpha', situation: 'in a session', boundary: 'before COMMIT pipe_sessions commit' },
  { victim: 'bravo', situation: 'in a session', boundary: 'after COMMIT pipe_sessions commit' },
  { victim: 'alpha', situation: 'in a session', boundary: 'before COMMIT room_writer commit' },
  { victim: 'alpha', situation: 'in a session', boundary: 'after COMMIT room_writer commit' },
  { victim: 'alpha', situation: 'in a session', boundary: 'before send data CON PUT' },
  { victim: 'alpha', situation: 'in a session', boundary: 'after COMMIT sender attempt' },
  { victim: 'bravo', situation: 'in a session', boundary: 'before COMMIT receiver once' },
  { victim: 'bravo', situation: 'in a session', boundary: 'after COMMIT receiver once' },
  { victim: 'bravo', situation: 'in a session', boundary: 'after send data ACK 2.04' },
  { victim: 'alpha', situation: 'calls', boundary: 'after send XX3' },
  { victim: 'bravo', situation: 'is called', boundary: 'before send XX2' },
];

function emptyFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'ravine-crash-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/* 200 and more: node test/crash/main.ts --runs 200 */
it(`loses nothing, repeats nothing and needs no handshake when servers are killed ${RUNS} times under traffic`, async () => {
  const report = await pipeCrashes({ runs: RUNS, seed: SEED, folder: emptyFolder() });
  expect(report.lost).toEqual([]);
  expect(report.twice).toEqual([]);
  expect(report.ledger.problems).toEqual([]);
  // Otherwise there is nothing to find.
  expect(report.acknowledged).toBeGreaterThan(10 * RUNS);
  expect(report.ledger.counts.salted).toBeGreaterThanOrEqual(2 * RUNS);
  expect(report.ledger.counts.records).toBeGreaterThan(10 * RUNS);
  expect(report.handshakes).toBe(0);
});

/* All of them: node test/crash/main.ts --failpoints */
it(`loses nothing and repeats nothing when servers die at ${CASES.length} boundaries of commits and datagrams`, async () => {
  const report = await failpoints({ folder: emptyFolder(), cases: CASES });
  expect(report.cases.filter(({ hit }) => !hit)).toEqual([]);
  expect(report.lost).toEqual([]);
  expect(report.twice).toEqual([]);
  expect(report.ledger.problems).toEqual([]);
  expect(report.acknowledged).toBeGreaterThan(5 * CASES.length);
});
