import type { FailureReason } from '../coap/api.ts';

/**
 * Why a request has no answer. Beside CoAP's reasons: `refused`: the two servers do not trust each other; `closed`: this
 * socket is; `invalid`: the request cannot be said in CoAP, or is not to be where everybody can read. After `timeout`, `reset`, `refused`, `cancelled` and
 * `closed` it is not known whether the peer has acted on the request.
 */
export type ExchangeFailure = FailureReason | 'refused' | 'closed' | 'invalid';

/** A request through an exchange that has no answer. An answer of any status is not an error here. */
export class ExchangeError extends Error {
  readonly reason: ExchangeFailure;

  constructor(reason: ExchangeFailure, message: string) {
    super(message);
    this.name = 'ExchangeError';
    this.reason = reason;
  }
}
