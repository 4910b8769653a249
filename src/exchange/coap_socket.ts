import { utf8 } from '../base/bytes.ts';
import type { Priority } from '../base/priority.ts';
import type { Random } from '../base/random.ts';
import type { Clock, Millis } from '../base/time.ts';
import type { CoapEvent, CoapRequest, CoapResponse, CoapStep, FailureReason } from '../coap/api.ts';
import { code, EMPTY, isSuccess } from '../coap/codes.ts';
import type { CoapCounters, CoapLimits } from '../coap/core.ts';
import type { EchoPolicy } from '../coap/echo.ts';
import { CoapEndpoint } from '../coap/endpoint.ts';
import { NO_BYTES } from '../coap/message.ts';
import type { Timing } from '../coap/timing.ts';
import type { Address, Link } from '../link/link.ts';
import { Pacer, type PacerStep } from '../link/pacer.ts';
import { Driver } from './driver.ts';
import { ExchangeError, type ExchangeFailure } from './exchange_error.ts';
import { largestMessage, NO_RECORD, timingOf } from './link_timing.ts';
import { ObservedResource } from './observed_resource.ts';
import { SENTENCES } from './open_requests.ts';
import type { ExchangeLog, ExchangeObservation } from './socket_options.ts';

export interface CoapSocketOptions {
  /** The socket closes it. */
  readonly link: Link;
  readonly clock: Clock;
  readonly random: Random;
  /** Instead of what the link's profile leads to. */
  readonly timing?: Timing | ((peer: Address) => Timing);
  readonly limits?: Partial<CoapLimits>;
  /** Critical options that the handler, or whoever reads the responses, acts on. */
  readonly understood?: readonly number[];
  /** Who has to show that he is where his requests come from. Default: nobody. */
  readonly echo?: EchoPolicy;
  readonly log?: ExchangeLog;
  readonly observer?: (observation: ExchangeObservation) => void;
}

export interface CoapRequestOptions {
  readonly timeoutMs: Millis;
  /** Default 1. */
  readonly priority?: Priority;
  /** Default true. A non-confirmable request is sent once. */
  readonly confirmable?: boolean;
  /** Gives the request up. */
  readonly signal?: AbortSignal;
  /** See `ExchangeRequestOptions`. */
  readonly supersedes?: string;
}

export interface CoapObserveOptions extends CoapRequestOptions {
  /** A newer representation than all before. Class 4 or 5: the server has ended the observation, and `onEnd` follows. */
  readonly onNotification: (response: CoapResponse) => void;
  /**
   * Called once where the observation was accepted and is over, with `cancelled` where the signal has ended it.
   */
  readonly onEnd?: (reason: ExchangeFailure) => void;
}

export interface CoapObservation extends CoapResponse {
  /** Whether notifications will follow; where it is false the server has just answered. */
  readonly observing: boolean;
}

export interface RequestContext {
  readonly peer: Address;
  /** Whether the peer wants to be told of changes. */
  readonly observe: boolean;
  /** Aborts when the socket closes, and for an observer that was accepted, when it is none any more. */
  readonly signal: AbortSignal;
}

/**
 * Answers a request: with a response, or with a resource that may be observed. An error that it throws is a mistake of
 * ours, and a 5.00.
 */
export type CoapHandler = (
  request: CoapRequest,
  context: RequestContext,
) => Promise<CoapResponse | ObservedResource>;

/** What the pacer hands back when a datagram has left. */
interface Tag {
  readonly label: string;
  readonly receipt: number | null;
}

interface OpenRequest {
  readonly peer: Address;
  /** The first response. */
  readonly resolve: (response: CoapObservation) => void;
  readonly reject: (error: ExchangeError) => void;
  readonly notified: (response: CoapResponse) => void;
  /** The end of everything, whatever came before. */
  readonly ended: (reason: ExchangeFailure) => void;
}

/** Who wants to know what comes after the first response. */
type Watcher = Required<Pick<CoapObserveOptions, 'onNotification' | 'onEnd'>>;

/** An observer of one of our resources. */
interface Observer {
  readonly controller: AbortController;
  readonly stopListening: () => void;
}

const NOT_FOUND: CoapResponse = { code: code(4, 4), options: [], payload: NO_BYTES };
const NO_WATCHER: Watcher = { onNotification: () => undefined, onEnd: () => undefined };
/** Of a response that does not go with its acknowledgement. */
const RESPONSE_PRIORITY: Priority = 1;
/** What stands for the response that the option No-Response has kept away (RFC 7967). */
const NONE: CoapObservation = { code: EMPTY, options: [], payload: NO_BYTES, observing: false };
const FAILED: CoapResponse = { code: code(5, 0), options: [], payload: utf8('internal error') };

