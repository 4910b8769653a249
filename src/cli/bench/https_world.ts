import { mkdtempSync, rmSync } from 'node:fs';
import type { OutgoingHttpHeaders } from 'node:http';
import { Agent, createServer, request } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { assert } from '../../base/assert.ts';
import { systemRandom } from '../../base/random.ts';
import { type Millis, sleep, systemClock } from '../../base/time.ts';
import { Work } from '../../base/work.ts';
import { openHttpDoor } from '../../doors/https.ts';
import type { JsonObject } from '../../matrix/json.ts';
import { type ThrowawayAuthority, throwawayAuthority } from '../../mesh/authority.ts';
import { startEphemeral } from '../../server/ephemeral.ts';
import type { Homeserver } from '../../server/homeserver.ts';
import type { Account, ClientCall } from './clients.ts';
import { TcpRelay, TcpTraffic } from './tcp_relay.ts';

const LOOPBACK = '127.0.0.1';
/** Nothing has crossed for this long: what was under way, such as the answer to a transaction, has ended. */
const QUIET_MS: Millis = 80;

/** Bytes on an Ethernet wire, both directions, of an exchange over HTTPS and JSON. */
export interface HttpsCost {
  /** On connections that were open before. */
  readonly kept: number;
  /** With a connection for each message: each is opened, shakes hands by TLS 1.3 without resumption, and is closed. */
  readonly perConnection: number;
}

interface Way {
  readonly server: string;
  readonly account: Account | undefined;
  readonly agent: Agent;
  readonly acceptsGzip: boolean;
}

/**
 * Complete homeservers with HTTPS doors on this machine, in real time, whose traffic with one of them, the first, goes
 * through counting relays. A server of the name `alpha` is `alpha.example`.
 */
export class HttpsWorld {
  readonly traffic = new TcpTraffic();
  readonly #folder = mkdtempSync(join(tmpdir(), 'ravine-wire-https-'));
  readonly #authority: ThrowawayAuthority;
  readonly #ports = new Map<string, number>();
  readonly #relays = new Map<string, TcpRelay>();
  readonly #servers = new Map<string, Homeserver>();
  readonly #opened: TcpRelay[] = [];
  readonly #closing: (() => Promise<void>)[] = [];

  private constructor(authority: ThrowawayAuthority) {
    this.#authority = authority;
  }

  static async open(names: readonly string[]): Promise<HttpsWorld> {
    const world = new HttpsWorld(await throwawayAuthority());
    // So that a server can be told the address of one that is started after it.
    for (const name of names) world.#relays.set(name, await world.#relayTo(name, world.traffic));
    const uncounted = new Map<string, TcpRelay>();
    for (const name of names) uncounted.set(name, await world.#relayTo(name, new TcpTraffic()));
    for (const [i, name] of names.entries()) {
      const peers = names.filter((other) => other !== name);
      await world.#start(name, peers, (other) =>
        i === 0 || other === names[0] ? world.#relays.get(other)!.port : uncounted.get(other)!.port,
      );
    }
    return world;
  }

  server(name: string): Homeserver {
    const server = this.#servers.get(name);
    assert(server !== undefined, `${name} is running`);
    return server;
  }

