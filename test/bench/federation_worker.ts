import { parentPort } from 'node:worker_threads';
import { type FederationCounts, noCounts, simulateFederation } from '../federation/federation_world.ts';

/** What became of one seed. */
export interface SeedOutcome {
  readonly seed: number;
  readonly counts: FederationCounts;
  /** What was not as it has to be; undefined: nothing. */
  readonly problem: string | undefined;
}

parentPort!.on('message', async (seed: number) => {
  const counts = noCounts();
  let problem: string | undefined;
  try {
    await simulateFederation(seed, counts);
  } catch (error) {
    problem = error instanceof Error ? error.message : String(error);
  }
  parentPort!.postMessage({ seed, counts, problem } satisfies SeedOutcome);
});
