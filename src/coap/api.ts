import type { Priority } from '../base/priority.ts';
import type { Random } from '../base/random.ts';
import type { Step } from '../base/step.ts';
import type { Millis } from '../base/time.ts';
import type { CoapLimits } from './core.ts';
import type { EchoPolicy } from './echo.ts';
import type { Option } from './options.ts';
import type { Timing } from './timing.ts';

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
  /** Which of our requests it is a message of: all messages of one have the same number, also where it is begun anew. */
  readonly request: number | null;
  /** 0 for the first message under its id, 1 and so on for its repetitions. */
  readonly copy: number;
  /** It is a whole request, of which the application has said that it may go in a handshake. */
  readonly early?: boolean;
}

/**
 * `timeout`: no answer by the deadline, or after the last copy. `reset`: the peer cannot make sense of the request, or
 * no longer knows what came of it. `too_large`: a body beyond the bounds. `queue_full`: too many requests to the peer.
 * `bad_response`: an answer against the rules. `superseded`: a newer request took its place before it was sent.
 * `ended`: the server has ended an observation; the notification before says with what. `already_observed`: another
 * observation of the same target goes on, whose notifications are to be shared.
 */
export type FailureReason =
  | 'timeout'
  | 'reset'
  | 'cancelled'
  | 'too_large'
  | 'queue_full'
  | 'bad_response'
  | 'superseded'
  | 'ended'
  | 'already_observed';

export interface RequestOptions {
  /** On the monotonic clock: when the request fails. For an observation: its first response, and each renewal takes as long. */
  readonly deadline: Millis;
  readonly priority: Priority;
  /** Default true. A non-confirmable request is sent once and fails at the deadline. */
  readonly confirmable?: boolean;
  /**
   * A request to the same peer with the same key that has not been sent yet fails with `superseded`, and this one takes
   * its place in the queue.
   */
  readonly supersedes?: string;
  /** Whether a lower layer may send it before the peer has shown that it is there: see CoapDatagram. Default false. */
  readonly early?: boolean;
  /**
   * What lower layers call it by (CoapDatagram.request), where it is a request once more that had that name and is over; see `request`.
   * Default: as no other.
   */
  readonly name?: number;
  /**
   * Of an observation: whether the endpoint asks again by itself, for what has become too old and where the peer has restarted.
   * Where it does not, the latter ends the observation with `reset`, and it is never too old. Default true.
   */
  readonly renews?: boolean;
}

/**
 * Why somebody is no observer any more. `deregistered`, `reset`: it does not want to be. `timeout`: it does not answer.
 * `replaced`: it has registered again; its new exchange goes on, if it was accepted. `forgotten`: the peer has
 * restarted or was forgotten, or there was no room for one more.
 */
export type ObserverEnd = 'deregistered' | 'reset' | 'timeout' | 'replaced' | 'forgotten';

export type CoapEvent =
  /** Has to be answered by `respond(exchange)`. Delivered once for each request. */
  | {
      readonly kind: 'request';
      readonly exchange: number;
      readonly peer: string;
      readonly request: CoapRequest;
      /** The peer wants to be notified of changes: `respond` may accept that. */
      readonly observe: boolean;
      /** That of the message that has completed it. */
      readonly token: Uint8Array;
    }
  /**
   * @param observing whether notifications will follow; where it is false the handle is over.
   */
  | {
      readonly kind: 'response';
      readonly handle: number;
      readonly response: CoapResponse;
      readonly observing: boolean;
    }
  /** What is observed has changed. Older states that arrive late are left out. */
  | { readonly kind: 'notification'; readonly handle: number; readonly response: CoapResponse }
  /** Also the end of an observation. */
  | { readonly kind: 'failed'; readonly handle: number; readonly reason: FailureReason }
  /**
   * The end of a request whose option No-Response (RFC 7967) has kept its response away: the peer has the request, or,
   * where it was non-confirmable, it was sent. Also the end of a ping: the peer lives.
   */
  | { readonly kind: 'sent'; readonly handle: number }
  /** The observer has acknowledged the newest notification. Non-confirmable ones are never acknowledged. */
  | { readonly kind: 'notified'; readonly exchange: number }
  /** A lasting observer has not acknowledged the newest notification in time; it goes on to be one. */
  | { readonly kind: 'observer_silent'; readonly exchange: number }
  /** The exchange names no observer any more. Not emitted where `notify` or `endObservation` have ended it. */
  | { readonly kind: 'observer_gone'; readonly exchange: number; readonly reason: ObserverEnd }
  /** A retransmission timer has fired: so many copies of one message have had no answer. */
  | { readonly kind: 'unanswered'; readonly peer: string; readonly attempts: number };

export type CoapStep = Step<never, CoapDatagram, CoapEvent>;

export interface CoapConfig extends EchoPolicy {
  readonly random: Random;
  /** What is known about the way to a peer; asked often. */
  readonly timing: (peer: string) => Timing;
  readonly limits?: Partial<CoapLimits>;
  /**
   * 2 to 8. The default, 4, cannot be guessed by somebody who does not see the traffic (RFC 7252, section 5.3.1); where
   * the messages are authenticated anyway 2 are enough.
   */
  readonly tokenBytes?: number;
  /** The same of observations: fewer where they are given back often; 1 to 8. Default `tokenBytes`. */
  readonly handleBytes?: number;
  /**
   * Whether large bodies go by selective repeat (docs/protocol.md, "Large bodies"), where the timing has a window: every
   * peer has to do the same. Default false; then nothing of it is understood.
   */
  readonly selective?: boolean;
  /** Critical options that the application acts on, beside those of RFC 7252 that name a resource. */
  readonly understood?: readonly number[];
  /**
   * The largest message that arrives at all, in bytes: a request of which the options alone leave no room in it fails
   * with `too_large`. Default: there is no such bound.
   */
  readonly mtu?: number | ((peer: string) => number);
}
