import type { Millis } from '../base/time.ts';
import { airtime } from '../link/link.ts';
import type { LinkObservation } from '../link/simulated.ts';
import { firstMessage, type Phase } from './first_message.ts';
import { Pair, type PairOptions } from './pair.ts';

/** After the last step, for answers that are still under way: this many round trips of a full datagram. */
const LAST_ROUND_TRIPS = 4;

export interface DemoOptions extends Omit<PairOptions, 'observe'> {
  /** Told of everything on the link as it happens, and in which phase. */
  readonly observe: (observation: LinkObservation, phase: Phase | undefined) => void;
}

/** What one phase cost on the link. */
export interface PhaseCost {
  readonly phase: Phase;
  readonly datagrams: number;
  /** Bytes on an Ethernet wire, both directions. */
  readonly bytes: number;
  /** From its beginning to the beginning of the next. */
  readonly duration: Millis;
}

/** Two complete servers on an emulated link, and the shortest conversation over it. */
export async function runDemo(options: DemoOptions): Promise<readonly PhaseCost[]> {
  const costs: { phase: Phase; datagrams: number; bytes: number; start: Millis }[] = [];
  const pair = await Pair.start({
    ...options,
    observe(observation) {
      const cost = costs.at(-1);
      if (cost !== undefined && observation.fate === 'sent') {
        cost.datagrams++;
        cost.bytes += observation.wire;
      }
      options.observe(observation, cost?.phase);
    },
  });
  try {
    await firstMessage({
      alpha: pair.alpha.app,
      bravo: pair.bravo.app,
      phase: (phase) => void costs.push({ phase, datagrams: 0, bytes: 0, start: pair.clock.monotonic() }),
      until: (outcome) => pair.until(outcome),
    });
    const end = pair.clock.monotonic();
    const { profile } = pair;
    await pair.pass(LAST_ROUND_TRIPS * 2 * (airtime(profile, profile.mtu) + profile.delay));
    return costs.map(({ phase, datagrams, bytes, start }, i) => ({
      phase,
      datagrams,
      bytes,
      duration: (costs[i + 1]?.start ?? end) - start,
    }));
  } finally {
    await pair.close();
  }
}
