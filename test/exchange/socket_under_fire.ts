import type { Random } from '../../src/base/random.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { ExchangeSocket } from '../../src/exchange/socket.ts';
import type { ExchangeCounters } from '../../src/exchange/socket_options.ts';
import type { Link } from '../../src/link/link.ts';
import type { ServerName } from '../../src/matrix/ids.ts';
import { createIdentity } from '../../src/pipe/identity.ts';
import { TIGHT_LIMITS } from '../coap/endpoint_under_fire.ts';
import { Hostile } from '../coap/hostile.ts';
import { FAST } from './world.ts';

const STRANGERS = 2_000;
const MOST_WAITING = 64;
/** Records of the pipe among the datagrams: its machine has a fuzz of its own. */
const RECORDS_ONE_IN = 16;

/** Of this machine and of others in turn. */
const addressOf = (index: number): string =>
  index % 2 === 0 ? `127.0.0.1:${index + 1}` : `192.0.2.1:${index + 1}`;

/**
 * A whole exchange socket that serves plain CoAP on this machine and is shot at through its link: by this machine, whose
 * requests are served, and by others, whose are refused. Fails by throwing or rejecting.
 */
export class SocketUnderFire {
  readonly #random: Random;
  readonly #hostile: Hostile;
  readonly #clock = new VirtualClock();
  readonly #socket: ExchangeSocket;
  #receive: (from: string, bytes: Uint8Array) => void = () => undefined;
  #shots = 0;
  #served = 0;
  readonly #failures: unknown[] = [];

  constructor(random: Random) {
    this.#random = random;
    this.#hostile = new Hostile(random, STRANGERS, addressOf);
    const link: Link = {
      profile: FAST,
      send: (to, bytes) => {
        if (bytes[0]! < 0x80) this.#hostile.observe(to, bytes);
      },
      onReceive: (receive) => {
        this.#receive = receive;
      },
      close: () => Promise.resolve(),
    };
    const fail = (fields: object): void => {
      this.#failures.push(fields);
    };
    this.#socket = new ExchangeSocket({
      link,
      clock: this.#clock,
      random,
      identity: createIdentity({
        serverName: 'a.example' as ServerName,
        noiseSecret: random.bytes(32),
        signingKeyId: 'ed25519:1',
        signingSecret: random.bytes(32),
        serial: 1,
      }),
      trust: { decide: async () => ({ trusted: false, reason: 'nobody is' }) },
      plain: 'loopback',
      limits: { coap: TIGHT_LIMITS },
      log: { debug: () => undefined, warn: () => undefined, error: fail },
    });
    this.#socket.onRequest(async (_caller, request) => {
      this.#served++;
      const { path } = request;
      const text = 'x'.repeat(this.#random.integer(path.includes('large') ? 2_000 : 40));
      return { status: 200, headers: {}, body: { kind: 'json', value: { path, text } } };
    });
  }

  get counters(): ExchangeCounters {
    return this.#socket.counters;
  }

  get served(): number {
    return this.#served;
  }

  async shoot(): Promise<void> {
    const n = this.#shots++;
    const { from, bytes } = this.#hostile.next();
    const record = this.#random.integer(RECORDS_ONE_IN) === 0 && bytes.length > 0;
    if (record) bytes[0]! |= 0x80;
    this.#receive(from, bytes);
    if (n % 8 === 0) await this.#pass(this.#random.integer(200));
    if (n % 200 === 0) this.#check();
  }

  /** Lets everything expire and closes the socket. */
  async drain(): Promise<void> {
    for (let next = this.#clock.next(); next !== null; next = this.#clock.next())
      await this.#pass(next - this.#clock.monotonic());
    await this.#socket.close();
    this.#check();
  }

  async #pass(duration: number): Promise<void> {
    const end = this.#clock.monotonic() + duration;
    // A handler and what follows it take a few turns of the queue of microtasks.
    for (let turn = 0; turn < 8; turn++) await null;
    for (let next = this.#clock.next(); next !== null && next <= end; next = this.#clock.next())
      this.#clock.step();
    this.#clock.advanceTo(end);
  }

  #check(): void {
    if (this.#failures.length > 0) throw new Error('a handler failed', { cause: this.#failures[0] });
    const { plain, inPipe, requests, serving, pacer } = this.counters.held;
    for (const [name, count, bound] of [
      ['peers', plain.peers, TIGHT_LIMITS.peers],
      ['exchanges', plain.exchanges, TIGHT_LIMITS.exchanges],
      ['observers', plain.observers, TIGHT_LIMITS.observers],
      ['uploads', plain.uploads, TIGHT_LIMITS.assemblies],
      ['assembling', plain.assembling, TIGHT_LIMITS.assemblyBytes],
      ['cachedBodyBytes', plain.cachedBodyBytes, TIGHT_LIMITS.cachedBodyBytes],
      ['remembered', plain.remembered, TIGHT_LIMITS.remembered],
      ['replyBytes', plain.replyBytes, TIGHT_LIMITS.replyBytes],
      ['peers in pipes', inPipe.peers, 0],
      ['requests', requests, 0],
      ['handlers', serving, TIGHT_LIMITS.exchanges],
      ['datagrams in the pacer', pacer, MOST_WAITING],
    ] as const) {
      if ((count ?? 0) > bound)
        throw new Error(`shot ${this.#shots}: ${count} ${name}, and no more than ${bound} are allowed`);
    }
  }
}
