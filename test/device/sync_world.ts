import { seededRandom } from '../../src/base/random.ts';
import { VirtualTime } from '../../src/base/virtual_time.ts';
import { Device } from '../../src/device/device.ts';
import type { SyncStream } from '../../src/device/sync_stream.ts';
import type { ExchangeRequest } from '../../src/exchange/request.ts';
import type { ExchangeResponse } from '../../src/exchange/response.ts';
import { ExchangeSocket } from '../../src/exchange/socket.ts';
import type { LinkProfile } from '../../src/link/link.ts';
import { type Conditions, type LinkObservation, SimulatedNetwork } from '../../src/link/simulated.ts';
import type { ServerName } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import { createIdentity } from '../../src/pipe/identity.ts';
import type { PipeStore, PipeWrite, StoredSession } from '../../src/pipe/resumption.ts';

const SERVER = 'home.example' as ServerName;

/** Sessions as they would be on a disk. */
class MemoryStore implements PipeStore {
  readonly #rows = new Map<number, StoredSession>();

  async load(): Promise<readonly StoredSession[]> {
    return [...this.#rows.values()];
  }

  async loadEarly(): Promise<readonly never[]> {
    return [];
  }

  async commit(writes: readonly PipeWrite[]): Promise<void> {
    for (const write of writes) {
      if (write.kind === 'session') {
        this.#rows.delete(write.row.local);
        this.#rows.set(write.row.local, write.row);
      } else if (write.kind === 'forget') this.#rows.delete(write.local);
    }
  }
}

/** What a server tells by /sync: a list of texts, of which a position is a number. It survives restarts. */
class Log {
  readonly texts: string[] = [];
  #waiting: (() => void)[] = [];
  /** Texts in one answer at most. */
  readonly #most: number;
  readonly #time: VirtualTime;

  constructor(most: number, time: VirtualTime) {
    this.#most = most;
    this.#time = time;
  }

  add(text: string): void {
    this.texts.push(text);
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }

  async answer({ query }: ExchangeRequest, signal: AbortSignal): Promise<ExchangeResponse> {
    const parameters = new URLSearchParams(query);
    const since = Number(parameters.get('since') ?? 0);
    const timeoutMs = Number(parameters.get('timeout') ?? 0);
    if (this.texts.length === since && timeoutMs > 0) {
      await new Promise<void>((resolve) => {
        const cancel = this.#time.clock.after(timeoutMs, () => resolve());
        this.#waiting.push(() => {
          cancel();
          resolve();
        });
        signal.addEventListener('abort', () => {
          cancel();
          resolve();
        });
      });
    }
    const events = this.texts.slice(since, since + this.#most);
    const value = { next_batch: String(since + events.length), account_data: { events } };
    return { status: 200, headers: {}, body: { kind: 'json', value } };
  }
}

export interface SyncWorldOptions {
  readonly seed: number;
  readonly profile: LinkProfile;
  readonly conditions?: Partial<Conditions>;
  readonly most?: number;
  readonly keepAliveMs?: number;
}

/** A server whose /sync tells a log, and a device that writes down what it is told. Both can be restarted. */
export class SyncWorld {
  readonly time = new VirtualTime();
  readonly log: Log;
  readonly seen: LinkObservation[] = [];
  /** What the device has on its disk: the texts in the order in which they came, and the position behind them. */
  readonly told: string[] = [];
  stream: SyncStream | undefined;
  server: ExchangeSocket | undefined;
  readonly #network: SimulatedNetwork;
  readonly #options: SyncWorldOptions;
  readonly #stores: { server: PipeStore; device: PipeStore } = {
    server: new MemoryStore(),
    device: new MemoryStore(),
  };
  #device: Device | undefined;
  #position: string | undefined;
  #starts = 0;

  constructor(options: SyncWorldOptions) {
    this.#options = options;
    this.log = new Log(options.most ?? 100, this.time);
    this.#network = new SimulatedNetwork({
      clock: this.time.clock,
      random: seededRandom(options.seed),
      observe: (observation) => this.seen.push(observation),
    });
    this.conditions(options.conditions ?? {});
  }

  conditions(conditions: Partial<Conditions>): void {
    const { rate, delay: latency } = this.#options.profile;
    this.#network.connect('device', 'home', { rate, latency, ...conditions });
  }

  startServer(): void {
    this.server = new ExchangeSocket({
      link: this.#network.join('home', this.#options.profile),
      clock: this.time.clock,
      random: this.#dice(),
      identity: createIdentity({
        serverName: SERVER,
        noiseSecret: seededRandom(1).bytes(32),
        signingKeyId: 'ed25519:1',
        signingSecret: seededRandom(2).bytes(32),
        serial: 1,
      }),
      trust: { decide: async () => ({ trusted: true }) },
      plain: 'off',
      acceptDevices: true,
      store: this.#stores.server,
    });
    this.server.onRequest((_, request, signal) => this.log.answer(request, signal));
  }

  async stopServer(): Promise<void> {
    await this.time.until(this.server!.close(), 60_000);
    this.server = undefined;
  }

  /** @param keepsSession whether it goes on with its session, or makes a new one */
  startDevice(keepsSession = true): void {
    if (!keepsSession) this.#stores.device = new MemoryStore();
    this.#device = new Device({
      link: this.#network.join('device', this.#options.profile),
      clock: this.time.clock,
      random: this.#dice(),
      secret: seededRandom(3).bytes(32),
      server: SERVER,
      address: 'home',
      trust: { decide: async () => ({ trusted: true }) },
      socket: {
        store: this.#stores.device,
        ...(this.#options.keepAliveMs !== undefined && { keepAliveMs: this.#options.keepAliveMs }),
      },
    });
    this.stream = this.#device.follow({
      ...(this.#position !== undefined && { since: this.#position }),
      onSync: (body) => {
        this.#position = String(body.next_batch);
        this.told.push(...(body.account_data as JsonObject & { events: string[] }).events);
      },
    });
  }

  async stopDevice(): Promise<void> {
    await this.time.until(this.#device!.close(), 60_000);
    this.#device = undefined;
  }

  #dice(): ReturnType<typeof seededRandom> {
    return seededRandom(this.#options.seed * 1_000 + this.#starts++);
  }
}
