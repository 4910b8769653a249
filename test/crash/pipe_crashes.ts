import { join } from 'node:path';
import { seededRandom } from '../../src/base/random.ts';
import { type Millis, sleep, systemClock } from '../../src/base/time.ts';
import { freePort } from '../free_port.ts';
import { RavineProcess } from '../interop/ravine_process.ts';
import type { RecordLedger } from './record_ledger.ts';
import { RecordProxy } from './record_proxy.ts';
import { compared, configOf, healed, NAMES, type Name, Speaker } from './speaker.ts';

/*
 *   alpha (a process, real files) ──UDP── the proxy ──UDP── bravo (a process, real files)
 *     │ HTTP                          writes a ledger          │ HTTP
 *   alice says 0, 1, 2 ...                                   bob says 0, 1, 2 ...
 *
 * In each run one of the processes is killed at a random moment and started again on what its files hold.
 */

/** Until a run's victim dies, and until it is started again, at most. */
const LONGEST_RUN_MS: Millis = 400;
const LONGEST_PAUSE_MS: Millis = 100;

export interface CrashReport {
  readonly acknowledged: number;
  /** Messages that were acknowledged and are not at both servers. */
  readonly lost: readonly string[];
  /** Messages that a server has more than once. */
  readonly twice: readonly string[];
  readonly ledger: RecordLedger;
  /** Handshakes begun, and hints, since the first kill. */
  readonly handshakes: number;
  /** From a start until both sides have heard from each other. */
  readonly slowestHealMs: Millis;
}

/**
 * Kills and starts `runs` times one of two servers that talk through a pipe, and compares what they have in the end with
 * what they have acknowledged.
 * @param folder an empty one
 * @param progress is called after each run
 */
export async function pipeCrashes(options: {
  readonly runs: number;
  readonly seed: number;
  readonly folder: string;
  readonly progress?: (run: number, victim: Name, healedMs: Millis) => void;
}): Promise<CrashReport> {
  const { runs, seed, folder, progress } = options;
  const random = seededRandom(seed);
  const ports = { alpha: await freePort('udp'), bravo: await freePort('udp') };
  const proxy = await RecordProxy.open(NAMES.map((name) => [name, ports[name]]));
  const speakerOf = (name: Name, other: Name): Speaker =>
    new Speaker(name, new RavineProcess(join(folder, name), configOf(name, other, ports, proxy)));
  const [alpha, bravo] = [speakerOf('alpha', 'bravo'), speakerOf('bravo', 'alpha')];
  const talks: Promise<void>[] = [];
  try {
    await Promise.all([alpha.start(), bravo.start()]);
    await bravo.join(await alpha.createRoom());
    talks.push(alpha.talk(), bravo.talk());
    // A talk that fails is found by the end of this; until then it must not be an unhandled rejection.
    for (const talk of talks) talk.catch(() => undefined);
    let slowestHealMs = await healed(alpha, bravo);
    const { openings, hints } = proxy.ledger.counts;
    for (let run = 1; run <= runs; run++) {
      const victim = random.integer(2) === 0 ? alpha : bravo;
      await sleep(systemClock, random.integer(LONGEST_RUN_MS));
      await victim.process.end('SIGKILL');
      await sleep(systemClock, random.integer(LONGEST_PAUSE_MS));
      await victim.process.start();
      proxy.replay(victim.name);
      const healedMs = await healed(alpha, bravo);
      slowestHealMs = Math.max(slowestHealMs, healedMs);
      progress?.(run, victim.name, healedMs);
    }
    for (const speaker of [alpha, bravo]) speaker.stopTalking();
    await Promise.all(talks);
    const { lost, twice } = await compared(alpha, bravo);
    const { counts } = proxy.ledger;
    return {
      acknowledged: alpha.acknowledged.length + bravo.acknowledged.length,
      ...{ lost, twice },
      ledger: proxy.ledger,
      handshakes: counts.openings + counts.hints - openings - hints,
      slowestHealMs,
    };
  } finally {
    for (const speaker of [alpha, bravo]) speaker.stopTalking();
    await Promise.allSettled(talks);
    await Promise.all([alpha.process.end('SIGKILL'), bravo.process.end('SIGKILL')]);
    await proxy.close();
  }
}
