import type { MessageId } from '../../src/base/message_id.ts';
import { seededRandom } from '../../src/base/random.ts';
import { VirtualTime } from '../../src/base/virtual_time.ts';
import type { Caller, ExchangeRequest } from '../../src/exchange/request.ts';
import type { ExchangeResponse } from '../../src/exchange/response.ts';
import { ExchangeSocket } from '../../src/exchange/socket.ts';
import type { ExchangeObservation, ExchangeOptions } from '../../src/exchange/socket_options.ts';
import { ETHERNET_IPV4_UDP_OVERHEAD, type LinkProfile } from '../../src/link/link.ts';
import { type Conditions, type LinkObservation, SimulatedNetwork } from '../../src/link/simulated.ts';
import type { ServerName } from '../../src/matrix/ids.ts';
import { createIdentity, type ServerIdentity } from '../../src/pipe/identity.ts';

export const SLOW: LinkProfile = { mtu: 1200, rate: 100, delay: 2000, overhead: ETHERNET_IPV4_UDP_OVERHEAD };
export const FAST: LinkProfile = { mtu: 1200, rate: null, delay: 0, overhead: ETHERNET_IPV4_UDP_OVERHEAD };

export const serverName = (letter: string): ServerName => `${letter}.example` as ServerName;

export interface Node {
  readonly name: ServerName;
  readonly address: string;
  readonly socket: ExchangeSocket;
  /** Every request that the handler got. */
  readonly handled: {
    readonly caller: Caller;
    readonly request: ExchangeRequest;
    readonly message: MessageId | undefined;
  }[];
  readonly observed: ExchangeObservation[];
  /** Replaces the answer to all requests, which else is the request itself. */
  answer: (request: ExchangeRequest, signal: AbortSignal) => Promise<ExchangeResponse>;
}

/** Servers `a.example` at `a`, `b.example` at `b` … joined by one kind of link, in virtual time. */
export class World {
  readonly time = new VirtualTime();
  readonly #seed: number;
  readonly network: SimulatedNetwork;
  readonly seen: LinkObservation[] = [];
  #incarnations = 0;

  constructor(seed: number) {
    this.#seed = seed;
    this.network = new SimulatedNetwork({
      clock: this.time.clock,
      random: seededRandom(seed),
      observe: (observation) => this.seen.push(observation),
    });
  }

  identity(letter: string, noiseSeed = letter.charCodeAt(0)): ServerIdentity {
    return createIdentity({
      serverName: serverName(letter),
      noiseSecret: seededRandom(noiseSeed).bytes(32),
      signingKeyId: 'ed25519:1',
      signingSecret: seededRandom(noiseSeed + 1000).bytes(32),
      serial: 1,
    });
  }

  /** Starts a server, or starts it again after its socket was closed. */
  start(letter: string, profile: LinkProfile, options: Partial<ExchangeOptions> = {}): Node {
    const observed: ExchangeObservation[] = [];
    const handled: Node['handled'] = [];
    const socket = new ExchangeSocket({
      link: this.network.join(letter, profile),
      clock: this.time.clock,
      random: seededRandom(this.#seed * 100 + this.#incarnations++),
      identity: this.identity(letter),
      trust: { decide: async () => ({ trusted: true }) },
      plain: 'off',
      observer: (observation) => observed.push(observation),
      ...options,
    });
    const node: Node = {
      name: serverName(letter),
      address: letter,
      socket,
      handled,
      observed,
      answer: async (request) => ({
        status: 200,
        headers: {},
        ...(request.body ? { body: request.body } : {}),
      }),
    };
    socket.onRequest((caller, request, signal, message) => {
      handled.push({ caller, request, message });
      return node.answer(request, signal);
    });
    return node;
  }

  connect(a: string, b: string, profile: LinkProfile, conditions: Partial<Conditions> = {}): void {
    this.network.connect(a, b, { rate: profile.rate, latency: profile.delay, ...conditions });
  }

  fates(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const { fate } of this.seen) counts[fate] = (counts[fate] ?? 0) + 1;
    return counts;
  }
}

export const MINUTE = 60_000;

/** A PUT of a text that names it. */
export const put = (text: string): ExchangeRequest => ({
  method: 'PUT',
  path: '/_matrix/federation/v1/send/1',
  query: '',
  body: { kind: 'json', value: { text } },
});
