import type { Result } from '../base/result.ts';
import type { Millis } from '../base/time.ts';
import type { CoapEvent, CoapResponse, FailureReason } from '../coap/api.ts';
import type { ServerName } from '../matrix/ids.ts';
import { TOO_EARLY } from './early_requests.ts';
import { ExchangeError } from './exchange_error.ts';
import type { ExchangeResponse } from './response.ts';

interface OpenRequest {
  readonly peer: ServerName;
  readonly resolve: (response: ExchangeResponse) => void;
  readonly reject: (error: ExchangeError) => void;
  /** Reads an answer to it. */
  readonly read: (response: CoapResponse) => Result<ExchangeResponse>;
  /** Makes it once more, where its answer is that it was too early. */
  readonly again?: (now: Millis) => void;
  /** Why trust with the peer has failed since the request was made. */
  refusal: string | undefined;
}

/** What a peer did, or did not do. */
export const SENTENCES: Readonly<Record<FailureReason, string>> = {
  timeout: 'did not answer in time',
  reset: 'does not know what became of the request',
  cancelled: 'is not waited for any longer',
  too_large: 'cannot take, or was about to send, that much at a time',
  queue_full: 'has too many requests waiting for it',
  bad_response: 'answered against the rules',
  superseded: 'was sent something newer instead',
  ended: 'has ended the observation',
  already_observed: 'is being asked for the same by another observation',
};

/** Our own requests that have no answer yet, by the handle that CoAP has given them. */
export class OpenRequests {
  readonly #open = new Map<number, OpenRequest>();

  get size(): number {
    return this.#open.size;
  }

  add(handle: number, request: Omit<OpenRequest, 'refusal'>): void {
    this.#open.set(handle, { ...request, refusal: undefined });
  }

  answered({ handle, response }: Extract<CoapEvent, { kind: 'response' }>, now: Millis): void {
    const request = this.#take(handle);
    if (request === undefined) return;
    const decoded = request.read(response);
    if (decoded.ok && decoded.value.status === TOO_EARLY.status && request.again !== undefined)
      request.again(now);
    else if (decoded.ok) request.resolve(decoded.value);
    else request.reject(new ExchangeError('bad_response', `${request.peer}: ${decoded.problem}`));
  }

  failed({ handle, reason }: Extract<CoapEvent, { kind: 'failed' }>): void {
    const request = this.#take(handle);
    if (request === undefined) return;
    if (reason === 'timeout' && request.refusal !== undefined)
      request.reject(new ExchangeError('refused', `${request.peer}: ${request.refusal}`));
    else request.reject(new ExchangeError(reason, `${request.peer} ${SENTENCES[reason]}`));
  }

  /**
   * Remembers a failure of trust. It ends no request: the identity that was refused may have been somebody else's, and
   * the peer's own may still come. It is what a request is told that then times out.
   */
  refused(peer: string, reason: string): void {
    for (const request of this.#open.values()) if (request.peer === peer) request.refusal = reason;
  }

  established(peer: string): void {
    for (const request of this.#open.values()) if (request.peer === peer) request.refusal = undefined;
  }

  /** Ends all of them. */
  close(): void {
    const open = [...this.#open.values()];
    this.#open.clear();
    for (const { peer, reject } of open)
      reject(new ExchangeError('closed', `${peer}: the socket was closed`));
  }

  #take(handle: number): OpenRequest | undefined {
    const request = this.#open.get(handle);
    this.#open.delete(handle);
    return request;
  }
}
