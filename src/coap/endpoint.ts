import { assert } from '../base/assert.ts';
import type { Priority } from '../base/priority.ts';
import type { Millis } from '../base/time.ts';
import { Timers } from '../base/timers.ts';
import type { CoapConfig, CoapEvent, CoapRequest, CoapResponse, CoapStep, RequestOptions } from './api.ts';
import { Uploads } from './assembly.ts';
import { TRANSFER_OPTIONS } from './block.ts';
import { Bodies } from './bodies.ts';
import { Client } from './client.ts';
import { isRequest, isResponse, isSafe } from './codes.ts';
import {
  type CoapCounters,
  type Core,
  DEFAULT_LIMITS,
  type Peer,
  type Sweep,
  type TimerTarget,
  zeroCounters,
} from './core.ts';
import { Challenges } from './echo.ts';
import { Memory } from './memory.ts';
import { decode } from './message.ts';
import { Observations } from './observe_client.ts';
import { Observers } from './observe_server.ts';
import { OPTION } from './options.ts';
import type { Listener, Outgoing } from './outgoing.ts';
import { Peers } from './peers.ts';
import { Prober } from './prober.ts';
import { Receiver } from './receiver.ts';
import { SelectiveResponses } from './selective_responses.ts';
import { SelectiveTransfers } from './selective_transfers.ts';
import { SelectiveUploads } from './selective_uploads.ts';
import { Server } from './server.ts';
import { Transfers } from './transfers.ts';
import { type Transmission, Transmitter } from './transmitter.ts';

/** What requests are not given with. */
const OWN_OPTIONS: ReadonlySet<number> = new Set([...TRANSFER_OPTIONS, OPTION.requestTag, OPTION.observe]);

const DEFAULT_TOKEN_BYTES = 4;
const SHORTEST_TOKEN_BYTES = 2;
const LONGEST_TOKEN_BYTES = 8;

/** How often what has expired is cleared away, as long as there is anything. */
const SWEEP_INTERVAL: Millis = 60_000;

/**
 * CoAP for any number of peers: messages (RFC 7252), made reliable, deduplicated, transferred in blocks where they are
 * large (RFC 7959, RFC 9175; among ourselves by selective repeat), and sent again when what they say changes (RFC 7641).
 * Client and server at once. Pure: every input returns what has to happen, and `now` is monotonic milliseconds.
 */
export class CoapEndpoint {
  readonly #core: Core;
  readonly #peers: Peers;
  readonly #transmitter: Transmitter;
  readonly #memory: Memory;
  readonly #uploads: Uploads;
  readonly #bodies: Bodies;
  readonly #transfers: SelectiveTransfers;
  readonly #responses: SelectiveResponses;
  readonly #selectiveUploads: SelectiveUploads;
  readonly #prober: Prober;
  readonly #client: Client;
  readonly #observations: Observations;
  readonly #observers: Observers;
  readonly #server: Server;
  readonly #receiver: Receiver;
  readonly #sweep: Sweep = { kind: 'sweep' };
  readonly #byHandle = new Map<number, Outgoing>();
  #handles = 0;
  #orders = 0;

