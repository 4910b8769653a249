import { hex } from '../base/bytes.ts';
import type { Priority } from '../base/priority.ts';
import type { Millis } from '../base/time.ts';
import type { CoapResponse, ObserverEnd } from './api.ts';
import { codeLabel, isSuccess, METHOD } from './codes.ts';
import type { Core, Peer } from './core.ts';
import type { Incoming } from './incoming.ts';
import { firstUint, OPTION, type Option, uintOption } from './options.ts';
import type { Asked, Transfers } from './transfers.ts';
import type { Draft, Transmission, Transmitter } from './transmitter.ts';

interface Notification {
  readonly response: CoapResponse;
  readonly priority: Priority;
  /** Undefined: as the link and the time since the last acknowledgement have it. */
  readonly confirmable: boolean | undefined;
}

/** Somebody who is told when a resource changes (RFC 7641, section 4.1). */
export interface Observer {
  readonly kind: 'observer';
  /** The exchange that it has registered by. */
  readonly handle: number;
  readonly peer: Peer;
  readonly token: Uint8Array;
  readonly asked: Asked;
  /** Whether it goes on to be one where it does not acknowledge. */
  readonly lasting: boolean;
  /** The confirmable notification that it has not acknowledged. */
  transmission: Transmission | null;
  /** The newest representation, until it is sent. */
  waiting: Notification | null;
  /** When the next non-confirmable one may go. */
  nextAt: Millis;
  /** Notifications since it was last known to be there, and when that was. */
  unconfirmed: number;
  confirmedAt: Millis;
  /** See `Peer.noteNotification`. */
  readonly ids: number[];
}

/** RFC 7641, sections 2 and 4.4: a sequence number has 24 bits. */
const SEQUENCE_NUMBERS = 2 ** 24;
/** RFC 7641, section 4.5.1: between two non-confirmable notifications where the round trip is not known. */
const NON_INTERVAL: Millis = 3_000;

// Ours: when an observer has to acknowledge one. RFC 7641, section 4.5, demands it every 24 hours.
const MOST_UNCONFIRMED = 9;
const LONGEST_UNCONFIRMED: Millis = 600_000;

/**
 * Ours: what an observer has asked for is kept as long as it is one, up to so much: the key, which has two characters
 * for each byte of options, and what a FETCH selects. Whoever asks for more is answered as if he had not asked to observe.
 */
const LONGEST_KEPT_TARGET = 2048;

export const OBSERVE = { register: 0, deregister: 1 } as const;

/** What the Observe option of a request asks for: 0, 1, or nothing that means anything (RFC 7641, section 2). */
export const observeOf = (method: number, options: readonly Option[]): number | undefined =>
  method === METHOD.get || method === METHOD.fetch ? firstUint(options, OPTION.observe) : undefined;

/** The server's half of RFC 7641: who observes, and what they are sent when. */
export class Observers {
  readonly #core: Core;
  readonly #transmitter: Transmitter;
  readonly #transfers: Transfers;
  /** The next number of a request or of a notification: see `Transfers.divided`. */
  readonly #nextOrder: () => number;
  readonly #byHandle = new Map<number, Observer>();

  constructor(core: Core, transmitter: Transmitter, transfers: Transfers, nextOrder: () => number) {
    this.#core = core;
    this.#transmitter = transmitter;
    this.#transfers = transfers;
    this.#nextOrder = nextOrder;
  }

  get size(): number {
    return this.#byHandle.size;
  }

