import type { Millis } from '../base/time.ts';
import { BLOCK_SIZES, type BlockSize } from './block.ts';
import { type SelectiveWindow, selectiveWindow } from './selective_window.ts';

/** What a timer may take into account beside the length of a message. */
export interface Sent {
  /** The message's code; 0 for a ping. */
  readonly code: number;
  /** CON exchanges with the peer that are outstanding, this one included. */
  readonly outstanding: number;
}

/** A CON, the copies of it that were sent, and what came back. Instants are monotonic. */
export interface Delivery {
  readonly code: number;
  /** Length of the CoAP message, and of the newest reply to it. */
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** Whether the reply is an acknowledgement and nothing else. */
  readonly empty: boolean;
  /** Copies that were sent, one that is still in the link among them. */
  readonly copies: number;
  /** When the last bit of each copy left, the latest ones, oldest first. */
  readonly leftAt: readonly Millis[];
  /** When each reply arrived. Told once for each. */
  readonly repliedAt: readonly Millis[];
  /** Which of `leftAt` the newest reply is to, where that is known; below 0: one of before. */
  readonly answered?: number;
}

/** What the reliability needs to know about the way to a peer. */
export interface Timing {
  /**
   * Time from the moment the last bit of a CON left until it is sent again.
   * @param attempt 0 for the first copy.
   * @param bytesSent length of the CoAP message.
   * @param random in [0, 1).
   */
  retransmitAfter(attempt: number, bytesSent: number, random: number, sent?: Sent): Millis;
  /**
   * The same, for a message of the top class on a link that loses much and has nothing else to do; null: the timer is
   * waited for. When it has passed `mayRepeat` is asked.
   */
  repeatAfter?(attempt: number, bytesSent: number, random: number, sent: Sent): Millis | null;
  /** Whether a message may be sent again before its timer, now: if so, its airtime is accounted for. */
  mayRepeat?(bytesSent: number): boolean;
  /** A reply to a CON has arrived. */
  replied?(delivery: Delivery): void;
  /** A message of the peer's own, not a reply, has arrived. */
  heard?(bytesReceived: number): void;
  /** Copies after the first; null: until the request's deadline. */
  readonly maxRetransmit: number | null;
  /** No copy is sent later than this after the first, however late timers run; undefined: until the deadline. */
  readonly transmitSpan?: Millis;
  /** Outstanding CON exchanges to one peer; more wait in a bounded queue by priority. */
  readonly nstart: number;
  readonly blockSize: BlockSize;
  /** A body of up to so many bytes still goes in one message, where that is more than a block; default `blockSize`. */
  readonly undividedSize?: number;
  /**
   * How far ahead large bodies are sent where both ends speak selective repeat. Undefined on links without a known rate:
   * a window would leave in one burst there, and nothing would control congestion.
   */
  readonly window?: SelectiveWindow;
  /** Whether requests say which block size they want back (2 bytes each): for links of which the peer knows nothing. */
  readonly announceBlockSize?: boolean;
  /** A server that has no answer by then acknowledges empty and answers separately. */
  readonly separateAfter: Millis;
  /**
   * How long a peer may owe the answer to a request that it has acknowledged before it is asked whether it lives.
   * @param probes how often it was asked since.
   */
  probeAfter(probes: number): Millis;
  /**
   * How long message ids and cached replies are kept, counted from the last copy. No copy of a message is sent later
   * than half of it after the first, so that a late copy never finds its predecessor forgotten.
   */
  readonly exchangeLifetime: Millis;
  /** The same for what is received non-confirmable, of which no copies are sent (NON_LIFETIME). */
  readonly nonLifetime: Millis;
}

/** RFC 7252, section 4.8. */
export const PARAMETERS = {
  ackTimeout: 2_000,
  ackRandomFactor: 1.5,
  maxRetransmit: 4,
  nstart: 1,
  maxLatency: 100_000,
} as const satisfies Parameters;

