import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { seededRandom } from '../base/random.ts';
import { type Clock, type Millis, systemClock } from '../base/time.ts';
import { VirtualTime } from '../base/virtual_time.ts';
import { Work } from '../base/work.ts';
import { airtime, ETHERNET_IPV4_UDP_OVERHEAD, type LinkProfile } from '../link/link.ts';
import { type LinkObservation, SimulatedNetwork } from '../link/simulated.ts';
import { startEphemeral } from '../server/ephemeral.ts';
import { firstMessage, type Phase } from './first_message.ts';

/** The largest datagram on the emulated link, in bytes of payload. */
const MTU = 1200;
/** How long the conversation may take in virtual time. */
const PATIENCE_MS: Millis = 30 * 24 * 60 * 60 * 1000;
/** After the last step, for answers that are still under way: this many round trips of a full datagram. */
const LAST_ROUND_TRIPS = 4;

export interface DemoOptions {
  /** Bits a second in each direction, counted on an Ethernet wire. */
  readonly rate: number;
  /** One way, in milliseconds. */
  readonly latency: Millis;
  /** Of each datagram, 0 to below 1. */
  readonly loss: number;
  readonly seed: number;
  /** Whether it takes as long as it takes. */
  readonly realTime: boolean;
  /** Told of everything on the link as it happens. */
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
  const { rate, latency, loss, seed } = options;
  const folder = mkdtempSync(join(tmpdir(), 'ravine-demo-'));
  const time = options.realTime ? undefined : new VirtualTime();
  const clock: Clock = time?.clock ?? systemClock;
  const work = time?.work ?? new Work();
  const until = <T>(outcome: Promise<T>): Promise<T> => time?.until(outcome, PATIENCE_MS) ?? outcome;

  const costs: { phase: Phase; datagrams: number; bytes: number; start: Millis }[] = [];
  const network = new SimulatedNetwork({
    clock,
    random: seededRandom(seed),
    observe(observation) {
      const cost = costs.at(-1);
      if (cost !== undefined && observation.fate === 'sent') {
        cost.datagrams++;
        cost.bytes += observation.wire;
      }
      options.observe(observation, cost?.phase);
    },
  });
  const profile: LinkProfile = { mtu: MTU, rate, delay: latency, overhead: ETHERNET_IPV4_UDP_OVERHEAD };
  network.connect('alpha', 'bravo', { rate, latency, loss, mtu: MTU });
  const start = (name: string, peer: string, seedOffset: number) =>
    startEphemeral({
      clock,
      random: seededRandom(seed * 2 + seedOffset),
      work,
      folder,
      link: network.join(name, profile),
      config: {
        server_name: `${name}.example`,
        // No key API can be asked across this link: the first key seen is kept.
        federation: { peers: [{ server_name: `${peer}.example`, address: `ravine://${peer}`, trust: 'tofu' }] },
      },
    });
  const alpha = await until(start('alpha', 'bravo', 0));
  const bravo = await until(start('bravo', 'alpha', 1));
  try {
    await firstMessage({
      alpha: alpha.app,
      bravo: bravo.app,
      phase: (phase) => void costs.push({ phase, datagrams: 0, bytes: 0, start: clock.monotonic() }),
      until,
    });
    const end = clock.monotonic();
    await time?.pass(LAST_ROUND_TRIPS * 2 * (airtime(profile, MTU) + latency));
    return costs.map(({ phase, datagrams, bytes, start }, i) => ({
      phase,
      datagrams,
      bytes,
      duration: (costs[i + 1]?.start ?? end) - start,
    }));
  } finally {
    await until(Promise.all([alpha.stop(), bravo.stop()]));
    rmSync(folder, { recursive: true, force: true });
  }
}

