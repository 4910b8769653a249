import type { Priority } from '../base/priority.ts';
import type { Random } from '../base/random.ts';
import type { Step } from '../base/step.ts';
import type { Millis } from '../base/time.ts';
import type { Address } from '../link/link.ts';
import type { Capabilities } from './agreement.ts';
import type { IdentityClaim, LocalIdentity } from './identity.ts';
import type { PipeLimits } from './limits.ts';
import type { MessageTimes } from './message_names.ts';
import type { NetworkConfig, PipeMode } from './network.ts';
import type { PipeWrite } from './resumption.ts';
import type { HandshakeTiming } from './timing.ts';

export interface PipeDatagram {
  readonly to: Address;
  readonly bytes: Uint8Array;
  readonly priority: Priority;
  /** Passed through from `send`: of each message in it that has one. */
  readonly receipts: readonly number[];
  /** To be handed to `left` once the last bit has left, or once the datagram was dropped. */
  readonly handshake: number | null;
  /** What it is, for captures and traces. */
  readonly label: string;
}

export type PipeEvent =
  /**
   * The driver answers with `decide`. Until then nothing is sent on the session and what comes on it is held; but one
   * that goes on after a restart was trusted before, and is used until the driver decides against it.
   */
  | {
      readonly kind: 'identity';
      readonly session: number;
      readonly claim: IdentityClaim;
      readonly address: Address;
      readonly isResumed: boolean;
    }
  /**
   * The peer has proved all that it has to, the pre-shared key of a closed network included. `restarted`: it has lost what
   * it had in memory since the last session.
   */
  | {
      readonly kind: 'established';
      readonly session: number;
      readonly peer: string;
      readonly claim: IdentityClaim;
      readonly mode: PipeMode;
      readonly restarted: boolean;
    }
  /** The same, of a peer that goes on with the session that there is. */
  | { readonly kind: 'restarted'; readonly peer: string }
  /**
   * A CoAP message as in RFC 7252.
   * @param copy of a reply: which copy it answers of the message with its id, 0 for the first; undefined: nobody can tell
   */
  | {
      readonly kind: 'payload';
      readonly peer: string;
      readonly bytes: Uint8Array;
      readonly copy: number | undefined;
    }
  /**
   * A CoAP request as in RFC 7252 that has come in an IK1: from a peer that is trusted, once, and before that peer has shown
   * that it is there now. Somebody may have held it back. What is sent in answer waits until the peer has.
   * @param address where it has come from
   */
  | { readonly kind: 'early'; readonly peer: string; readonly address: Address; readonly bytes: Uint8Array }
  /** What was sent with this receipt has gone in an IK1: its answer may come from now on. */
  | { readonly kind: 'taken'; readonly receipt: number }
  /**
   * One side does not trust the other, or an answer came from somebody else than was called. `peer` is the name that
   * was called or claimed; null where the peer has closed a session before this side had decided who it is.
   */
  | {
      readonly kind: 'refused';
      readonly by: 'us' | 'peer';
      readonly peer: string | null;
      readonly reason: string;
    }
  /** A timer has fired without an answer, for the `attempts`-th time; 0 where no address is known. */
  | { readonly kind: 'unreachable'; readonly peer: string; readonly attempts: number }
  /** A record that waited for a session was given up. */
  | { readonly kind: 'dropped'; readonly receipt: number };

export type PipeStep = Step<PipeWrite, PipeDatagram, PipeEvent>;

export type Verdict = { readonly trusted: true } | { readonly trusted: false; readonly reason: string };

export interface PipeConfig {
  readonly identity: LocalIdentity;
  readonly random: Random;
  readonly limits?: Partial<PipeLimits>;
  readonly handshakeTiming: (address: Address) => HandshakeTiming;
  /** Mode and pre-shared key; left out: encrypted, and open to everybody whom the driver trusts. */
  readonly network?: NetworkConfig;
  /** What this side says of itself in handshakes; left out: compact headers, and nothing else. */
  readonly capabilities?: Partial<Capabilities>;
  /** Whether clients may open sessions, each under the name `device:` and its key. */
  readonly acceptDevices?: boolean;
  /** Versions and suites that this side has, best first; left out: this version's. */
  readonly versions?: readonly number[];
  /** How long messages to and from a peer matter; left out: as long as RFC 7252 has it. */
  readonly messageTimes?: (peer: string) => MessageTimes;
  /** Whether the driver commits the writes of each step and calls `stored`; else there are none. */
  readonly isPersistent?: boolean;
  /** Unix time at the origin of the times that the endpoint gets: for the age of sessions across restarts. */
  readonly wallOrigin?: Millis;
}

/** What the endpoint has dropped, for diagnosis: nothing in the protocol depends on it. */
export interface PipeStatistics {
  malformed: number;
  unauthenticated: number;
  replayed: number;
  /** Genuine records that were sealed before their sender knew of this side's start. */
  stale: number;
  throttled: number;
  notHeld: number;
  /** Early data that was handed on, and that was discarded. */
  earlyTaken: number;
  earlyDiscarded: number;
  /** Messages of ours that repeat or answer, and of peers that answer, what is not known any more. */
  unknown: number;
  hintsSent: number;
  cookiesSent: number;
  versionsSent: number;
}