/** The protocol's parameters, from which its times follow (RFC 7252, section 4.8). */
export interface Parameters {
  readonly ackTimeout: Millis;
  readonly ackRandomFactor: number;
  readonly maxRetransmit: number;
  readonly nstart: number;
  /** Section 4.8.2 calls it arbitrary: how long a datagram takes at most. */
  readonly maxLatency: Millis;
}

/** The times that follow from the parameters (RFC 7252, section 4.8.2). */
export function derivedTimes({ ackTimeout, ackRandomFactor, maxRetransmit, maxLatency }: Parameters) {
  const maxTransmitSpan = ackTimeout * (2 ** maxRetransmit - 1) * ackRandomFactor;
  const maxTransmitWait = ackTimeout * (2 ** (maxRetransmit + 1) - 1) * ackRandomFactor;
  const processingDelay = ackTimeout;
  const maxRtt = 2 * maxLatency + processingDelay;
  return {
    maxTransmitSpan,
    maxTransmitWait,
    processingDelay,
    maxRtt,
    exchangeLifetime: maxTransmitSpan + maxRtt,
    nonLifetime: maxTransmitSpan + maxLatency,
  };
}

const ACK_TIMEOUT: Millis = PARAMETERS.ackTimeout;

/** Ours: half of ACK_TIMEOUT leaves the other half for the way there and back (RFC 7252, section 5.2.2). */
const SEPARATE_AFTER: Millis = ACK_TIMEOUT / 2;

/** Ours: somebody waits for the answer, but nearly always it is on its way. */
const PROBE_AFTER: Millis = 60_000;
const LONGEST_PROBE_AFTER: Millis = 600_000;

const doubling = (shortest: Millis, doublings: number): Millis =>
  Math.min(shortest * 2 ** doublings, Math.max(shortest, LONGEST_PROBE_AFTER));

/** The standard's exponential backoff, for paths of which nothing is known (RFC 7252, section 4.2). */
export function rfc7252Timing(overrides: Partial<Timing> = {}): Timing {
  const { maxTransmitSpan, exchangeLifetime, nonLifetime } = derivedTimes(PARAMETERS);
  return {
    retransmitAfter: (attempt, _bytesSent, random) =>
      ACK_TIMEOUT * (1 + random * (PARAMETERS.ackRandomFactor - 1)) * 2 ** attempt,
    maxRetransmit: PARAMETERS.maxRetransmit,
    transmitSpan: maxTransmitSpan,
    nstart: PARAMETERS.nstart,
    blockSize: 1024,
    announceBlockSize: overrides.blockSize !== undefined && overrides.blockSize < 1024,
    separateAfter: SEPARATE_AFTER,
    probeAfter: (probes) => doubling(PROBE_AFTER, probes),
    exchangeLifetime,
    nonLifetime,
    ...overrides,
  };
}

/** What is known about a link with a configured rate. */
export interface LinkModel {
  /** Bits a second in each direction. */
  readonly rate: number;
  /** One way, in milliseconds. */
  readonly delay: Millis;
  /** Bytes that everything below CoAP adds to a message, a pipe's record included. */
  readonly overhead: number;
  /** The largest CoAP message in bytes. */
  readonly mtu: number;
}

/** Header, token and options of an ordinary message with a block. */
export const MESSAGE_HEAD_BYTES = 24;
export const EMPTY_MESSAGE_BYTES = 4;
/** Airtime of one block of a large body, overhead not counted: 256 bytes at 100 bit/s (docs/decisions/0002). */
const BLOCK_AIRTIME: Millis = 32_000;
/** What a block of a selective transfer has beside its payload, and the acknowledgement of a checkpoint. */
export const BLOCK_HEAD_BYTES = 13;
export const CHECKPOINT_REPLY_BYTES = 10;
/** Up to so many blocks go undivided: two round trips cost more than one long packet. */
const UNDIVIDED_BLOCKS = 2;
export const MOST_PARALLEL = 4;
/** The least time for the unknown part of a round trip; where samples are fitted 4 RTTVAR may be more. */
export const VARIATION: Millis = 1_000;
const SHORTEST_PROCESSING: Millis = 500;
const LONGEST_PROCESSING: Millis = 8_000;
/** Two retries at the modelled interval, then each 1.5 times longer. */
export const STEADY_RETRIES = 2;
const GROWTH = 1.5;
export const LONGEST_INTERVAL: Millis = 300_000;
const SHORTEST_LIFETIME: Millis = 600_000;
const LONGEST_LIFETIME: Millis = 7_200_000;
/** Airtimes of a ping between two: with its answer it takes a tenth of the link at most. */
const PROBE_AIRTIMES = 20;
/** How many modelled intervals a message may be sent for. */
const SPAN_INTERVALS = 40;