  /** A client on a connection of its own, which it keeps. */
  client(
    server: string,
    account?: Account,
    { acceptsGzip = false } = {},
  ): (call: ClientCall) => Promise<JsonObject> {
    const agent = new Agent({ keepAlive: true, maxSockets: 1, ca: this.#authority.certificate });
    this.#closing.push(async () => agent.destroy());
    const way: Way = { server, account, agent, acceptsGzip };
    return async (call) => JSON.parse(await this.#call(way, call)) as JsonObject;
  }

  /** Starts something that gives everybody who asks the same answer, under the name `name`. */
  async answering(name: string, headers: OutgoingHttpHeaders, body: Uint8Array): Promise<void> {
    const tls = await this.#authority.issue(`${name}.example`);
    const server = createServer(tls, (_, response) => response.writeHead(200, headers).end(body));
    await new Promise<void>((resolve) => server.listen(0, LOOPBACK, resolve));
    this.#closing.push(async () => {
      await new Promise((resolve) => server.close(resolve));
    });
    this.#ports.set(name, (server.address() as AddressInfo).port);
    this.#relays.set(name, await this.#relayTo(name, this.traffic));
  }

  /** Runs `act`, and returns what crossed the relays meanwhile and until they were quiet. */
  async measure<T>(act: () => Promise<T>): Promise<{ readonly value: T; readonly bytes: number }> {
    await this.#quiet();
    this.traffic.take();
    const value = await act();
    await this.#quiet();
    return { value, bytes: this.traffic.take() };
  }

  /** What it takes to open a connection, shake hands and close it: the same request on a new connection, less on a kept one. */
  async connectionCost(): Promise<number> {
    const [server] = this.#servers.keys();
    const ask = this.client(server!);
    const version: ClientCall = { method: 'GET', target: '/_matrix/federation/v1/version' };
    const first = await this.measure(() => ask(version));
    const second = await this.measure(() => ask(version));
    return first.bytes - second.bytes;
  }

  async close(): Promise<void> {
    // First, since doors wait for the connections that they have.
    for (const relay of this.#opened) await relay.close();
    for (const close of this.#closing.splice(0).reverse()) await close();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #quiet(): Promise<void> {
    for (let before = -1; before !== this.traffic.crossedBytes; ) {
      before = this.traffic.crossedBytes;
      await sleep(systemClock, QUIET_MS);
    }
  }

  async #relayTo(name: string, traffic: TcpTraffic): Promise<TcpRelay> {
    const relay = await TcpRelay.open(() => this.#ports.get(name)!, traffic);
    this.#opened.push(relay);
    return relay;
  }

  async #start(name: string, peers: readonly string[], portOf: (peer: string) => number): Promise<void> {
    const server = await startEphemeral({
      clock: systemClock,
      random: systemRandom,
      work: new Work(),
      folder: this.#folder,
      config: {
        server_name: `${name}.example`,
        federation: {
          peers: peers.map((peer) => ({
            server_name: `${peer}.example`,
            address: `https://${LOOPBACK}:${portOf(peer)}`,
          })),
        },
      },
      https: true,
      certificateAuthorities: [this.#authority.certificate],
    });
    this.#closing.push(() => server.stop());
    const tls = await this.#authority.issue(`${name}.example`);
    const door = await openHttpDoor(server.app, { host: LOOPBACK, port: 0, tls, clock: systemClock });
    this.#closing.push(() => door.close());
    this.#ports.set(name, door.port);
    this.#servers.set(name, server);
  }

  #call({ server, account, agent, acceptsGzip }: Way, { method, target, body }: ClientCall): Promise<string> {
    const content = body === undefined ? undefined : JSON.stringify(body);
    const name = `${server}.example`;
    return new Promise((resolve, reject) => {
      const sent = request(
        {
          host: LOOPBACK,
          port: this.#relays.get(server)!.port,
          servername: name,
          agent,
          method,
          path: target,
          headers: {
            host: name,
            accept: 'application/json',
            ...(acceptsGzip && { 'accept-encoding': 'gzip' }),
            ...(account !== undefined && { authorization: `Bearer ${account.token}` }),
            ...(content !== undefined && {
              'content-type': 'application/json',
              'content-length': Buffer.byteLength(content),
            }),
          },
        },
        (answer) => {
          const chunks: Buffer[] = [];
          answer.on('data', (chunk: Buffer) => chunks.push(chunk));
          answer.on('end', () => {
            const isZipped = answer.headers['content-encoding'] === 'gzip';
            const text = (isZipped ? gunzipSync(Buffer.concat(chunks)) : Buffer.concat(chunks)).toString();
            if (answer.statusCode === 200) resolve(text);
            else reject(new Error(`${method} ${target} is answered with ${answer.statusCode} ${text}`));
          });
          answer.on('error', reject);
        },
      );
      sent.on('error', reject);
      sent.end(content);
    });
  }
}

/** Runs `use` among servers of its own. */
export async function inHttpsWorld<T>(
  names: readonly string[],
  use: (world: HttpsWorld) => Promise<T>,
): Promise<T> {
  const world = await HttpsWorld.open(names);
  try {
    return await use(world);
  } finally {
    await world.close();
  }
}