  constructor(config: CoapConfig) {
    const {
      random,
      timing,
      limits,
      tokenBytes = DEFAULT_TOKEN_BYTES,
      handleBytes = tokenBytes,
      understood = [],
      selective = false,
      mtu = Number.POSITIVE_INFINITY,
      mustProve,
      freshness,
    } = config;
    assert(
      tokenBytes >= SHORTEST_TOKEN_BYTES && tokenBytes <= LONGEST_TOKEN_BYTES,
      'a token has 2 to 8 bytes',
    );
    this.#core = {
      random,
      limits: { ...DEFAULT_LIMITS, ...limits },
      timing,
      timers: new Timers<TimerTarget>(),
      counters: zeroCounters(),
      understood,
      selective,
      mtu: typeof mtu === 'number' ? () => mtu : mtu,
      assembling: 0,
      responding: 0,
      datagrams: [],
      events: [],
    };
    this.#transmitter = new Transmitter(this.#core);
    this.#memory = new Memory(this.#core);
    const challenges = new Challenges(this.#core, {
      ...(mustProve === undefined ? {} : { mustProve }),
      ...(freshness === undefined ? {} : { freshness }),
    });
    this.#uploads = new Uploads(this.#core, challenges);
    this.#bodies = new Bodies(this.#core);
    this.#prober = new Prober(this.#core, this.#transmitter);
    this.#transfers = new SelectiveTransfers(this.#core, this.#transmitter);
    this.#responses = new SelectiveResponses(this.#core, this.#transfers, this.#bodies);
    this.#selectiveUploads = new SelectiveUploads(this.#core);
    this.#client = new Client(this.#core, this.#transmitter, this.#prober, this.#transfers);
    this.#observations = new Observations(this.#core, this.#client);
    this.#peers = new Peers(this.#core, challenges, {
      tokenBytes,
      handleBytes,
      uploading: () => new Set([...this.#uploads.peers, ...this.#selectiveUploads.peers]),
      forget: (peer, now) => this.#forgetTheirs(peer, now),
    });
    const transfers = new Transfers(this.#core, this.#uploads, this.#bodies);
    const nextOrder = (): number => this.#orders++;
    this.#observers = new Observers(this.#core, this.#transmitter, transfers, nextOrder);
    this.#server = new Server(this.#core, {
      transmitter: this.#transmitter,
      memory: this.#memory,
      transfers,
      selective: {
        transfers: this.#transfers,
        uploads: this.#selectiveUploads,
        responses: this.#responses,
      },
      observers: this.#observers,
      challenges,
      nextOrder,
    });
    this.#receiver = new Receiver(this.#core, {
      transmitter: this.#transmitter,
      memory: this.#memory,
      prober: this.#prober,
      client: this.#client,
      observations: this.#observations,
      observers: this.#observers,
      server: this.#server,
      transfers: this.#transfers,
      responses: this.#responses,
      known: (name) => this.#peers.get(name),
      admit: (name, now) => this.#peer(name, now),
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
      observations: this.#observations.size,
      observers: this.#observers.size,
      uploads: this.#uploads.size + this.#selectiveUploads.size,
      uploadsOver: this.#selectiveUploads.over,
      responses: this.#responses.size,
      assembling: this.#core.assembling,
      cachedBodyBytes: this.#bodies.bytes + this.#core.responding,
      remembered: this.#memory.entries,
      replyBytes: this.#memory.replyBytes,
    };
  }

  /**
   * Sends a request. Exactly one `response`, `failed` or `sent` event follows for `handle`, by the deadline at the
   * latest; `sent` only where the request has the option No-Response.
   * @param request without options of block-wise transfer, Observe and Request-Tag, which are added here.
   * @returns name what lower layers call it by; undefined where it was not begun
   */
  request(
    peer: string,
    request: CoapRequest,
    options: RequestOptions,
    now: Millis,
  ): { readonly handle: number; readonly name: number | undefined; readonly step: CoapStep } {
    const handle = this.#handles++;
    const known = this.#admitted(peer, request, options, handle, now);
    let name: number | undefined;
    if (known !== undefined) {
      const { confirmable = true } = options;
      const listener = this.#application(handle);
      const outgoing = this.#client.start(known, request, { ...options, confirmable }, listener, now);
      if (known.requests.has(outgoing)) this.#byHandle.set(handle, outgoing);
      name = outgoing.number;
    }
    return { handle, name, step: this.#step() };
  }

  /**
   * Requests a resource and from then on its changes (RFC 7641). First comes exactly one `response` or `failed` event
   * by the deadline. If that is a response with `observing`, `notification` events follow until `failed`. What has become
   * too old is asked for again, and so is everything after `restarted`.
   * One registration is all that a server is to have for a target (RFC 7641, section 3.1): a second observation with the
   * same peer, method, payload and options of the cache-key fails with `already_observed`, as long as the first goes on.
   * @param request GET or FETCH; see `request`.
   */
  observe(
    peer: string,
    request: CoapRequest,
    options: RequestOptions,
    now: Millis,
  ): { readonly handle: number; readonly step: CoapStep } {
    assert(isSafe(request.code), 'what is observed is asked for by GET or FETCH');
    const handle = this.#handles++;
    const known = this.#admitted(peer, request, options, handle, now);
    if (known !== undefined && this.#observations.observes(known, request, options.supersedes)) {
      this.#core.events.push({ kind: 'failed', handle, reason: 'already_observed' });
    } else if (known !== undefined) this.#observations.start(known, handle, request, options, now);
    return { handle, step: this.#step() };
  }

  /**
   * Gives a request or an observation up: it fails with `cancelled`, unless it has ended. The server of an observation
   * is told, and notifications that still come are rejected.
   */
  cancel(handle: number, now: Millis): CoapStep {
    const outgoing = this.#byHandle.get(handle);
    if (outgoing !== undefined) this.#client.fail(outgoing, 'cancelled', now);
    else if (!this.#observations.cancel(handle, now)) this.#prober.cancel(handle, now);
    return this.#step();
  }

  /** The receipt of a request's message that is not known to have left; null where there is none, or the request has ended. */
  receiptOf(handle: number): number | null {
    return this.#byHandle.get(handle)?.transmission?.receipt ?? null;
  }

  /**
   * Answers a request.
   * @param priority of a response that goes separately; piggybacked ones are acknowledgements.
   * @param options.observe accepts the request as a registration, if it is one: from then on `exchange` names an
   * observer, until `observer_gone`, which comes at once where nobody was registered: after an error, and beyond a bound.
   * One that is `lasting` stays it where it does not answer, and that is told as `observer_silent`.
   */
  respond(
    exchange: number,
    response: CoapResponse,
    now: Millis,
    priority: Priority = 1,
    { observe = false }: { readonly observe?: boolean | 'lasting' } = {},
  ): CoapStep {
    this.#server.respond(exchange, response, { priority, observe }, now);
    return this.#step();
  }

  /**
   * Sends an observer a newer representation; one that it has not been sent, or not acknowledged, is left out. One of
   * class 4 or 5 ends the observation. Nothing happens where the exchange names no observer.
   * @param options.confirmable whether it has to be acknowledged, as it is always by default on a link whose timers come
   * from a model. Elsewhere one now and then is, and the others go no faster than RFC 7641, section 4.5.1, allows.
   */
  notify(
    exchange: number,
    response: CoapResponse,
    now: Millis,
    { priority = 1, confirmable }: { readonly priority?: Priority; readonly confirmable?: boolean } = {},
  ): CoapStep {
    assert(isResponse(response.code), 'a notification has a code of class 2, 4 or 5');
    this.#observers.notify(exchange, { response, priority, confirmable }, now);
    return this.#step();
  }

  /** Forgets an observer and says nothing: a notification of class 4 or 5 would tell it. */
  endObservation(exchange: number, now: Millis): CoapStep {
    this.#observers.end(exchange, now);
    return this.#step();
  }

  /** Ends an own observation, and does not tell the server: it has ended it, or a newer one takes its place there. */
  dropObservation(handle: number, now: Millis): CoapStep {
    this.#observations.drop(handle, now);
    return this.#step();
  }

  /** How many bytes of a payload go to the peer in one message. */
  undivided(peer: string): number {
    const { blockSize, undividedSize = blockSize } = this.#core.timing(peer);
    return undividedSize;
  }

  /**
   * A datagram from a peer: any bytes whatever.
   * @param copy which copy of our message a reply is to, where a lower layer knows it: see CoapDatagram
   */
  receive(peer: string, bytes: Uint8Array, now: Millis, copy?: number): CoapStep {
    this.#core.counters.datagramsIn++;
    const message = decode(bytes);
    if (message.ok) this.#receiver.received(peer, message.value, { bytes: bytes.length, copy }, now);
    else this.#receiver.malformed(peer, message.problem);
    return this.#step();
  }

  /**
   * Asks whether a peer lives (ping, RFC 7252, section 4.3). `sent` follows for `handle` when it has replied, or
   * `failed`.
   */
  ping(
    peer: string,
    { deadline, priority }: Pick<RequestOptions, 'deadline' | 'priority'>,
    now: Millis,
  ): { readonly handle: number; readonly step: CoapStep } {
    const handle = this.#handles++;
    const known = this.#peer(peer, now);
    const isFull = known === undefined || known.queue.length >= this.#core.limits.requestsPerPeer;
    if (isFull) this.#core.events.push({ kind: 'failed', handle, reason: 'queue_full' });
    else this.#prober.ping(known, handle, { deadline, priority }, now);
    return { handle, step: this.#step() };
  }

  /** The datagram with that receipt has left, or was dropped: the time for its answer starts. */
  left(receipt: number, now: Millis): CoapStep {
    const transmission = this.#transmitter.left(receipt, now);
    if (transmission?.block != null) this.#transfers.left(transmission, now);
    else if (transmission?.request != null) this.#client.left(transmission.request, now);
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
      this.#observations.restart(known, now);
    }
    return this.#step();
  }

  /** Forgets a peer; our requests to it fail with `cancelled`. */
  forget(peer: string, now: Millis): CoapStep {
    const known = this.#peers.get(peer);
    if (known !== undefined) {
      this.#observations.forget(known, now);
      for (const outgoing of [...known.requests]) this.#client.fail(outgoing, 'cancelled', now);
      for (const transmission of [...known.outstanding.values()]) this.#transmitter.stop(transmission, now);
      this.#peers.remove(known, now);
    }
    return this.#step();
  }

  /** The peer of a request that may be started; where it may not, that is told. */
  #admitted(
    name: string,
    request: CoapRequest,
    { supersedes }: RequestOptions,
    handle: number,
    now: Millis,
  ): Peer | undefined {
    assert(isRequest(request.code), 'a request has a method');
    assert(
      request.options.every(({ number }) => !OWN_OPTIONS.has(number)),
      'the endpoint itself adds the options of block-wise transfer and of Observe',
    );
    const peer = this.#peer(name, now);
    const reason = peer === undefined ? 'queue_full' : this.#client.refusal(peer, request, supersedes);
    if (reason === undefined) return peer;
    this.#core.events.push({ kind: 'failed', handle, reason });
    return undefined;
  }

  #application(handle: number): Listener {
    const ended = (event: CoapEvent): void => {
      this.#byHandle.delete(handle);
      this.#core.events.push(event);
    };
    return {
      completed: (response) => ended({ kind: 'response', handle, response, observing: false }),
      failed: (reason) => ended({ kind: 'failed', handle, reason }),
      sent: () => ended({ kind: 'sent', handle }),
    };
  }

  #step(): CoapStep {
    const { datagrams, events, timers } = this.#core;
    this.#core.datagrams = [];
    this.#core.events = [];
    return { writes: [], datagrams, events, deadline: timers.next() };
  }

  #peer(name: string, now: Millis): Peer | undefined {
    const peer = this.#peers.admit(name, now);
    if (!this.#core.timers.has(this.#sweep)) this.#core.timers.set(this.#sweep, now + SWEEP_INTERVAL);
    return peer;
  }

  #fire(target: TimerTarget, now: Millis): void {
    switch (target.kind) {
      case 'transmission':
        if (!this.#transmitter.fire(target, now)) break;
        if (target.block !== null) this.#blockGivenUp(target, now);
        else if (target.request !== null) this.#client.fail(target.request, 'timeout', now);
        else if (target.notification !== null) this.#observers.unanswered(target.notification, now);
        else this.#prober.ended(target, now, 'timeout');
        break;
      case 'probe':
        this.#prober.fire(target, now);
        break;
      case 'request':
        this.#client.expired(target, now);
        break;
      case 'observation':
        this.#observations.fire(target, now);
        break;
      case 'observer':
        this.#observers.fire(target, now);
        break;
      case 'exchange':
        this.#server.acknowledge(target, now);
        break;
      case 'peer':
        this.#transmitter.pump(target, now);
        break;
      case 'sweep':
        this.#clearExpired(now);
        break;
    }
  }

  /** A request ends with a checkpoint that was not acknowledged for so long, as with any message of it. */
  #blockGivenUp(transmission: Transmission, now: Millis): void {
    const { request } = transmission.block!.transfer;
    if (request !== null && transmission.confirmable) this.#client.fail(request, 'timeout', now);
    else this.#transfers.givenUp(transmission, now);
  }

  #clearExpired(now: Millis): void {
    this.#uploads.expire(now);
    this.#selectiveUploads.expire(now);
    this.#responses.expire(now);
    this.#bodies.expire(now);
    for (const peer of this.#peers.values()) {
      this.#memory.purge(peer, now);
      const lifetime = this.#core.timing(peer.name).exchangeLifetime;
      if (peer.hasOpen || peer.remembered.size > 0 || peer.lastUsed + lifetime > now) continue;
      this.#peers.remove(peer, now);
    }
    if (this.#peers.size > 0) this.#core.timers.set(this.#sweep, now + SWEEP_INTERVAL);
  }

  #forgetTheirs(peer: Peer, now: Millis): void {
    this.#memory.forget(peer);
    this.#prober.forget(peer, now);
    this.#server.forget(peer);
    this.#observers.forget(peer, now);
    this.#uploads.forget(peer);
    this.#selectiveUploads.forget(peer);
    this.#responses.forget(peer, now);
    this.#bodies.forget(peer);
    for (const transmission of [...peer.queue, ...peer.outstanding.values()]) {
      if (transmission.request === null) this.#transmitter.stop(transmission, now);
    }
  }
}