  /** Whether there is room for an observer with that token, and for what it has asked for. */
  admits(peer: Peer, token: Uint8Array, { key, selector }: Pick<Asked, 'key' | 'selector'>): boolean {
    const { observers, observersPerPeer } = this.#core.limits;
    if (key.length + selector.length > LONGEST_KEPT_TARGET) return false;
    return (
      peer.observers.has(hex(token)) ||
      (this.#byHandle.size < observers && peer.observers.size < observersPerPeer)
    );
  }

  /** The peer wants no more notifications with that token; those that wait for their first answer do without. */
  deregister(peer: Peer, token: Uint8Array, now: Millis): void {
    const name = hex(token);
    for (const exchange of peer.exchanges) if (hex(exchange.token) === name) exchange.observe = false;
    const observer = peer.observers.get(name);
    if (observer !== undefined) this.gone(observer, 'deregistered', now);
  }

  /** A registration was answered: where it was accepted there is a new observer, in place of one with its token. */
  answered(
    exchange: Incoming,
    response: CoapResponse,
    accepted: boolean | 'lasting',
    now: Millis,
  ): Observer | null {
    const { peer, token, handle, key, selector, block2, size2 } = exchange;
    const before = exchange.observe ? peer.observers.get(hex(token)) : undefined;
    if (before !== undefined) this.gone(before, 'replaced', now);
    if (accepted === false) return null;
    const fits = response.payload.length <= this.#core.limits.bodyBytes;
    if (!exchange.observe || !isSuccess(response.code) || !fits || !this.admits(peer, token, exchange)) {
      this.refuse(handle);
      return null;
    }
    const observer: Observer = {
      kind: 'observer',
      handle,
      peer,
      // Kept for long, and not the datagram with it.
      token: token.slice(),
      asked: { peer, key, selector: selector.slice(), block1: undefined, block2, size2 },
      lasting: accepted === 'lasting',
      transmission: null,
      waiting: null,
      nextAt: now,
      unconfirmed: 0,
      confirmedAt: now,
      ids: [],
    };
    this.#byHandle.set(handle, observer);
    peer.observers.set(hex(token), observer);
    return observer;
  }

  /** Tells the application that it has accepted somebody who is no observer. */
  refuse(handle: number): void {
    this.#core.events.push({ kind: 'observer_gone', exchange: handle, reason: 'forgotten' });
  }

  /** The Observe option of the next message to an observer. */
  sequence({ peer }: Observer): Option {
    peer.observeSequence = (peer.observeSequence + 1) % SEQUENCE_NUMBERS;
    return uintOption(OPTION.observe, peer.observeSequence);
  }

  /** Sends a newer representation, at once or in place of the one that is due; an error ends the observation. */
  notify(handle: number, notification: Notification, now: Millis): void {
    const observer = this.#byHandle.get(handle);
    if (observer === undefined) return;
    const { response, priority } = notification;
    const fits = response.payload.length <= this.#core.limits.bodyBytes;
    if (!isSuccess(response.code) || !fits) {
      this.#end(observer, now);
      if (!fits) this.refuse(handle);
      const { peer, token, asked } = observer;
      const draft = { ...this.#transfers.divided(asked, this.#nextOrder(), response, now), token };
      const label = `${codeLabel(draft.code)} notification`;
      this.#transmitter.submit(
        peer,
        draft,
        { priority, label, request: null, deadline: this.#deadline(peer, now) },
        now,
      );
      return;
    }
    observer.waiting = notification;
    const { transmission } = observer;
    if (transmission !== null) transmission.renewal = (then) => this.#draft(observer, then);
    else this.#send(observer, now);
  }

  /** The next non-confirmable notification may go. */
  fire(observer: Observer, now: Millis): void {
    if (observer.waiting !== null && observer.transmission === null) this.#send(observer, now);
  }

  /** The observer has acknowledged: what has changed meanwhile is next. */
  acknowledged(observer: Observer, now: Millis): void {
    observer.transmission = null;
    observer.unconfirmed = 0;
    observer.confirmedAt = now;
    if (observer.waiting !== null) this.#send(observer, now);
    else this.#core.events.push({ kind: 'notified', exchange: observer.handle });
  }

  /** A notification was not acknowledged in time, or as often as it may be repeated. */
  unanswered(observer: Observer, now: Millis): void {
    if (!observer.lasting) {
      this.gone(observer, 'timeout', now);
      return;
    }
    observer.transmission = null;
    if (observer.waiting !== null) this.#send(observer, now);
    else this.#core.events.push({ kind: 'observer_silent', exchange: observer.handle });
  }

  /** Ends an observation by something other than the application. */
  gone(observer: Observer, reason: ObserverEnd, now: Millis): void {
    this.#end(observer, now);
    this.#core.events.push({ kind: 'observer_gone', exchange: observer.handle, reason });
  }

  /** Ends an observation without a word. */
  end(handle: number, now: Millis): void {
    const observer = this.#byHandle.get(handle);
    if (observer !== undefined) this.#end(observer, now);
  }

  forget(peer: Peer, now: Millis): void {
    for (const observer of [...peer.observers.values()]) this.gone(observer, 'forgotten', now);
  }

  #send(observer: Observer, now: Millis): void {
    if (this.#mustConfirm(observer, now)) this.#sendConfirmable(observer, now);
    else if (now >= observer.nextAt) this.#sendUnconfirmed(observer, now);
    else this.#core.timers.set(observer, observer.nextAt);
  }

  /** On a link of which the rate is known each notification counts; elsewhere one in a while is enough. */
  #mustConfirm({ peer, waiting, unconfirmed, confirmedAt }: Observer, now: Millis): boolean {
    const modelled = this.#core.timing(peer.name).maxRetransmit === null;
    if (waiting?.confirmable ?? modelled) return true;
    return unconfirmed >= MOST_UNCONFIRMED || now - confirmedAt >= LONGEST_UNCONFIRMED;
  }

  #sendConfirmable(observer: Observer, now: Millis): void {
    const { peer, waiting } = observer;
    const { priority, response } = waiting!;
    this.#core.timers.clear(observer);
    const details = {
      priority,
      label: `${codeLabel(response.code)} notification`,
      request: null,
      notification: observer,
      deadline: this.#deadline(peer, now),
    };
    observer.transmission = this.#transmitter.submit(peer, this.#draft(observer, now), details, now);
  }

  #sendUnconfirmed(observer: Observer, now: Millis): void {
    const { peer, waiting } = observer;
    const { priority, response } = waiting!;
    const draft = this.#draft(observer, now);
    const label = `${codeLabel(response.code)} notification`;
    const id = this.#transmitter.nonConfirmable(peer, draft, priority, label, now);
    if (id !== null) peer.noteNotification(id, observer);
    observer.unconfirmed++;
    observer.nextAt = now + NON_INTERVAL;
  }

  /** The newest representation as it is sent now: its first block where it is large (RFC 7959, section 2.6). */
  #draft(observer: Observer, now: Millis): Draft {
    const { token, asked, waiting } = observer;
    observer.waiting = null;
    this.#core.counters.notificationsOut++;
    const part = this.#transfers.divided(asked, this.#nextOrder(), waiting!.response, now);
    return { ...part, options: [...part.options, this.sequence(observer)], token };
  }

  #deadline(peer: Peer, now: Millis): Millis {
    return now + this.#core.timing(peer.name).exchangeLifetime / 2;
  }

  #end(observer: Observer, now: Millis): void {
    const { peer, handle, token, ids, transmission } = observer;
    this.#byHandle.delete(handle);
    peer.observers.delete(hex(token));
    for (const id of ids) if (peer.notified.get(id) === observer) peer.notified.delete(id);
    this.#core.timers.clear(observer);
    observer.waiting = null;
    observer.transmission = null;
    if (transmission !== null) this.#transmitter.stop(transmission, now);
  }
}
