import type { Random } from '../base/random.ts';
import type { Millis } from '../base/time.ts';
import type { Timers } from '../base/timers.ts';
import type { CoapDatagram, CoapEvent } from './api.ts';
import type { Challenge } from './echo.ts';
import { ID_COUNT, MessageIds, Tokens } from './ids.ts';
import type { Incoming } from './incoming.ts';
import type { Remembered } from './memory.ts';
import type { Observation } from './observe_client.ts';
import type { Observer } from './observe_server.ts';
import type { Outgoing } from './outgoing.ts';
import type { Probe } from './prober.ts';
import type { BodyTransfer } from './selective_transfers.ts';
import type { Timing } from './timing.ts';
import type { Transmission } from './transmitter.ts';

/** The bound of everything that a peer can make grow. */
export interface CoapLimits {
  /**
   * Peers of which anything is kept. For one more the least recently used one with which nothing is open gives way, one
   * that has not proved its address (`EchoPolicy`) before others: under that pressure alone message ids are forgotten
   * before their time, and a late copy of a request would run again. Where something is open with all of them, what
   * comes from one more is dropped.
   */
  readonly peers: number;
  /** Requests to one peer that have not ended, waiting ones included: one more fails with `queue_full`. */
  readonly requestsPerPeer: number;
  /** Requests of one peer, and of all, that the application has not answered: one more gets 5.03. */
  readonly exchangesPerPeer: number;
  readonly exchanges: number;
  /** Observers of one peer, and of all: one more is answered as if it had not asked to be one. */
  readonly observersPerPeer: number;
  readonly observers: number;
  /** Message ids of one peer, and of all, that are remembered; a message with one more is dropped. */
  readonly rememberedPerPeer: number;
  readonly remembered: number;
  /** Bytes of cached replies; past it the oldest are forgotten, and their duplicates get a RST. */
  readonly replyBytes: number;
  /** Bytes of one body, sent or received: `too_large` or 4.13 beyond. */
  readonly bodyBytes: number;
  /** Requests in assembly of one peer (the least recent gives way) and of all (see `givesWay`). */
  readonly assembliesPerPeer: number;
  readonly assemblies: number;
  /** Bytes of all bodies in assembly, requests and responses. */
  readonly assemblyBytes: number;
  /**
   * Large responses kept for the blocks that have not been fetched, of which the least recent gives way; and as many
   * that are being sent by selective repeat.
   */
  readonly bodies: number;
  readonly cachedBodyBytes: number;
}

export const DEFAULT_LIMITS: CoapLimits = {
  peers: 4096,
  requestsPerPeer: 256,
  exchangesPerPeer: 64,
  exchanges: 1024,
  observersPerPeer: 64,
  observers: 4096,
  rememberedPerPeer: 16_384,
  remembered: 262_144,
  replyBytes: 8 * 2 ** 20,
  bodyBytes: 8 * 2 ** 20,
  assembliesPerPeer: 16,
  assemblies: 256,
  assemblyBytes: 64 * 2 ** 20,
  bodies: 256,
  cachedBodyBytes: 32 * 2 ** 20,
};

/** What happened since the start. */
export interface CoapCounters {
  datagramsIn: number;
  datagramsOut: number;
  /** Copies of a CON after the first, and those among them that did not wait for their timer. */
  resent: number;
  repeated: number;
  /** Pings to peers that owe an answer, copies not counted. */
  probes: number;
  /** Messages of a peer that had arrived before. */
  duplicates: number;
  /** Datagrams that are no CoAP message. */
  malformed: number;
  /** Well-formed messages that nobody waits for or that make no sense. */
  ignored: number;
  resetsOut: number;
  /** Messages and peers beyond a bound. */
  refused: number;
  /** Cached replies forgotten before their time. */
  shed: number;
  /** Peers and requests in assembly that gave way to new ones. */
  displaced: number;
  requestsIn: number;
  requestsOut: number;
  blocksIn: number;
  blocksOut: number;
  /** Block-wise transfers started over. */
  transfersRestarted: number;
  /** Bodies sent by selective repeat, and blocks of them that were sent again, copies of a message not counted. */
  selectiveTransfers: number;
  blocksAgain: number;
  separateResponses: number;
  /** Representations sent to observers, the answers to their registrations not counted. */
  notificationsOut: number;
  notificationsIn: number;
  /** Notifications that arrived after a newer one. */
  notificationsStale: number;
  /** Requests that had to be repeated with an Echo option, theirs and ours. */
  challenges: number;
}

export const zeroCounters = (): CoapCounters => ({
  datagramsIn: 0,
  datagramsOut: 0,
  resent: 0,
  repeated: 0,
  probes: 0,
  duplicates: 0,
  malformed: 0,
  ignored: 0,
  resetsOut: 0,
  refused: 0,
  shed: 0,
  displaced: 0,
  requestsIn: 0,
  requestsOut: 0,
  blocksIn: 0,
  blocksOut: 0,
  transfersRestarted: 0,
  selectiveTransfers: 0,
  blocksAgain: 0,
  separateResponses: 0,
  notificationsOut: 0,
  notificationsIn: 0,
  notificationsStale: 0,
  challenges: 0,
});

