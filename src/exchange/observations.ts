import type { Cancel, Clock, Millis } from '../base/time.ts';
import type { CoapResponse } from '../coap/api.ts';
import { isJsonObject, type JsonObject, own } from '../matrix/json.ts';
import { type Caller, type ExchangeRequest, jsonOf } from './request.ts';
import type { ExchangeResponse } from './response.ts';
import { hasNews } from './sync_news.ts';

/** The one route that can be observed. */
const OBSERVABLE = /^\/_matrix\/client\/(?:r0|v3)\/sync$/;

// Ours.
/** How long the app is let wait for something new; it may cut that. */
const PATIENCE_MS: Millis = 120_000;
/** Between two questions where there was nothing, and where the app could not answer. */
const PAUSE_MS: Millis = 1_000;
const FAILURE_PAUSE_MS: Millis = 30_000;
/** When an observer that does not acknowledge is tried again; twice as long each time, up to the second. */
const FIRST_RETRY_MS: Millis = 60_000;
const LONGEST_RETRY_MS: Millis = 60 * 60_000;

/** The body of an answer of /sync. */
function answerIn({ body }: ExchangeResponse): JsonObject | undefined {
  const value = jsonOf(body);
  return value !== undefined && isJsonObject(value) ? value : undefined;
}

const parametersOf = (query: string): string[] => query.split('&').filter((parameter) => parameter !== '');

/** The value of the parameter `since`, percent-decoded; undefined where there is none. */
function sinceOf(query: string): string | undefined {
  return new URLSearchParams(query).get('since') ?? undefined;
}

/** The same request from another position on, which waits where there is nothing. */
function continued(query: string, since: string): string {
  const kept = parametersOf(query).filter((parameter) => !/^(?:since|timeout|full_state)=/.test(parameter));
  return [...kept, `since=${encodeURIComponent(since)}`, `timeout=${PATIENCE_MS}`].join('&');
}

/** What surrounds the observations: the socket. */
export interface ObservationHost {
  /** Asks the app. */
  ask(caller: Caller, request: ExchangeRequest, signal: AbortSignal): Promise<ExchangeResponse>;
  /** How many bytes of a payload go to a peer in one message. */
  room(peer: string): number;
  notify(exchange: number, notification: CoapResponse): void;
  /** Forgets an observer without a word. */
  end(exchange: number): void;
}

/** A registration that is accepted. */
export interface Registration {
  /** CoAP's name for the observer. */
  readonly exchange: number;
  readonly peer: string;
  readonly caller: Caller;
  readonly request: ExchangeRequest;
  /** Writes an answer of the app for the peer. */
  readonly write: (response: ExchangeResponse) => CoapResponse;
}

interface Watch extends Registration {
  readonly controller: AbortController;
  /** The position that the observer has acknowledged. */
  since: string;
  /** What the newest notification tells: a position, or that the observer has to register again; null: nothing is under way. */
  sent: { readonly kind: 'delta'; readonly position: string } | { readonly kind: 'again' } | null;
  /** Whether the newest notification has not been acknowledged for too long. */
  silent: boolean;
  retryMs: Millis;
  cancel: Cancel | undefined;
}

/** An empty notification: there is something, but the observer has to ask for it. */
const AGAIN: ExchangeResponse = { status: 200, headers: {} };

/**
 * Observations of /sync by peers of the pipe (docs/protocol.md, "Observing /sync"). There is no second engine: the app is
 * asked for `/sync?since=...` as by a long poll, with the position that the observer has acknowledged.
 *
 *     registered ──> asking <────────────── acknowledged
 *                      │ something new           ^
 *                      ├──> delta sent ──────────┘
 *                      │        │ not acknowledged: whether it was applied is not known
 *      too large, ...  v        v
 *                    "again" sent ──> acknowledged: the end; the observer registers anew, from the position that it has
 *
 * A notification goes in one message, so that acknowledging it means having it, and the next one is not made before that: so
 * each begins exactly where the one before has ended, and none is replaced. A registration is accepted only where its answer
 * tells nothing: so both sides know the position at which the first notification begins, even where that answer is lost.
 */
export class Observations {
  readonly #clock: Pick<Clock, 'after'>;
  readonly #host: ObservationHost;
  readonly #byExchange = new Map<number, Watch>();
  readonly #byPeer = new Map<string, Watch>();
  readonly #asking = new Set<Promise<void>>();

  constructor(clock: Pick<Clock, 'after'>, host: ObservationHost) {
    this.#clock = clock;
    this.#host = host;
  }

  get size(): number {
    return this.#byExchange.size;
  }

