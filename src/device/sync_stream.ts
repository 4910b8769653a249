import type { Cancel, Clock, Millis } from '../base/time.ts';
import { ExchangeError, type ExchangeFailure } from '../exchange/exchange_error.ts';
import type { ExchangeObserved } from '../exchange/own_observations.ts';
import type { ExchangeRequest } from '../exchange/request.ts';
import type { ExchangeResponse } from '../exchange/response.ts';
import { hasNews } from '../exchange/sync_news.ts';
import { type JsonObject, own } from '../matrix/json.ts';

// Ours.
/** A registration is renewed after so long, in case that the server has lost it and cannot tell. */
const RENEWAL_MS: Millis = 4 * 60 * 60_000;
/** Where there is no answer: until it is asked again, twice as long each time, up to the second. */
const FIRST_RETRY_MS: Millis = 5_000;
const LONGEST_RETRY_MS: Millis = 10 * 60_000;

/** What a stream needs of the device. */
export interface SyncSource {
  observe(
    request: ExchangeRequest,
    events: {
      readonly onNotification: (response: ExchangeResponse) => void;
      readonly onEnd: (reason: ExchangeFailure) => void;
    },
    signal: AbortSignal,
  ): Promise<ExchangeObserved>;
  /** The JSON of an answer or notification that goes on from `since`; undefined where it cannot be understood. */
  read(response: ExchangeResponse, since: string | undefined): JsonObject | undefined;
}

export interface SyncOptions {
  /** A `next_batch`; left out: from the beginning. */
  readonly since?: string;
  /** A filter's id, or a filter as JSON. */
  readonly filter?: string;
  /** Whether the server tells the ids of events, and this side computes none. */
  readonly idsAreTold?: boolean;
  /** What is new, in order: nothing is left out and nothing comes twice. `next_batch` is to be kept with what it has led to. */
  readonly onSync: (body: JsonObject) => void;
  /** The server refuses, as after a logout: the stream is over. */
  readonly onRefused?: (response: ExchangeResponse) => void;
}

/**
 * Follows /sync (docs/protocol.md, "Observing /sync"): asks, applies, and asks again from there until there is nothing more;
 * then it is told. Whatever happens to the observation, a new one goes on from the position that was reached.
 */
export class SyncStream {
  readonly #source: SyncSource;
  readonly #clock: Pick<Clock, 'after'>;
  readonly #options: SyncOptions;
  readonly #controller = new AbortController();
  #since: string | undefined;
  /** Counts the registrations: what an older one brings is late. */
  #round = 0;
  #current: ExchangeObserved | undefined;
  #retryMs = FIRST_RETRY_MS;
  #timer: Cancel | undefined;
  /** Whether the next answer is to be in its long form, since the last one could not be understood. */
  #whole = false;

  constructor(source: SyncSource, clock: Pick<Clock, 'after'>, options: SyncOptions) {
    this.#source = source;
    this.#clock = clock;
    this.#options = options;
    this.#since = options.since;
    this.#register();
  }

  /** The position that was reached. */
  get position(): string | undefined {
    return this.#since;
  }

  /** Whether the server tells by itself what is new. */
  get isObserving(): boolean {
    return this.#current !== undefined;
  }

  /** Ends the stream, and tells the server. */
  close(): void {
    this.#stop();
    this.#controller.abort();
  }

  /** Ends the stream where the socket is about to be closed. */
  abandon(): void {
    this.#stop();
  }

  #stop(): void {
    this.#round++;
    this.#timer?.();
    this.#timer = undefined;
    this.#current = undefined;
  }

  #register(): void {
    const round = ++this.#round;
    this.#timer?.();
    this.#timer = undefined;
    const isLate = (): boolean => round !== this.#round;
    this.#source
      .observe(
        syncRequest({ ...this.#options, since: this.#since, whole: this.#whole }),
        {
          onNotification: (response) => {
            if (!isLate() && response.body !== undefined) this.#take(response);
          },
          onEnd: () => {
            if (isLate()) return;
            this.#current = undefined;
            this.#register();
          },
        },
        this.#controller.signal,
      )
      .then(
        (answer) => {
          if (!isLate()) this.#begun(answer);
        },
        (error: unknown) => {
          if (!(error instanceof ExchangeError)) throw error;
          if (!isLate()) this.#retry();
        },
      );
  }

  #begun(answer: ExchangeObserved): void {
    const { status, observing } = answer;
    if (status !== 200) {
      if (status === 429 || status >= 500) this.#retry();
      else this.#refused(answer);
      return;
    }
    if (observing) {
      this.#current = answer;
      this.#timer = this.#clock.after(RENEWAL_MS, () => this.#renew());
    }
    const before = this.#since;
    if (!this.#take(answer) || observing) return;
    // With nothing to tell it would have accepted the registration: it has no room for more.
    if (this.#since === before) this.#retry();
    else this.#register();
  }

  /** Whether it was understood; where it was not it is asked for again. */
  #take(response: ExchangeResponse): boolean {
    if (response.status >= 400) {
      this.#refused(response);
      return false;
    }
    const body = this.#source.read(response, this.#since);
    const position = body && own(body, 'next_batch');
    if (body === undefined || typeof position !== 'string') {
      this.#whole = true;
      this.#renew();
      return false;
    }
    this.#whole = false;
    this.#retryMs = FIRST_RETRY_MS;
    // What comes next begins where this observation has begun, whatever position an answer without news names.
    const isNews = hasNews(body);
    if (isNews || this.#since === undefined) this.#since = position;
    if (isNews) this.#options.onSync(body);
    return true;
  }

  /** Asks again in the place of the present observation. */
  #renew(): void {
    this.#current?.forget();
    this.#current = undefined;
    this.#register();
  }

  #retry(): void {
    this.#round++;
    this.#timer = this.#clock.after(this.#retryMs, () => this.#register());
    this.#retryMs = Math.min(2 * this.#retryMs, LONGEST_RETRY_MS);
  }

  #refused(response: ExchangeResponse): void {
    this.close();
    this.#options.onRefused?.(response);
  }
}

/** The request for what comes behind a position. */
export function syncRequest({
  since,
  filter,
  whole = false,
  idsAreTold = false,
}: {
  readonly since?: string | undefined;
  readonly filter?: string | undefined;
  /** Whether the answer must not count on what was told before. */
  readonly whole?: boolean;
  readonly idsAreTold?: boolean;
}): ExchangeRequest {
  const query = [
    ...(filter === undefined ? [] : [`filter=${encodeURIComponent(filter)}`]),
    ...(since === undefined ? [] : [`since=${encodeURIComponent(since)}`]),
    ...(whole ? ['org.ravine.whole=true'] : []),
    ...(idsAreTold ? ['org.ravine.ids=true'] : []),
  ];
  return { method: 'GET', path: '/_matrix/client/v3/sync', query: query.join('&') };
}
