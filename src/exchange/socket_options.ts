import type { Priority } from '../base/priority.ts';
import type { Random } from '../base/random.ts';
import type { Clock, Millis } from '../base/time.ts';
import type { CoapCounters, CoapLimits } from '../coap/core.ts';
import type { CoapEndpoint } from '../coap/endpoint.ts';
import type { Timing } from '../coap/timing.ts';
import type { Address, Link } from '../link/link.ts';
import type { PacerLimits } from '../link/pacer.ts';
import type { PipeEndpoint, PipeStatistics } from '../pipe/endpoint.ts';
import type { LocalIdentity } from '../pipe/identity.ts';
import type { PipeLimits } from '../pipe/limits.ts';
import type { NetworkConfig } from '../pipe/network.ts';
import type { PipeStore } from '../pipe/resumption.ts';
import type { FormCounters } from './agreed_form.ts';
import type { Layers } from './layers.ts';
import type { LearningModel } from './learnt.ts';
import type { LinkFits } from './link_timing.ts';
import type { PlainPolicy } from './plain_policy.ts';
import type { TrustPolicy } from './trust.ts';

/** Where the socket tells what an operator should know. Fields first, as pino has it. */
export interface ExchangeLog {
  debug(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** One datagram, as a capture wants it. */
export interface ExchangeObservation {
  readonly direction: 'sent' | 'received';
  /** Monotonic milliseconds. */
  readonly at: Millis;
  readonly peer: Address;
  readonly bytes: Uint8Array;
  /** What it is where that is known: `data CON PUT`, `XX1`. Empty on what is received. */
  readonly label: string;
}

export interface ExchangeOptions {
  /** The socket closes it. */
  readonly link: Link;
  readonly clock: Clock;
  readonly random: Random;
  readonly identity: LocalIdentity;
  readonly trust: TrustPolicy;
  /** Whether devices may open pipes; left out: only servers. */
  readonly acceptDevices?: boolean;
  /**
   * Whether requests of the list in early_requests.ts may go and come in the first message of a handshake, which somebody may
   * hold back and deliver later: only where all of them that have effects are recognised durably. Left out: none.
   */
  readonly earlySends?: boolean;
  /** Whether signatures of events may follow the events; what that means is the application's. Left out: no. */
  readonly deferredSignatures?: boolean;
  readonly plain: PlainPolicy;
  /** Mode and pre-shared key of the pipes; left out: encrypted, and open to all servers that are trusted. */
  readonly network?: NetworkConfig;
  /** What messages are compressed with besides Deflate, best first; left out: nothing. */
  readonly models?: readonly LearningModel[];
  /** Ids of the dictionaries that it offers, best first; left out: all that it has. With none the plain form is written. */
  readonly dictionaries?: readonly number[];
  /** Settled when the models can be used: before that nothing goes out or comes in. Left out: they can be already. */
  readonly modelsReady?: Promise<unknown>;
  /** What shortens what it writes; left out: all of them. */
  readonly layers?: Layers;
  /** Names the link, at every start alike, where there is more than one with the same handlers. */
  readonly linkName?: string;
  /** Where sessions are kept, so that a restart goes on with them. Left out: they live in memory. */
  readonly store?: PipeStore;
  /**
   * Behind a NAT: how often at least something goes to each peer at which a device observes, and to each server with which a server
   * has a session, so that these find the way. Left out: nothing goes where there is nothing to say.
   */
  readonly keepAliveMs?: Millis;
  /** Instead of what the link's profile leads to. */
  readonly timing?: { readonly pipe: Timing; readonly plain: Timing };
  /** Where the timers that were fitted to the link are kept; without it they are learned again at each start. */
  readonly fits?: LinkFits;
  readonly limits?: {
    readonly pipe?: Partial<PipeLimits>;
    readonly coap?: Partial<CoapLimits>;
    readonly pacer?: Partial<PacerLimits>;
  };
  readonly log?: ExchangeLog;
  /** Told where one side does not trust the other. Requests go on until their deadline: another answer may be genuine. */
  readonly onRefused?: (refusal: { readonly by: 'us' | 'peer'; readonly reason: string }) => void;
  readonly observer?: (observation: ExchangeObservation) => void;
}

/** How a request is sent. */
export interface ExchangeRequestOptions {
  readonly timeoutMs: Millis;
  readonly priority: Priority;
  /** Gives the request up. */
  readonly signal?: AbortSignal;
  /**
   * Names what the request tells, such as who is typing in a room: one to the same peer with the same name that has not
   * been sent yet fails with `superseded`, and this one has its place. What was overtaken is never sent.
   */
  readonly supersedes?: string;
}

/** What has happened since the start. The machines' own counters are live views. */
export interface ExchangeCounters {
  datagramsIn: number;
  datagramsOut: number;
  bytesIn: number;
  bytesOut: number;
  /** Datagrams that are neither a record nor CoAP. */
  ignored: number;
  /** Plain CoAP from where it is not served. */
  plainRefused: number;
  /** Datagrams that found no room in the pacer, or waited for a session too long. */
  dropped: number;
  /** Handshakes that ended in a session, and those that ended in distrust. */
  established: number;
  /** Sessions that have gone on after this side's last start. */
  resumed: number;
  /** Starts of peers that were noticed, with a handshake or without. */
  restarts: number;
  refused: number;
  unreachable: number;
  requestsIn: number;
  requestsOut: number;
  responsesIn: number;
  /** Requests that have come early and were let through, and those that have to be made again on a session (4.25). */
  earlyIn: number;
  tooEarly: number;
  /** Requests that could not be decoded. */
  malformedIn: number;
  /** To peers of the pipe. */
  readonly written: Readonly<FormCounters>;
  readonly inPipe: Readonly<CoapCounters>;
  readonly plain: Readonly<CoapCounters>;
  readonly pipe: Readonly<PipeStatistics>;
  readonly held: ExchangeHeld;
}

/** How much is kept at the moment; everything in it has a bound among the limits. */
export interface ExchangeHeld {
  readonly pipe: PipeEndpoint['sizes'];
  readonly inPipe: CoapEndpoint['held'];
  readonly plain: CoapEndpoint['held'];
  /** Own requests without an answer, and requests of others that are being answered. */
  readonly requests: number;
  readonly serving: number;
  /** Datagrams that wait for the link. */
  readonly pacer: number;
}
