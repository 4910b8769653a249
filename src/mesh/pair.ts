import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { seededRandom } from '../base/random.ts';
import { type Clock, type Millis, systemClock } from '../base/time.ts';
import { VirtualTime } from '../base/virtual_time.ts';
import { Work } from '../base/work.ts';
import { ETHERNET_IPV4_UDP_OVERHEAD, type LinkProfile } from '../link/link.ts';
import { type Conditions, type LinkObservation, SimulatedNetwork } from '../link/simulated.ts';
import { startEphemeral } from '../server/ephemeral.ts';
import type { Homeserver } from '../server/homeserver.ts';
import { loadModels, type Models, modelsFor } from '../server/models.ts';

export const SIDES = ['alpha', 'bravo'] as const;
export type Side = (typeof SIDES)[number];

/** The largest datagram on the emulated link, in bytes of payload. */
const MTU = 1200;
/** How long anything may take in virtual time. */
const PATIENCE_MS: Millis = 30 * 24 * 60 * 60 * 1000;

export interface PairOptions {
  /** Bits a second in each direction, counted on an Ethernet wire. */
  readonly rate: number;
  /** One way, in milliseconds. */
  readonly latency: Millis;
  /** Of each datagram, 0 to below 1. */
  readonly loss: number;
  readonly seed: number;
  /** Whether it takes as long as it takes, instead of virtual time. */
  readonly realTime?: boolean;
  /** Told of everything on the link as it happens. */
  readonly observe?: (observation: LinkObservation) => void;
}

/** Two complete homeservers, `alpha.example` and `bravo.example`, on an emulated link. */
export class Pair {
  readonly clock: Clock;
  readonly network: SimulatedNetwork;
  readonly #options: PairOptions;
  readonly #models: Models;
  readonly #time: VirtualTime | undefined;
  readonly #work: Work;
  readonly #folder = mkdtempSync(join(tmpdir(), 'ravine-pair-'));
  readonly #running = new Map<Side, Homeserver>();
  #starts = 0;

  private constructor(options: PairOptions, models: Models) {
    this.#options = options;
    this.#models = models;
    this.#time = options.realTime === true ? undefined : new VirtualTime();
    this.clock = this.#time?.clock ?? systemClock;
    this.#work = this.#time?.work ?? new Work();
    const { observe, rate, latency, loss, seed } = options;
    this.network = new SimulatedNetwork({
      clock: this.clock,
      random: seededRandom(seed),
      ...(observe && { observe }),
    });
    this.network.connect('alpha', 'bravo', { rate, latency, loss, mtu: MTU });
  }

  static async start(options: PairOptions): Promise<Pair> {
    const names = modelsFor({ models: 'auto' }, options);
    const pair = new Pair(options, await loadModels(names));
    for (const side of SIDES) await pair.start(side);
    return pair;
  }

  /** What the servers know of the link. */
  get profile(): LinkProfile {
    const { rate, latency } = this.#options;
    return { mtu: MTU, rate, delay: latency, overhead: ETHERNET_IPV4_UDP_OVERHEAD };
  }

  get alpha(): Homeserver {
    return this.server('alpha');
  }

  get bravo(): Homeserver {
    return this.server('bravo');
  }

  server(side: Side): Homeserver {
    const server = this.#running.get(side);
    if (server === undefined) throw new Error(`${side} is not running`);
    return server;
  }

  /** Starts a side that was stopped, on the data that it left. */
  async start(side: Side): Promise<Homeserver> {
    const other = side === 'alpha' ? 'bravo' : 'alpha';
    const server = await this.until(
      startEphemeral({
        clock: this.clock,
        // Another seed at each start: a process that is started again throws other dice.
        random: seededRandom(this.#options.seed * 1_000 + this.#starts++),
        work: this.#work,
        folder: this.#folder,
        models: this.#models,
        link: this.network.join(side, this.profile),
        config: {
          server_name: `${side}.example`,
          // No key API can be asked across this link: the first key seen is kept.
          federation: {
            peers: [{ server_name: `${other}.example`, address: `ravine://${other}`, trust: 'tofu' }],
          },
        },
      }),
    );
    this.#running.set(side, server);
    return server;
  }

  async stop(side: Side): Promise<void> {
    await this.until(this.server(side).stop());
    this.#running.delete(side);
  }

  /** Changes the link in both directions from now on. */
  change(conditions: Partial<Conditions>): void {
    this.network.change('alpha', 'bravo', conditions);
    this.network.change('bravo', 'alpha', conditions);
  }

  /** Lets time pass until `outcome` settles, and answers it. */
  until<T>(outcome: Promise<T>): Promise<T> {
    return this.#time?.until(outcome, PATIENCE_MS) ?? outcome;
  }

  /** Lets virtual time pass; in real time nothing waits. */
  async pass(duration: Millis): Promise<void> {
    await this.#time?.pass(duration);
  }

  /** Stops what runs and removes the data. */
  async close(): Promise<void> {
    for (const side of [...this.#running.keys()]) await this.stop(side);
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
