import type { Result } from '../base/result.ts';
import type { CoapEvent, CoapResponse } from '../coap/api.ts';
import { ExchangeError, type ExchangeFailure } from './exchange_error.ts';
import { SENTENCES } from './open_requests.ts';
import type { ExchangeRequest } from './request.ts';
import type { ExchangeResponse } from './response.ts';
import type { ExchangeRequestOptions } from './socket_options.ts';

/** How something is observed. */
export interface ExchangeObserveOptions extends Omit<ExchangeRequestOptions, 'supersedes'> {
  /**
   * What comes after the first answer, in order. One without a body says that there is more than goes in a notification, and
   * ends the observation: what is missed is told to a new registration.
   */
  readonly onNotification: (response: ExchangeResponse) => void;
  /**
   * Called once where the observation was accepted and is over: `cancelled` by the signal, `ended` by the server,
   * `reset` where the server has lost its state, as in a restart.
   */
  readonly onEnd: (reason: ExchangeFailure) => void;
}

/** The first answer. */
export interface ExchangeObserved extends ExchangeResponse {
  /** Whether notifications will follow; where it is false the server has just answered. */
  readonly observing: boolean;
  /** Ends the observation without a word to the server: for who registers again at once, which takes its place there. */
  readonly forget: () => void;
}

interface OwnObservation {
  readonly peer: string;
  readonly request: ExchangeRequest;
  readonly resolve: (response: ExchangeObserved) => void;
  readonly reject: (error: ExchangeError) => void;
  readonly options: Pick<ExchangeObserveOptions, 'onNotification' | 'onEnd'>;
  established: boolean;
}

/** What this side observes, by the handle that CoAP has given it. */
export class OwnObservations {
  readonly #open = new Map<number, OwnObservation>();
  readonly #read: (peer: string, response: CoapResponse, to: ExchangeRequest) => Result<ExchangeResponse>;
  readonly #drop: (handle: number) => void;

  /**
   * @param read reads an answer or a notification of a peer, to a request
   * @param drop ends an observation that the server has ended
   */
  constructor(
    read: (peer: string, response: CoapResponse, to: ExchangeRequest) => Result<ExchangeResponse>,
    drop: (handle: number) => void,
  ) {
    this.#read = read;
    this.#drop = drop;
  }

  get size(): number {
    return this.#open.size;
  }

  /** At whom something is observed. */
  get peers(): ReadonlySet<string> {
    const established = [...this.#open.values()].filter((observation) => observation.established);
    return new Set(established.map(({ peer }) => peer));
  }

  add(handle: number, observation: Omit<OwnObservation, 'established'>): void {
    this.#open.set(handle, { ...observation, established: false });
  }

  /** Whether the handle is an observation's. */
  answered({ handle, response, observing }: Extract<CoapEvent, { kind: 'response' }>): boolean {
    const observation = this.#open.get(handle);
    if (observation === undefined) return false;
    const read = this.#read(observation.peer, response, observation.request);
    if (!read.ok) {
      this.#end(handle, 'bad_response');
      if (observing) this.#drop(handle);
      return true;
    }
    observation.established = observing;
    observation.resolve({ ...read.value, observing, forget: () => this.#forget(handle) });
    if (!observing) this.#open.delete(handle);
    return true;
  }

  notified({ handle, response }: Extract<CoapEvent, { kind: 'notification' }>): void {
    const observation = this.#open.get(handle);
    if (observation === undefined) return;
    const read = this.#read(observation.peer, response, observation.request);
    if (!read.ok) {
      this.#drop(handle);
      this.#end(handle, 'bad_response');
      return;
    }
    const { options } = observation;
    const isEnd = read.value.body === undefined;
    if (isEnd) {
      this.#open.delete(handle);
      this.#drop(handle);
    }
    options.onNotification(read.value);
    if (isEnd) options.onEnd('ended');
  }

  /** Whether the handle was an observation's. */
  failed({ handle, reason }: Extract<CoapEvent, { kind: 'failed' }>): boolean {
    return this.#end(handle, reason);
  }

  #forget(handle: number): void {
    if (this.#open.delete(handle)) this.#drop(handle);
  }

  /** Ends all of them. */
  close(): void {
    for (const handle of [...this.#open.keys()]) this.#end(handle, 'closed');
  }

  #end(handle: number, reason: ExchangeFailure): boolean {
    const observation = this.#open.get(handle);
    if (observation === undefined) return false;
    this.#open.delete(handle);
    const sentence =
      reason === 'closed' || reason === 'invalid' || reason === 'refused' ? reason : SENTENCES[reason];
    if (observation.established) observation.options.onEnd(reason);
    else observation.reject(new ExchangeError(reason, `${observation.peer} ${sentence}`));
    return true;
  }
}
