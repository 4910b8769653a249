import { assert } from '../base/assert.ts';
import { equal, hex } from '../base/bytes.ts';
import type { Priority } from '../base/priority.ts';
import type { Random } from '../base/random.ts';
import type { Step } from '../base/step.ts';
import type { Millis } from '../base/time.ts';
import { Timers } from '../base/timers.ts';
import { Uploads } from './assembly.ts';
import { Bodies } from './bodies.ts';
import { Client } from './client.ts';
import { EMPTY, isRequest, isResponse } from './codes.ts';
import {
  type CoapCounters,
  type CoapLimits,
  type Core,
  DEFAULT_LIMITS,
  Peer,
  type Sweep,
  type TimerTarget,
  zeroCounters,
} from './core.ts';
import { Memory } from './memory.ts';
import { decode, type Message, type MessageProblem } from './message.ts';
import type { Option } from './options.ts';
import { Prober } from './prober.ts';
import { Server } from './server.ts';
import type { Timing } from './timing.ts';
import { emptyMessage, Transmitter } from './transmitter.ts';

/** A request as a whole: block-wise transfer happens inside the endpoint, which adds the options for it. */
export interface CoapRequest {
  /** A method, 1 to 7. */
  readonly code: number;
  readonly options: readonly Option[];
  readonly payload: Uint8Array;
}

/** A response as a whole; its code is of class 2, 4 or 5. */
export interface CoapResponse {
  readonly code: number;
  readonly options: readonly Option[];
  readonly payload: Uint8Array;
}

export interface CoapDatagram {
  readonly peer: string;
  readonly bytes: Uint8Array;
  readonly priority: Priority;
  /** Where it is not null somebody waits for `left(receipt)`: also for a datagram that was dropped on the way out. */
  readonly receipt: number | null;
  /** What it is, for traces: `CON PUT block1 2/5`, `ACK 2.04`. */
  readonly label: string;
}

/**
 * `timeout`: no answer by the deadline, or after the last copy. `reset`: the peer cannot make sense of the request, or
 * no longer knows what came of it. `too_large`: a body beyond the bounds. `queue_full`: too many requests to the peer.
 * `bad_response`: an answer against the rules.
 */
export type FailureReason = 'timeout' | 'reset' | 'cancelled' | 'too_large' | 'queue_full' | 'bad_response';

export type CoapEvent =
  /** Has to be answered by `respond(exchange)`. Delivered once for each request. */
  | {
      readonly kind: 'request';
      readonly exchange: number;
      readonly peer: string;
      readonly request: CoapRequest;
    }
  | { readonly kind: 'response'; readonly handle: number; readonly response: CoapResponse }
  | { readonly kind: 'failed'; readonly handle: number; readonly reason: FailureReason }
  /** A retransmission timer has fired: so many copies of one message have had no answer. */
  | { readonly kind: 'unanswered'; readonly peer: string; readonly attempts: number };

export type CoapStep = Step<never, CoapDatagram, CoapEvent>;

export interface CoapConfig {
  readonly random: Random;
  /** What is known about the way to a peer; asked often. */
  readonly timing: (peer: string) => Timing;
  readonly limits?: Partial<CoapLimits>;
  /**
   * 2 to 8. The default, 4, cannot be guessed by somebody who does not see the traffic (RFC 7252, section 5.3.1); where
   * the messages are authenticated anyway 2 are enough.
   */
  readonly tokenBytes?: number;
  /** Critical options that the application acts on, beside those of RFC 7252 that name a resource. */
  readonly understood?: readonly number[];
}

const DEFAULT_TOKEN_BYTES = 4;
const SHORTEST_TOKEN_BYTES = 2;
const LONGEST_TOKEN_BYTES = 8;

/** How often what has expired is cleared away, as long as there is anything. */
const SWEEP_INTERVAL: Millis = 60_000;

/**
 * CoAP for any number of peers: messages (RFC 7252), made reliable, deduplicated, and transferred in blocks where they
 * are large (RFC 7959, RFC 9175). Client and server at once. Pure: every input returns what has to happen, and `now` is
 * monotonic milliseconds.
 */
export class CoapEndpoint {
  readonly #core: Core;
  readonly #tokenBytes: number;
  readonly #peers = new Map<string, Peer>();
  readonly #transmitter: Transmitter;
  readonly #memory: Memory;
  readonly #uploads: Uploads;
  readonly #bodies: Bodies;
  readonly #prober: Prober;
  readonly #client: Client;
  readonly #server: Server;
  readonly #sweep: Sweep = { kind: 'sweep' };
  #handles = 0;

