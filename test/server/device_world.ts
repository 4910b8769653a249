import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { VirtualTime } from '../../src/base/virtual_time.ts';
import { ETHERNET_IPV4_UDP_OVERHEAD, type LinkProfile } from '../../src/link/link.ts';
import { SimulatedNetwork } from '../../src/link/simulated.ts';
import type { ServerName } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import { type EphemeralOptions, startEphemeral } from '../../src/server/ephemeral.ts';
import type { Homeserver } from '../../src/server/homeserver.ts';
import { DeviceClient, type DeviceClientOptions } from '../exchange/device_client.ts';

const LINK: LinkProfile = { mtu: 1200, rate: 9600, delay: 200, overhead: ETHERNET_IPV4_UDP_OVERHEAD };
const PATIENCE_MS = 60 * 60_000;
const SERVER = 'home.example' as ServerName;
const SEED = 5;

/** One homeserver at the address `home`, and devices that reach it over a slow link in virtual time. */
export class DeviceWorld {
  readonly time = new VirtualTime();
  readonly folder = mkdtempSync(join(tmpdir(), 'ravine-devices-'));
  readonly #network = new SimulatedNetwork({ clock: this.time.clock, random: seededRandom(SEED) });
  readonly #config: EphemeralOptions['config'];
  readonly devices: DeviceClient[] = [];
  #server: Homeserver | undefined;
  #starts = 0;

  private constructor(config: Partial<EphemeralOptions['config']>) {
    this.#config = { ...config, server_name: SERVER };
  }

  static async start(config: Partial<EphemeralOptions['config']> = {}): Promise<DeviceWorld> {
    const world = new DeviceWorld(config);
    onTestFinished(() => world.#close());
    await world.startServer();
    return world;
  }

  get server(): Homeserver {
    if (this.#server === undefined) throw new Error('the server is not running');
    return this.#server;
  }

  /** Starts the server, on the data that it has left. */
  async startServer(): Promise<void> {
    const { clock, work } = this.time;
    this.#server = await this.until(
      startEphemeral({
        ...{ clock, work, folder: this.folder, config: this.#config },
        random: seededRandom(SEED * 1_000 + this.#starts++),
        link: this.#network.join('home', LINK),
      }),
    );
  }

  async stopServer(): Promise<void> {
    await this.until(this.server.stop());
    this.#server = undefined;
  }

  /** A device with a key of its own, or with that of another one. */
  device(options: Partial<DeviceClientOptions> = {}): DeviceClient {
    const number = this.devices.length;
    const address = `device-${number}`;
    const { rate, delay: latency } = LINK;
    this.#network.connect(address, 'home', { rate, latency });
    const device = new DeviceClient({
      link: this.#network.join(address, LINK),
      clock: this.time.clock,
      random: seededRandom(SEED * 2_000 + number),
      secret: seededRandom(SEED * 3_000 + number).bytes(32),
      server: SERVER,
      address: 'home',
      ...options,
    });
    this.devices.push(device);
    return device;
  }

  until<T>(outcome: Promise<T>): Promise<T> {
    return this.time.until(outcome, PATIENCE_MS);
  }

  /** Asks the server as clients do over HTTP. */
  async http(method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, body?: JsonObject, token?: string) {
    const answer = await this.until(
      this.server.app.inject({
        ...{ method, url: `/_matrix/client/v3${path}` },
        ...(token !== undefined && { headers: { authorization: `Bearer ${token}` } }),
        ...(body !== undefined && { payload: body }),
      }),
    );
    return { status: answer.statusCode, json: answer.json<JsonObject>() };
  }

  /** Makes an account over HTTP; answers its access token. */
  async register(username: string, password: string): Promise<string> {
    const auth = { type: 'm.login.dummy' };
    const { json } = await this.http('POST', '/register', {
      ...{ username, password, device_id: 'LAPTOP', auth },
    });
    return json.access_token as string;
  }

  async #close(): Promise<void> {
    for (const { socket } of this.devices) await this.until(socket.close());
    if (this.#server !== undefined) await this.stopServer();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