  /** Whether a registration is accepted, by how the app has answered it. */
  static accepts({ method, path, query }: ExchangeRequest, response: ExchangeResponse): boolean {
    if (method !== 'GET' || !OBSERVABLE.test(path) || response.status !== 200) return false;
    const answer = answerIn(response);
    return sinceOf(query) !== undefined && answer !== undefined && !hasNews(answer);
  }

  /** Somebody has been registered, in the place of an earlier observer of the same peer. */
  begin(registration: Registration): void {
    const { exchange, peer, request } = registration;
    const before = this.#byPeer.get(peer);
    if (before !== undefined) {
      this.#forget(before);
      this.#host.end(before.exchange);
    }
    const watch: Watch = {
      ...registration,
      controller: new AbortController(),
      since: sinceOf(request.query) ?? '',
      sent: null,
      silent: false,
      retryMs: FIRST_RETRY_MS,
      cancel: undefined,
    };
    this.#byExchange.set(exchange, watch);
    this.#byPeer.set(peer, watch);
    this.#ask(watch);
  }

  /** The observer has acknowledged the newest notification. */
  acknowledged(exchange: number): void {
    const watch = this.#byExchange.get(exchange);
    // The answer to a registration may be acknowledged as well.
    if (watch === undefined || watch.sent === null) return;
    if (watch.sent.kind === 'again') {
      this.#forget(watch);
      this.#host.end(exchange);
      return;
    }
    watch.since = watch.sent.position;
    watch.sent = null;
    watch.retryMs = FIRST_RETRY_MS;
    this.#ask(watch);
  }

  /** The observer has not acknowledged the newest notification for too long. */
  silent(exchange: number): void {
    const watch = this.#byExchange.get(exchange);
    if (watch === undefined || watch.silent) return;
    watch.silent = true;
    this.#after(watch, watch.retryMs, () => this.#again(watch));
    watch.retryMs = Math.min(2 * watch.retryMs, LONGEST_RETRY_MS);
  }

  /** Something has come from a peer, so that it can be reached. */
  heard(peer: string): void {
    const watch = this.#byPeer.get(peer);
    if (watch?.silent) this.#again(watch);
  }

  /** CoAP has no such observer any more. */
  gone(exchange: number): void {
    const watch = this.#byExchange.get(exchange);
    if (watch !== undefined) this.#forget(watch);
  }

  /** Ends all of them without a word, and waits until the app is asked nothing more. */
  async close(): Promise<void> {
    for (const watch of [...this.#byExchange.values()]) this.#forget(watch);
    await Promise.all([...this.#asking]);
  }

  #ask(watch: Watch): void {
    const { caller, request, controller, since } = watch;
    const query = continued(request.query, since);
    const asking = this.#host
      .ask(caller, { ...request, query, forObserver: true }, controller.signal)
      .then((response) => {
        this.#asking.delete(asking);
        if (this.#byExchange.get(watch.exchange) === watch && watch.sent === null)
          this.#answered(watch, response);
      });
    this.#asking.add(asking);
  }

  #answered(watch: Watch, response: ExchangeResponse): void {
    const { status } = response;
    if (status === 429 || status >= 500) {
      this.#after(watch, FAILURE_PAUSE_MS, () => this.#ask(watch));
      return;
    }
    if (status !== 200) {
      this.#forget(watch);
      this.#host.notify(watch.exchange, watch.write(response));
      return;
    }
    const answer = answerIn(response);
    const position = answer && own(answer, 'next_batch');
    if (answer === undefined || typeof position !== 'string') this.#again(watch);
    else if (!hasNews(answer)) this.#after(watch, PAUSE_MS, () => this.#ask(watch));
    else {
      const notification = watch.write(response);
      if (notification.payload.length > this.#host.room(watch.peer)) {
        this.#again(watch);
        return;
      }
      watch.sent = { kind: 'delta', position };
      this.#host.notify(watch.exchange, notification);
    }
  }

  #again(watch: Watch): void {
    watch.cancel?.();
    watch.cancel = undefined;
    watch.silent = false;
    watch.sent = { kind: 'again' };
    this.#host.notify(watch.exchange, watch.write(AGAIN));
  }

  #after(watch: Watch, delay: Millis, then: () => void): void {
    watch.cancel?.();
    watch.cancel = this.#clock.after(delay, () => {
      watch.cancel = undefined;
      then();
    });
  }

  #forget(watch: Watch): void {
    watch.cancel?.();
    watch.cancel = undefined;
    watch.controller.abort();
    this.#byExchange.delete(watch.exchange);
    if (this.#byPeer.get(watch.peer) === watch) this.#byPeer.delete(watch.peer);
  }
}
