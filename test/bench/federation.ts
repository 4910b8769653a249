import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { systemClock } from '../../src/base/time.ts';
import { noCounts } from '../federation/federation_world.ts';
import type { SeedOutcome } from './federation_worker.ts';

const PROGRESS_EVERY = 100;
const MAX_PROBLEM = 300;
const MINUTE_MS = 60_000;
/** With so many seeds everything that can happen does. */
const ENOUGH = 30;

interface FederationOptions {
  readonly json: boolean;
  readonly seed: number;
  readonly seeds: number;
  readonly minutes: number;
}

/**
 * Runs seeded federations of three servers (test/federation/federation_world.ts) on all cores, from the first seed on, until all
 * are done or the time is up: the last line says from which seed to go on.
 * @returns whether everything was as it has to be in each, and everything that can happen has happened
 */
export async function run({ json, seed: first, seeds, minutes }: FederationOptions): Promise<boolean> {
  const begin = systemClock.monotonic();
  const totals = noCounts();
  const failing: number[] = [];
  let next = first;
  let done = 0;
  const isOver = (): boolean =>
    next >= first + seeds || systemClock.monotonic() - begin >= minutes * MINUTE_MS;

  const lane = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const worker = new Worker(new URL('./federation_worker.ts', import.meta.url));
      const give = (): void => {
        if (isOver()) void worker.terminate().then(() => resolve());
        else worker.postMessage(next++);
      };
      worker.on('error', reject);
      worker.on('message', ({ seed, counts, problem }: SeedOutcome) => {
        for (const key of Object.keys(totals) as (keyof typeof totals)[]) totals[key] += counts[key];
        if (problem !== undefined) {
          failing.push(seed);
          process.stderr.write(`RAVINE_SEEDS=${seed}-${seed}: ${problem.slice(0, MAX_PROBLEM)}\n`);
        }
        if (++done % PROGRESS_EVERY === 0)
          process.stderr.write(`${done} of ${seeds}, ${failing.length} failing\n`);
        give();
      });
      give();
    });
  await Promise.all(Array.from({ length: availableParallelism() }, lane));

  const seconds = Math.round((systemClock.monotonic() - begin) / 1_000);
  const missing = Object.entries(totals).flatMap(([what, count]) => (count === 0 ? [what] : []));
  const result = { first, done, next, seconds, failing: failing.sort((a, b) => a - b), ...totals };
  if (json) process.stdout.write(`${JSON.stringify(result)}\n`);
  else
    process.stdout.write(
      `${done} seeds from ${first} in ${seconds} s, ${failing.length} failing${
        failing.length === 0 ? '' : ` (${failing.join(', ')})`
      }\n${Object.entries(totals)
        .map(([what, count]) => `  ${what.padEnd(14)}${count}`)
        .join('\n')}\n${next < first + seeds ? `go on with --seed ${next}\n` : ''}`,
    );
  return failing.length === 0 && (missing.length === 0 || done < ENOUGH);
}
