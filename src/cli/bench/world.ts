import { AsyncLocalStorage } from 'node:async_hooks';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { seededRandom } from '../../base/random.ts';
import type { Millis } from '../../base/time.ts';
import { VirtualTime } from '../../base/virtual_time.ts';
import type { Model } from '../../compact/mixer/model.ts';
import type { Layers } from '../../exchange/layers.ts';
import { ETHERNET_IPV4_UDP_OVERHEAD, type Link, type LinkProfile } from '../../link/link.ts';
import { SimulatedNetwork } from '../../link/simulated.ts';
import type { KeyLog } from '../../pipe/key_log.ts';
import { startEphemeral } from '../../server/ephemeral.ts';
import type { Homeserver } from '../../server/homeserver.ts';
import { loadModels, type ModelName } from '../../server/models.ts';

/** How long anything may take in virtual time. */
const PATIENCE_MS: Millis = 30 * 24 * 60 * 60 * 1000;
/** What is still under way after a measured step ends within this time: the last acknowledgements, at 100 bit/s too. */
const QUIET_MS: Millis = 5 * 60 * 1000;

/** The way between any two endpoints; nothing is lost on it. */
export interface Way {
  /** Bits a second in each direction; null: more than anybody needs, and nobody is told. */
  readonly rate: number | null;
  /** One way, in milliseconds. */
  readonly delay: Millis;
  /** The largest datagram, in bytes of payload. */
  readonly mtu: number;
}

/** An ordinary network, as a server takes it to be that is told nothing. */
export const FAST: Way = { rate: null, delay: 20, mtu: 1200 };
/** What the project is for. */
export const SLOW: Way = { rate: 100, delay: 1000, mtu: 1200 };

/** Of servers and clients, best first. */
const MODELS: readonly ModelName[] = ['large', 'small'];

/** coap.pipe.signatures. */
type Signatures = 'inline' | 'deferred';

/** The servers that a server takes as notaries, by its short name. */
export type NotariesOf = (name: string) => readonly string[];

/** The key log of a server, by its server name. */
export type KeyLogOf = (serverName: string) => KeyLog;

const layersInForce = new AsyncLocalStorage<Layers>();

/** Runs a scenario in whose worlds only these layers shorten anything. */
export const withLayers = <T>(layers: Layers, measure: () => Promise<T>): Promise<T> =>
  layersInForce.run(layers, measure);

/** One datagram as it was on the link. */
export interface Captured {
  readonly from: string;
  readonly to: string;
  readonly bytes: Uint8Array;
  /** How many they are on an Ethernet wire: 42 more. */
  readonly wire: number;
  readonly label: string;
}

/**
 * Complete homeservers in virtual time on an emulated network, whose datagrams are captured on the link. A server of the
 * name `alpha` is `alpha.example`, and its address is `alpha`.
 */
export class World {
  readonly time = new VirtualTime();
  readonly captured: Captured[] = [];
  readonly #names: readonly string[];
  readonly #seed: number;
  readonly #folder = mkdtempSync(join(tmpdir(), 'ravine-wire-'));
  readonly #network: SimulatedNetwork;
  readonly #running = new Map<string, Homeserver>();
  #way: Way;
  readonly #keyLog: KeyLogOf | undefined;
  readonly #signatures: Signatures;
  readonly #notaries: NotariesOf;
  /** What shortens what servers and clients say; undefined: all that there is. */
  readonly layers: Layers | undefined = layersInForce.getStore();
  #starts = 0;
  /** What is being handed to the network. */
  #sending = new Uint8Array(0);

  private constructor(
    names: readonly string[],
    way: Way,
    seed: number,
    keyLog: KeyLogOf | undefined,
    signatures: Signatures,
    notaries: NotariesOf,
  ) {
    this.#signatures = signatures;
    this.#notaries = notaries;
    this.#names = names;
    this.#way = way;
    this.#seed = seed;
    this.#keyLog = keyLog;
    this.#network = new SimulatedNetwork({
      clock: this.time.clock,
      random: seededRandom(seed),
      observe: ({ from, to, wire, label, fate }) => {
        if (fate === 'sent') this.captured.push({ from, to, bytes: this.#sending, wire, label });
      },
    });
  }

  /**
   * @param names of the servers, all of which know each other's addresses
   * @param keyLog of each of them
   * @param signatures as in their configurations
   * @param notaries short names, as in their configurations
   */
  static async open(
    names: readonly string[],
    way: Way = FAST,
    seed = 1,
    keyLog?: KeyLogOf,
    signatures: Signatures = 'inline',
    notaries: NotariesOf = () => [],
  ): Promise<World> {
    const world = new World(names, way, seed, keyLog, signatures, notaries);
    for (const name of names) await world.start(name);
    return world;
  }