/** Requests that ended without an answer of which the tokens rest, for each peer. */
const RETIRED_TOKENS = 256;

/** Notifications to one observer that are not outstanding and may yet be rejected. */
const NOTED_IDS = 4;

/** Everything that is known of one peer. */
export class Peer {
  readonly kind = 'peer';
  readonly name: string;
  readonly ids: MessageIds;
  readonly tokens: Tokens;
  /** Confirmable messages that wait for a place among the outstanding ones, by priority, then by age. */
  readonly queue: Transmission[] = [];
  /** Confirmable messages that were sent and not acknowledged, by message id. */
  readonly outstanding = new Map<number, Transmission>();
  /** Our requests that have not ended. */
  readonly requests = new Set<Outgoing>();
  /** Those of them that wait for a response, by token in hexadecimal. */
  readonly awaited = new Map<string, Outgoing>();
  /** Our non-confirmable requests among them, by the id of the message that is on its way. */
  readonly unconfirmed = new Map<number, Outgoing>();
  /** What we observe at it, by token in hexadecimal. */
  readonly observed = new Map<string, Observation>();
  /** The observers that it is, by token in hexadecimal. */
  readonly observers = new Map<string, Observer>();
  /** Notifications that may yet be rejected by a reset, by message id. */
  readonly notified = new Map<number, Observer>();
  /** Our requests of which the bodies go by selective repeat now, and those whose turn has not come, the next first. */
  readonly uploading = new Set<Outgoing>();
  readonly toUpload: Outgoing[] = [];
  /** Responses that go to it by selective repeat, by token in hexadecimal. */
  readonly downloads = new Map<string, BodyTransfer>();
  /** Its requests that the application has not answered. */
  readonly exchanges = new Set<Incoming>();
  /** Its messages by id, the one of which a copy came last at the end. */
  readonly remembered = new Map<number, Remembered>();
  readonly probe: Probe = { kind: 'probe', peer: this, sent: 0, transmission: null };
  /** The next Request-Tag. */
  nextTag: number;
  /** The sequence number of the latest notification to it (RFC 7641, section 4.4). */
  observeSequence = 0;
  /** What it has been given to show that it receives what is sent to it, and until when it counts as shown. */
  challenge: Challenge | null = null;
  provedUntil: Millis = Number.NEGATIVE_INFINITY;
  lastUsed: Millis;
  /** When a message of it came last. */
  heardAt: Millis = Number.NEGATIVE_INFINITY;

  constructor(
    name: string,
    random: Random,
    lengths: { readonly token: number; readonly handle: number },
    now: Millis,
  ) {
    this.name = name;
    this.ids = new MessageIds(random.integer(ID_COUNT));
    this.tokens = new Tokens(random, lengths, RETIRED_TOKENS);
    this.nextTag = random.integer(2 ** 16);
    this.lastUsed = now;
  }

  /** Remembers the id of a notification, so that a reset ends the observation; of each observer the last few. */
  noteNotification(id: number, observer: Observer): void {
    this.notified.set(id, observer);
    observer.ids.push(id);
    if (observer.ids.length <= NOTED_IDS) return;
    const oldest = observer.ids.shift()!;
    if (this.notified.get(oldest) === observer) this.notified.delete(oldest);
  }

  /** Whether there is a request or an observation of either side that goes on, or a message on its way to it. */
  get hasOpen(): boolean {
    return (
      this.queue.length > 0 ||
      this.outstanding.size > 0 ||
      this.requests.size > 0 ||
      this.observed.size > 0 ||
      this.observers.size > 0 ||
      this.downloads.size > 0 ||
      this.exchanges.size > 0
    );
  }
}

/** The instant at which what has expired is cleared away. */
export interface Sweep {
  readonly kind: 'sweep';
}

export type TimerTarget = Transmission | Outgoing | Observation | Incoming | Observer | Peer | Probe | Sweep;

/** What the parts of one endpoint share. */
export interface Core {
  readonly random: Random;
  readonly limits: CoapLimits;
  readonly timing: (peer: string) => Timing;
  readonly timers: Timers<TimerTarget>;
  readonly counters: CoapCounters;
  /** Critical options beyond our own that the application acts on. */
  readonly understood: readonly number[];
  /** Whether large bodies go by selective repeat (docs/protocol.md, "Large bodies"). */
  readonly selective: boolean;
  /** The largest message that arrives at all, in bytes. */
  readonly mtu: (peer: string) => number;
  /** Bytes of all bodies in assembly. */
  assembling: number;
  /** Bytes of all responses that are being sent by selective repeat. */
  responding: number;
  /** Collected until the current call returns its step. */
  datagrams: CoapDatagram[];
  events: CoapEvent[];
}
