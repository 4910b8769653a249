import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { seededRandom } from '../../../src/base/random.ts';
import type { Millis } from '../../../src/base/time.ts';
import { VirtualTime } from '../../../src/base/virtual_time.ts';
import { ETHERNET_IPV4_UDP_OVERHEAD } from '../../../src/link/link.ts';
import { type Conditions, SimulatedNetwork } from '../../../src/link/simulated.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { completeConfig } from '../../../src/server/config.ts';
import { createHomeserver, type Homeserver } from '../../../src/server/homeserver.ts';
import { createLogger } from '../../../src/server/logger.ts';
import { migrate } from '../../../src/storage/migrate.ts';
import { IN_CLEAR } from '../../../src/storage/sealing.ts';
import { openSqlite, type SqliteDatabase } from '../../../src/storage/sqlite.ts';
import { type Death, MortalDatabase } from '../../doors/mortal_database.ts';

export const NAMES = ['alpha', 'bravo'] as const;
export type Name = (typeof NAMES)[number];
export const serverName = (name: Name): string => `${name}.example`;

const PROFILE = { mtu: 1200, rate: 1_000_000, delay: 20, overhead: ETHERNET_IPV4_UDP_OVERHEAD };
const PASSWORD_COST = { memoryKib: 8, passes: 1, lanes: 1 };
/** How long anything may take in virtual time. */
const WITHIN_MS: Millis = 24 * 3_600_000;

export interface Answer {
  /** 0: the server was killed, and nothing came back. */
  readonly status: number;
  readonly json: JsonObject;
}
const NOTHING: Answer = { status: 0, json: {} };

/** One server as a process that may be killed. */
interface Process {
  readonly homeserver: Homeserver;
  readonly database: MortalDatabase;
  /** Resolves when it is killed or stopped. */
  readonly gone: Promise<Answer>;
  readonly go: () => void;
}

/** What two servers have on their disks, and when. */
export interface Disks {
  readonly wall: Millis;
  readonly bytes: Readonly<Record<Name, Uint8Array>>;
}

/** Two whole servers in virtual time, between which only datagrams go, and that may be killed at any of their commits. */
export class TwoHomes {
  readonly time: VirtualTime;
  /** Requests of which a living server has said that it failed. */
  readonly failures: string[] = [];
  readonly #seed: number;
  readonly #network: SimulatedNetwork;
  readonly #folder = mkdtempSync(join(tmpdir(), 'ravine-keys-'));
  readonly #disks = new Map<Name, SqliteDatabase>();
  readonly #processes = new Map<Name, Process>();
  #conditions: Partial<Conditions> = {};
  #starts = 0;

  private constructor(seed: number, disks: Disks | undefined, lost: () => void) {
    this.#seed = seed;
    this.time = new VirtualTime(disks?.wall);
    this.#network = new SimulatedNetwork({
      clock: this.time.clock,
      random: seededRandom(seed),
      observe: ({ fate }) => {
        if (fate === 'lost' || fate === 'partitioned') lost();
      },
    });
    this.#network.connect('alpha', 'bravo', { ...PROFILE, latency: PROFILE.delay });
    for (const name of NAMES) {
      const path = this.#path(name);
      if (disks === undefined) migrate(path);
      else writeFileSync(path, disks.bytes[name]);
      this.#disks.set(name, openSqlite({ path, durability: 'off' }));
    }
  }

  /** @param lost told of each datagram that does not arrive */
  static async open(seed: number, disks?: Disks, lost: () => void = () => undefined): Promise<TwoHomes> {
    const homes = new TwoHomes(seed, disks, lost);
    for (const name of NAMES) await homes.#start(name);
    return homes;
  }

  isDead(name: Name): boolean {
    return this.#processes.get(name)!.database.isDead;
  }

  /** Kills it at a later commit. */
  dieAt(name: Name, death: Death | undefined): void {
    this.#processes.get(name)!.database.dieAt(death);
  }

  counters(name: Name): ReturnType<Homeserver['counters']> {
    return this.#processes.get(name)!.homeserver.counters();
  }

  /** Changes the link in both directions from now on. */
  change(conditions: Partial<Conditions>): void {
    this.#conditions = { ...this.#conditions, ...conditions };
    this.#network.change('alpha', 'bravo', conditions);
    this.#network.change('bravo', 'alpha', conditions);
  }

  /** One request of a client. */
  async call(
    name: Name,
    method: 'GET' | 'PUT' | 'POST' | 'DELETE',
    path: string,
    token?: string,
    body?: JsonObject,
  ) {
    const { homeserver, gone, database } = this.#processes.get(name)!;
    const answer = async (): Promise<Answer> => {
      const { statusCode, body: text } = await homeserver.app.inject({
        ...{ method, url: `/_matrix/client/v3${path}` },
        ...(token !== undefined && { headers: { authorization: `Bearer ${token}` } }),
        ...(body && { payload: body }),
      });
      // What a killed server says is not said.
      if (database.isDead) return NOTHING;
      if (statusCode === 500) this.failures.push(`${method} ${path}: ${text}`);
      return { status: statusCode, json: JSON.parse(text) as JsonObject };
    };
    return Promise.race([answer().catch(() => NOTHING), gone]);
  }

  /** Ends a process, where it has not been killed with a chance to save what it has to, and starts it again. */
  async restart(name: Name): Promise<void> {
    await this.#end(name);
    await this.#start(name);
  }

  until<T>(outcome: Promise<T>): Promise<T> {
    return this.time.until(outcome, WITHIN_MS);
  }

  async close(): Promise<Disks> {
    for (const name of NAMES) await this.#end(name);
    for (const disk of this.#disks.values()) await disk.close();
    const bytes = { alpha: readFileSync(this.#path('alpha')), bravo: readFileSync(this.#path('bravo')) };
    rmSync(this.#folder, { recursive: true, force: true });
    return { wall: this.time.clock.wall(), bytes };
  }

  #path(name: Name): string {
    return join(this.#folder, `${name}.db`);
  }

  async #end(name: Name): Promise<void> {
    const { homeserver, database, go } = this.#processes.get(name)!;
    go();
    // A killed process says goodbye to nobody.
    if (database.isDead)
      this.#network.change(name, name === 'alpha' ? 'bravo' : 'alpha', { partitioned: true });
    await this.until(
      homeserver.stop().catch((error: unknown) => {
        if (!database.isDead) throw error;
      }),
    );
    database.die();
    this.change(this.#conditions);
  }

  async #start(name: Name): Promise<void> {
    const other = name === 'alpha' ? 'bravo' : 'alpha';
    const database = new MortalDatabase(this.#disks.get(name)!);
    const { clock, work } = this.time;
    const config = completeConfig(
      {
        ...{ server_name: serverName(name), data: this.#folder, registration: 'open', limits: null },
        federation: {
          peers: [{ server_name: serverName(other), address: `ravine://${other}`, trust: 'tofu' }],
        },
      },
      this.#folder,
    );
    const homeserver = await this.until(
      createHomeserver({
        ...{ config, clock, work, database, sealing: IN_CLEAR, https: false, version: 'test' },
        // Another seed at each start: a process that is started again throws other dice.
        random: seededRandom(this.#seed * 1_000 + this.#starts++),
        link: this.#network.join(name, PROFILE),
        log: createLogger('silent'),
        passwordCost: PASSWORD_COST,
      }),
    );
    const { promise: gone, resolve } = Promise.withResolvers<Answer>();
    this.#processes.set(name, { homeserver, database, gone, go: () => resolve(NOTHING) });
  }
}