  constructor(config: CoapConfig) {
    const { random, timing, limits, tokenBytes = DEFAULT_TOKEN_BYTES, understood = [] } = config;
    assert(
      tokenBytes >= SHORTEST_TOKEN_BYTES && tokenBytes <= LONGEST_TOKEN_BYTES,
      'a token has 2 to 8 bytes',
    );
    this.#tokenBytes = tokenBytes;
    this.#core = {
      random,
      limits: { ...DEFAULT_LIMITS, ...limits },
      timing,
      timers: new Timers<TimerTarget>(),
      counters: zeroCounters(),
      understood,
      assembling: 0,
      datagrams: [],
      events: [],
    };
    this.#transmitter = new Transmitter(this.#core);
    this.#memory = new Memory(this.#core);
    this.#uploads = new Uploads(this.#core);
    this.#bodies = new Bodies(this.#core);
    this.#prober = new Prober(this.#core, this.#transmitter);
    this.#client = new Client(this.#core, this.#transmitter, this.#prober);
    this.#server = new Server(this.#core, {
      transmitter: this.#transmitter,
      memory: this.#memory,
      uploads: this.#uploads,
      bodies: this.#bodies,
    });
  }

  get counters(): Readonly<CoapCounters> {
    return this.#core.counters;
  }

  /** How much is kept at the moment; for tests of the bounds and for statistics. */
  get held(): Readonly<Record<string, number>> {
    return {
      peers: this.#peers.size,
      exchanges: this.#server.open,
      uploads: this.#uploads.size,
      assembling: this.#core.assembling,
      cachedBodyBytes: this.#bodies.bytes,
      remembered: this.#memory.entries,
      replyBytes: this.#memory.replyBytes,
    };
  }

  /**
   * Sends a request. Exactly one `response` or `failed` event follows for `handle`, by the deadline at the latest.
   * @param options.deadline on the monotonic clock.
   */
  request(
    peer: string,
    request: CoapRequest,
    options: { readonly deadline: Millis; readonly priority: Priority },
    now: Millis,
  ): { readonly handle: number; readonly step: CoapStep } {
    assert(isRequest(request.code), 'a request has a method');
    const handle = this.#handles++;
    const known = this.#peer(peer, now);
    if (known !== undefined) this.#client.start(known, handle, request, options, now);
    else this.#core.events.push({ kind: 'failed', handle, reason: 'queue_full' });
    return { handle, step: this.#step() };
  }

  /** Gives a request up: it fails with `cancelled`, unless it has ended. */
  cancel(handle: number, now: Millis): CoapStep {
    this.#client.cancel(handle, now);
    return this.#step();
  }

  /**
   * Answers a request.
   * @param priority of a response that goes separately; piggybacked ones are acknowledgements.
   */
  respond(exchange: number, response: CoapResponse, now: Millis, priority: Priority = 1): CoapStep {
    this.#server.respond(exchange, response, priority, now);
    return this.#step();
  }

  /** A datagram from a peer: any bytes whatever. */
  receive(peer: string, bytes: Uint8Array, now: Millis): CoapStep {
    this.#core.counters.datagramsIn++;
    const message = decode(bytes);
    if (message.ok) this.#received(peer, message.value, now);
    else this.#malformed(peer, message.problem);
    return this.#step();
  }

  /** The datagram with that receipt has left, or was dropped: the time for its answer starts. */
  left(receipt: number, now: Millis): CoapStep {
    this.#transmitter.left(receipt, now);
    return this.#step();
  }

  /** Time has passed; called at the step's deadline at the latest. */
  tick(now: Millis): CoapStep {
    for (let target = this.#core.timers.due(now); target !== undefined; target = this.#core.timers.due(now)) {
      this.#fire(target, now);
    }
    return this.#step();
  }

  /**
   * The peer has lost its state. What was known of its messages is forgotten, and our requests to it that were on their
   * way are sent again, as new ones and from their first block.
   */
  restarted(peer: string, now: Millis): CoapStep {
    const known = this.#peers.get(peer);
    if (known !== undefined) {
      this.#forgetTheirs(known, now);
      this.#client.restart(known, now);
    }
    return this.#step();
  }

  /** Forgets a peer; our requests to it fail with `cancelled`. */
  forget(peer: string, now: Millis): CoapStep {
    const known = this.#peers.get(peer);
    if (known !== undefined) {
      this.#forgetTheirs(known, now);
      for (const outgoing of [...known.requests]) this.#client.fail(outgoing, 'cancelled', now);
      this.#core.timers.clear(known);
      this.#peers.delete(peer);
    }
    return this.#step();
  }

  #step(): CoapStep {
    const { datagrams, events, timers } = this.#core;
    this.#core.datagrams = [];
    this.#core.events = [];
    return { writes: [], datagrams, events, deadline: timers.next() };
  }

  #peer(name: string, now: Millis): Peer | undefined {
    let peer = this.#peers.get(name);
    if (peer === undefined) {
      if (this.#peers.size >= this.#core.limits.peers) return undefined;
      peer = new Peer(name, this.#core.random, this.#tokenBytes, now);
      this.#peers.set(name, peer);
      if (!this.#core.timers.has(this.#sweep)) this.#core.timers.set(this.#sweep, now + SWEEP_INTERVAL);
    }
    peer.lastUsed = now;
    return peer;
  }

  #received(peer: string, message: Message, now: Millis): void {
    if (message.type === 'ACK' || message.type === 'RST') this.#replied(peer, message, now);
    else if (message.code === EMPTY && message.type === 'CON') this.#reset(peer, message.id);
    else if (isRequest(message.code) || isResponse(message.code)) this.#arrived(peer, message, now);
    else {
      // A reserved class, or an empty NON (RFC 7252, sections 4.2 and 4.3).
      this.#core.counters.ignored++;
      if (message.type === 'CON') this.#reset(peer, message.id);
    }
  }

  /** An acknowledgement or a reset: the end of one transmission of ours, or nothing. */
  #replied(peer: string, message: Message, now: Millis): void {
    const transmission = this.#peers.get(peer)?.outstanding.get(message.id);
    const outgoing = transmission?.request ?? null;
    const empty = message.code === EMPTY;
    if (transmission === undefined || (message.type === 'RST' && !empty)) {
      this.#core.counters.ignored++;
    } else if (message.type === 'RST') {
      this.#transmitter.stop(transmission, now);
      if (outgoing !== null) this.#client.fail(outgoing, 'reset', now);
      else this.#prober.ended(transmission, now);
    } else if (empty) {
      if (outgoing === null) {
        this.#transmitter.stop(transmission, now);
        this.#prober.ended(transmission, now);
      } else this.#client.acknowledged(outgoing, now);
    } else if (
      outgoing !== null &&
      isResponse(message.code) &&
      equal(message.token, transmission.draft.token)
    ) {
      this.#client.answered(outgoing, message, now);
    } else {
      this.#core.counters.ignored++;
    }
  }

  /** A request or a response in a message of its own, perhaps not for the first time. */
  #arrived(name: string, message: Message, now: Millis): void {
    const peer = this.#peer(name, now);
    if (peer === undefined) {
      this.#core.counters.refused++;
      return;
    }
    const before = this.#memory.find(peer, message.id, now);
    if (before !== undefined) {
      this.#core.counters.duplicates++;
      if (message.type === 'CON') this.#server.duplicate(peer, before);
      return;
    }
    const entry = this.#memory.add(peer, message.id, now);
    if (entry === undefined) {
      this.#core.counters.refused++;
      return;
    }
    if (isRequest(message.code)) {
      this.#server.received(peer, message, entry, now);
      return;
    }
    const outgoing = peer.awaited.get(hex(message.token));
    // The reply leaves before what the response leads to, which may be a long message.
    const earlier = this.#core.datagrams.length;
    const accepted = outgoing !== undefined && this.#client.answered(outgoing, message, now);
    if (!accepted) this.#core.counters.ignored++;
    if (message.type !== 'CON') return;
    const type = accepted ? 'ACK' : 'RST';
    if (!accepted) this.#core.counters.resetsOut++;
    const reply = emptyMessage(type, message.id);
    this.#memory.keep(entry, reply, type);
    const next = this.#core.datagrams.splice(earlier);
    this.#transmitter.reply(name, reply, type);
    this.#core.datagrams.push(...next);
  }

  #malformed(peer: string, { header }: MessageProblem): void {
    this.#core.counters.malformed++;
    if (header?.type === 'CON') this.#reset(peer, header.id);
  }

  #reset(peer: string, id: number): void {
    this.#core.counters.resetsOut++;
    this.#transmitter.reply(peer, emptyMessage('RST', id), 'RST');
  }

  #fire(target: TimerTarget, now: Millis): void {
    switch (target.kind) {
      case 'transmission':
        if (!this.#transmitter.fire(target, now)) break;
        if (target.request !== null) this.#client.fail(target.request, 'timeout', now);
        else this.#prober.ended(target, now);
        break;
      case 'probe':
        this.#prober.fire(target, now);
        break;
      case 'request':
        this.#client.fail(target, 'timeout', now);
        break;
      case 'exchange':
        this.#server.acknowledge(target);
        break;
      case 'peer':
        this.#transmitter.pump(target, now);
        break;
      case 'sweep':
        this.#clearExpired(now);
        break;
    }
  }

  #clearExpired(now: Millis): void {
    this.#uploads.expire(now);
    this.#bodies.expire(now);
    for (const peer of this.#peers.values()) {
      this.#memory.purge(peer, now);
      const lifetime = this.#core.timing(peer.name).exchangeLifetime;
      if (peer.idle && peer.lastUsed + lifetime <= now) this.#peers.delete(peer.name);
    }
    if (this.#peers.size > 0) this.#core.timers.set(this.#sweep, now + SWEEP_INTERVAL);
  }

  #forgetTheirs(peer: Peer, now: Millis): void {
    this.#memory.forget(peer);
    this.#server.forget(peer);
    for (const transmission of [...peer.queue, ...peer.outstanding.values()]) {
      if (transmission.request === null) this.#transmitter.stop(transmission, now);
    }
  }
}