  server(name: string): Homeserver {
    const server = this.#running.get(name);
    if (server === undefined) throw new Error(`${name} is not running`);
    return server;
  }

  /** Starts a server, on the data that it left where it ran before. */
  async start(name: string): Promise<void> {
    const others = this.#names.filter((other) => other !== name);
    for (const other of others) this.#connect(name, other);
    const models = await loadModels(MODELS);
    const server = await this.until(
      startEphemeral({
        clock: this.time.clock,
        random: this.dice(),
        work: this.time.work,
        folder: this.#folder,
        link: this.#join(name),
        ...(this.#keyLog && { keyLog: this.#keyLog(`${name}.example`) }),
        ...(this.layers && { layers: this.layers }),
        models,
        config: {
          server_name: `${name}.example`,
          coap: { plain: 'trusted', pipe: { models: 'large', signatures: this.#signatures } },
          federation: {
            // There is no key API that could confirm a key: the first one seen is kept.
            trust: 'tofu',
            notaries: this.#notaries(name).map((notary) => `${notary}.example`),
            peers: others.map((other) => ({
              server_name: `${other}.example`,
              address: `ravine://${other}`,
              trust: 'tofu' as const,
            })),
          },
        },
      }),
    );
    this.#running.set(name, server);
  }

  async stop(name: string): Promise<void> {
    await this.until(this.server(name).stop());
    this.#running.delete(name);
  }

  /** Starts all servers anew on another way. */
  async moveTo(way: Way): Promise<void> {
    for (const name of this.#names) await this.stop(name);
    this.#way = way;
    for (const name of this.#names) await this.start(name);
  }

  /** The models of a client. */
  async models(): Promise<readonly Model[]> {
    return [...(await loadModels(MODELS)).values()];
  }

  /** A link of a client, which reaches every server. */
  clientLink(name: string): Link {
    for (const server of this.#names) this.#connect(name, server);
    return this.#join(name);
  }

  /** Other dice at each call: a process that is started again throws other ones. */
  dice(): ReturnType<typeof seededRandom> {
    return seededRandom(this.#seed * 1_000 + this.#starts++);
  }

  /** Lets time pass until `outcome` settles, and answers it. */
  until<T>(outcome: Promise<T>): Promise<T> {
    return this.time.until(outcome, PATIENCE_MS);
  }

  /**
   * Runs `act` and lets what it has set going come to an end.
   * @returns the datagrams that were on the link from its beginning
   */
  async capture<T>(act: () => Promise<T>): Promise<{ readonly value: T; readonly datagrams: Captured[] }> {
    const before = this.captured.length;
    const value = await this.until(act());
    await this.time.pass(QUIET_MS);
    return { value, datagrams: this.captured.slice(before) };
  }

  /** Stops what runs and removes the data. */
  async close(): Promise<void> {
    for (const name of [...this.#running.keys()]) await this.stop(name);
    rmSync(this.#folder, { recursive: true, force: true });
  }

  get #profile(): LinkProfile {
    const { rate, delay, mtu } = this.#way;
    return { rate, delay, mtu, overhead: ETHERNET_IPV4_UDP_OVERHEAD };
  }

  #join(name: string): Link {
    const link = this.#network.join(name, this.#profile);
    return {
      profile: link.profile,
      send: (to, bytes, label) => {
        this.#sending = bytes.slice();
        link.send(to, bytes, label);
      },
      onReceive: (receive) => link.onReceive(receive),
      close: () => link.close(),
    };
  }

  #connect(a: string, b: string): void {
    const { rate, delay, mtu } = this.#way;
    this.#network.connect(a, b, { rate, latency: delay, mtu });
  }
}

/** Runs `use` in a world of its own. */
export async function inWorld<T>(
  names: readonly string[],
  use: (world: World) => Promise<T>,
  way?: Way,
  notaries?: NotariesOf,
): Promise<T> {
  const world = await World.open(names, way, undefined, undefined, undefined, notaries);
  try {
    return await use(world);
  } finally {
    await world.close();
  }
}

export const wireBytes = (datagrams: readonly Captured[]): number =>
  datagrams.reduce((total, { wire }) => total + wire, 0);

/** Bytes on the wire in both directions of an exchange that `asker` began. */
export function exchangeBytes(datagrams: readonly Captured[], asker: string): ExchangeBytes {
  const sum = (own: boolean): number => wireBytes(datagrams.filter(({ from }) => (from === asker) === own));
  return { request: sum(true), response: sum(false) };
}

/** Bytes on an Ethernet wire: of what the asking side sent, and of what it got. */
export interface ExchangeBytes {
  readonly request: number;
  readonly response: number;
}
