import { join, resolve } from 'node:path';
import { seededRandom } from '../../src/base/random.ts';
import { type Millis, sleep, systemClock } from '../../src/base/time.ts';
import { RavineProcess } from '../interop/ravine_process.ts';
import { ClientLoad } from './client_load.ts';

/*
 *   clients of one server ──HTTP── a process, real files
 *
 * In each run the process dies, at a random moment or at a boundary (boundaries.ts), and is started again on what its
 * files hold. Before anybody goes on what it says is compared with what it has answered.
 */

const SERVER = [process.execPath, resolve(import.meta.dirname, 'server.ts')] as const;

/** Until a run's victim dies, at most. */
const LONGEST_RUN_MS: Millis = 600;
/** For a boundary to be reached. */
const REACH_MS: Millis = 20_000;
/** For the clients to come by every boundary there is. */
const FIRST_PASS_MS: Millis = 10_000;

export interface DieAt {
  /** Such as `before COMMIT receipts mark`. */
  readonly boundary: string;
  /** Which time that the server comes by; left out: the first. */
  readonly nth?: number;
}

/** Of the boundary that everything in rooms comes by: a time at which it is most likely a message. */
const NTH = 10;

export interface ClientCrashReport {
  /** How often each trade was answered. */
  readonly answered: ReadonlyMap<string, number>;
  /** What was said otherwise than it had been answered. */
  readonly wrong: readonly string[];
  /** Boundaries that were to be reached. */
  readonly missed: readonly string[];
}

/**
 * Kills and starts a server `runs` times under what clients do, and once more at each boundary.
 * @param folder an empty one
 * @param boundaries where it dies; `all`: at each that the clients come by in a first pass
 * @param progress is called with a line after each run
 */
export async function clientCrashes(options: {
  readonly runs: number;
  readonly seed: number;
  readonly folder: string;
  readonly boundaries: readonly DieAt[] | 'all';
  readonly progress?: (line: string) => void;
}): Promise<ClientCrashReport> {
  const { runs, seed, folder, progress = () => undefined } = options;
  const random = seededRandom(seed);
  const server = new RavineProcess(
    join(folder, 'alpha'),
    { server_name: 'alpha.test', coap: { enabled: false }, log: { level: 'warn' } },
    SERVER,
  );
  const load = new ClientLoad(server);
  const wrong: string[] = [];
  const missed: string[] = [];
  /** Starts the server that has died, and looks before anybody goes on. */
  const comeBack = async (line: string): Promise<void> => {
    const ended = server.end('SIGKILL');
    await Promise.all([ended, load.pause()]);
    await server.start();
    const found = await load.check();
    wrong.push(...found.map((one) => `${line}: ${one}`));
    load.resume();
    progress(`${line}${found.length === 0 ? '' : `: ${found.join('; ')}`}`);
  };
  try {
    await server.start();
    await load.begin();
    for (let run = 1; run <= runs; run++) {
      await sleep(systemClock, random.integer(LONGEST_RUN_MS));
      await comeBack(`${run}  killed`);
    }
    if (options.boundaries === 'all') await sleep(systemClock, FIRST_PASS_MS);
    const boundaries = options.boundaries === 'all' ? everyBoundary(server) : options.boundaries;
    for (const { boundary, nth = 1 } of boundaries) {
      const from = server.output.length;
      await Promise.all([server.end('SIGKILL'), load.pause()]);
      // It may die before it is up.
      const isUp = await server.start('--die-at', boundary, '--nth', String(nth)).then(
        () => true,
        () => false,
      );
      load.resume();
      const limit = new AbortController();
      if (isUp) await Promise.race([server.ended(), sleep(systemClock, REACH_MS, limit.signal)]);
      limit.abort();
      const hit = reachedIn(server.output.slice(from), 'dies').length > 0;
      if (!hit) missed.push(boundary);
      await comeBack(`${boundary}${hit ? '' : ' (not reached)'}`);
    }
    wrong.push(...(await load.end()));
    return { answered: load.answered, wrong, missed };
  } catch (error) {
    throw new Error(`the run ended early\n${server.output}`, { cause: error });
  } finally {
    await server.end('SIGKILL');
    await load.abandon();
  }
}

function everyBoundary(server: RavineProcess): DieAt[] {
  const boundaries = [...new Set(reachedIn(server.output, 'boundary'))];
  const ofRooms = boundaries.filter((boundary) => boundary.includes('room_writer'));
  return [
    ...boundaries.map((boundary) => ({ boundary })),
    ...ofRooms.map((boundary) => ({ boundary, nth: NTH })),
  ];
}

/** What a server has said of the boundaries that it came by. */
const reachedIn = (output: string, kind: 'boundary' | 'dies'): string[] =>
  [...output.matchAll(/^(boundary|dies): (.*)$/gm)]
    .filter(([, said]) => said === kind)
    .map(([, , boundary]) => boundary!);