/** CoAP itself (RFC 7252) over one datagram link, client and server at once: no pipe, no Matrix, no policy. */
export class CoapSocket {
  readonly #link: Link;
  readonly #log: ExchangeLog | undefined;
  readonly #observer: ((observation: ExchangeObservation) => void) | undefined;
  readonly #coap: CoapEndpoint;
  readonly #pacer: Pacer<Tag>;
  readonly #driver: Driver<'pacer' | 'coap'>;
  readonly #open = new Map<number, OpenRequest>();
  readonly #serving = new Map<Promise<void>, AbortController>();
  readonly #observers = new Map<number, Observer>();
  #handle: CoapHandler = async () => NOT_FOUND;

  constructor(options: CoapSocketOptions) {
    const { link, clock, random, timing, limits, understood, echo, log, observer } = options;
    this.#link = link;
    this.#log = log;
    this.#observer = observer;
    const one = typeof timing === 'function' ? undefined : (timing ?? timingOf(link.profile, NO_RECORD));
    this.#coap = new CoapEndpoint({
      random,
      mtu: largestMessage(link.profile, NO_RECORD),
      timing: one === undefined ? (timing as (peer: Address) => Timing) : () => one,
      ...(limits === undefined ? {} : { limits }),
      ...(understood === undefined ? {} : { understood }),
      ...echo,
    });
    this.#pacer = new Pacer<Tag>(link.profile);
    this.#driver = new Driver(clock, {
      pacer: (now) => this.#applyPacer(this.#pacer.tick(now), now),
      coap: (now) => this.#apply(this.#coap.tick(now), now),
    });
    link.onReceive((from, bytes) => this.#driver.enter((now) => this.#received(from, bytes, now)));
  }

  get counters(): Readonly<CoapCounters> {
    return this.#coap.counters;
  }

  /** How much is kept at the moment; everything in it has a bound among the limits. */
  get held(): Readonly<Record<string, number>> {
    return this.#coap.held;
  }

  /** Sets the one handler of requests; without one every request gets 4.04. */
  onRequest(handle: CoapHandler): void {
    this.#handle = handle;
  }

  /**
   * Sends a request and waits for its response, of whatever code. Options for block-wise transfer are added and taken
   * away again. Where the option No-Response keeps the response away, the promise resolves to one of code 0.00.
   * @throws ExchangeError where there is no response
   */
  request(to: Address, request: CoapRequest, options: CoapRequestOptions): Promise<CoapResponse> {
    const { confirmable = true } = options;
    return this.#start(to, options, (details, now) =>
      this.#coap.request(to, request, { ...details, confirmable }, now),
    );
  }

  /**
   * Asks for a resource and its changes (RFC 7641), until the signal aborts; resolves to the first response. The
   * observation is renewed by itself when the server has been silent for too long.
   * @param request a GET or FETCH without the option Observe
   * @throws ExchangeError where there is no first response: `already_observed` where the same is being observed already
   */
  observe(to: Address, request: CoapRequest, options: CoapObserveOptions): Promise<CoapObservation> {
    const { confirmable = true, onNotification, onEnd } = options;
    return this.#start(
      to,
      options,
      (details, now) => this.#coap.observe(to, request, { ...details, confirmable }, now),
      { onNotification, onEnd: onEnd ?? (() => undefined) },
    );
  }

  /**
   * Asks whether somebody is there (RFC 7252, section 4.3, "ping"); resolves when he has replied.
   * @throws ExchangeError where there is no reply
   */
  async ping(to: Address, options: Omit<CoapRequestOptions, 'confirmable'>): Promise<void> {
    await this.#start(to, options, (details, now) => this.#coap.ping(to, details, now));
  }

  /** Rejects and ends what is open, aborts the handlers, closes the link, and waits for the handlers' end. */
  async close(): Promise<void> {
    if (this.#driver.closed) return;
    this.#driver.close();
    const open = [...this.#open.values()];
    this.#open.clear();
    for (const { reject, ended } of open) {
      reject(new ExchangeError('closed', 'the socket was closed'));
      ended('closed');
    }
    for (const exchange of [...this.#observers.keys()]) this.#observerGone(exchange);
    const ends = [...this.#serving.keys()];
    for (const controller of this.#serving.values()) controller.abort();
    await this.#link.close();
    await Promise.all(ends);
  }

  #start(
    to: Address,
    { timeoutMs, priority = 1, signal, supersedes }: CoapRequestOptions,
    begin: (
      details: { readonly deadline: Millis; readonly priority: Priority; readonly supersedes?: string },
      now: Millis,
    ) => { readonly handle: number; readonly step: CoapStep },
    { onNotification, onEnd }: Watcher = NO_WATCHER,
  ): Promise<CoapObservation> {
    if (signal?.aborted)
      return Promise.reject(new ExchangeError('cancelled', 'nobody waits for the request'));
    return new Promise((resolve, reject) => {
      this.#driver.enter((now) => {
        if (this.#driver.closed) return reject(new ExchangeError('closed', 'the socket is closed'));
        const key = supersedes === undefined ? {} : { supersedes };
        const { handle, step } = begin({ deadline: now + timeoutMs, priority, ...key }, now);
        const cancel = (): void =>
          this.#driver.enter((then) => this.#apply(this.#coap.cancel(handle, then), then));
        let observing = false;
        this.#open.set(handle, {
          peer: to,
          reject,
          resolve: (response) => {
            observing = response.observing;
            resolve(response);
          },
          notified: onNotification,
          ended: (reason) => {
            signal?.removeEventListener('abort', cancel);
            if (observing) onEnd(reason);
          },
        });
        signal?.addEventListener('abort', cancel, { once: true });
        this.#apply(step, now);
      });
    });
  }

  #received(from: Address, bytes: Uint8Array, now: Millis): void {
    this.#observer?.({ direction: 'received', at: now, peer: from, bytes, label: '' });
    this.#apply(this.#coap.receive(from, bytes, now), now);
  }

  #apply(step: CoapStep, now: Millis): void {
    this.#driver.setDeadline('coap', step.deadline);
    for (const { peer: to, bytes, priority, receipt, label } of step.datagrams)
      this.#applyPacer(this.#pacer.enqueue({ to, bytes, priority, tag: { receipt, label } }, now), now);
    for (const event of step.events) this.#on(event);
  }

  #applyPacer(step: PacerStep<Tag>, now: Millis): void {
    this.#driver.setDeadline('pacer', step.deadline);
    for (const { to, bytes, tag } of step.datagrams) {
      if (this.#driver.closed) break;
      this.#observer?.({ direction: 'sent', at: now, peer: to, bytes, label: tag.label });
      this.#link.send(to, bytes, tag.label);
    }
    for (const event of step.events) {
      const { receipt } = event.tag;
      const at = event.kind === 'left' ? event.at : now;
      if (receipt !== null) this.#apply(this.#coap.left(receipt, at), at);
    }
  }

  #on(event: CoapEvent): void {
    switch (event.kind) {
      case 'request':
        this.#serve(event);
        break;
      case 'response':
        this.#open.get(event.handle)?.resolve({ ...event.response, observing: event.observing });
        if (!event.observing) this.#end(event.handle, 'ended');
        break;
      case 'sent':
        this.#open.get(event.handle)?.resolve(NONE);
        this.#end(event.handle, 'ended');
        break;
      case 'notification':
        this.#open.get(event.handle)?.notified(event.response);
        break;
      case 'failed':
        this.#end(event.handle, event.reason);
        break;
      case 'observer_gone':
        this.#observerGone(event.exchange);
    }
  }

  #end(handle: number, reason: FailureReason): void {
    const request = this.#open.get(handle);
    if (request === undefined) return;
    this.#open.delete(handle);
    // Without effect on a promise that has had its response.
    request.reject(new ExchangeError(reason, `${request.peer} ${SENTENCES[reason]}`));
    request.ended(reason);
  }

  #serve({ exchange, peer, request, observe }: Extract<CoapEvent, { kind: 'request' }>): void {
    const controller = new AbortController();
    const running = this.#answer(request, { peer, observe, signal: controller.signal }).then((answer) => {
      this.#serving.delete(running);
      this.#driver.enter((now) => {
        if (!(answer instanceof ObservedResource)) this.#respond(exchange, answer, false, now);
        else if (!observe || this.#driver.closed || !isSuccess(answer.representation.code))
          this.#respond(exchange, answer.representation, false, now);
        else this.#accept(exchange, answer, controller, now);
      });
    });
    this.#serving.set(running, controller);
  }

  async #answer(request: CoapRequest, context: RequestContext): Promise<CoapResponse | ObservedResource> {
    try {
      return await this.#handle(request, context);
    } catch (error) {
      this.#log?.error({ err: error }, 'a request handler failed');
      return FAILED;
    }
  }

  #respond(exchange: number, response: CoapResponse, observe: boolean, now: Millis): void {
    this.#apply(this.#coap.respond(exchange, response, now, RESPONSE_PRIORITY, { observe }), now);
  }

  /** Answers with the state of this instant and passes on the changes after it. */
  #accept(exchange: number, resource: ObservedResource, controller: AbortController, now: Millis): void {
    const stopListening = resource.listen((representation, options) => {
      this.#driver.enter((then) => {
        if (!this.#observers.has(exchange)) return;
        this.#apply(this.#coap.notify(exchange, representation, then, options), then);
        if (!isSuccess(representation.code)) this.#observerGone(exchange);
      });
    });
    this.#observers.set(exchange, { controller, stopListening });
    this.#respond(exchange, resource.representation, true, now);
  }

  #observerGone(exchange: number): void {
    const observer = this.#observers.get(exchange);
    if (observer === undefined) return;
    this.#observers.delete(exchange);
    observer.stopListening();
    observer.controller.abort();
  }
}