/**
 * Timers computed from a link's rate and delay, for links on which RFC 7252's would send everything several times
 * (100 bit/s: a message of 90 bytes takes 7.2 s). After the last bit of a request has left, its answer may have
 * to wait for one packet of the peer's own that was under way, takes its own airtime, both ways' propagation, and the
 * time after which the peer acknowledges at the latest. Nothing is sent twice without a loss, as long as the peer's
 * packets are no longer than a body that goes undivided.
 */
export function modelledTiming({ rate, delay, overhead, mtu }: LinkModel): Timing {
  const airtime = (messageBytes: number): Millis => ((messageBytes + overhead) * 8 * 1000) / rate;
  const room = mtu - MESSAGE_HEAD_BYTES;
  const blockBytes = Math.min((rate * BLOCK_AIRTIME) / 8000, room);
  const blockSize = BLOCK_SIZES.findLast((size) => size <= blockBytes) ?? BLOCK_SIZES[0];
  const undividedSize = Math.max(blockSize, Math.min(UNDIVIDED_BLOCKS * blockSize, room));
  const longest = airtime(undividedSize + MESSAGE_HEAD_BYTES);
  const nstart = Math.min(MOST_PARALLEL, 1 + Math.floor((2 * delay) / longest));
  const separateAfter = Math.min(
    LONGEST_PROCESSING,
    Math.max(SHORTEST_PROCESSING, airtime(EMPTY_MESSAGE_BYTES)),
  );
  // Answers to all that is outstanding may be queued in front of this one.
  const answer = 2 * delay + separateAfter + nstart * longest + VARIATION;
  const interval = (bytesSent: number): Millis => answer + Math.max(longest, airtime(bytesSent));
  const shortestProbeAfter = Math.max(
    PROBE_AFTER,
    PROBE_AIRTIMES * airtime(EMPTY_MESSAGE_BYTES),
    interval(0),
  );
  const exchangeLifetime = Math.min(
    LONGEST_LIFETIME,
    Math.max(SHORTEST_LIFETIME, 2 * SPAN_INTERVALS * interval(0)),
  );
  return {
    retransmitAfter: (attempt, bytesSent, random) => backedOff(interval(bytesSent), attempt, random),
    maxRetransmit: null,
    nstart,
    blockSize,
    undividedSize,
    window: selectiveWindow(
      airtime(blockSize + BLOCK_HEAD_BYTES),
      2 * delay + airtime(CHECKPOINT_REPLY_BYTES),
    ),
    announceBlockSize: false,
    separateAfter,
    probeAfter: (probes) => doubling(shortestProbeAfter, probes),
    exchangeLifetime,
    // What is not sent again may be doubled on the way by as much as a round trip late.
    nonLifetime: Math.min(exchangeLifetime, exchangeLifetime / 2 + interval(0)),
  };
}

/** The wait after a copy: constant for two retries, then 1.5 times longer each time, up to 300 s. */
export function backedOff(interval: Millis, attempt: number, random: number): Millis {
  const growth = GROWTH ** Math.max(0, attempt - STEADY_RETRIES + 1);
  // Two peers whose packets collided once must not collide for ever.
  return Math.min(interval * growth, Math.max(LONGEST_INTERVAL, interval)) + random * VARIATION;
}
