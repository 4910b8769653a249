import type { Millis } from '../base/time.ts';

/** What is known about the way to an address; a link's profile has all of it. */
export interface HandshakeTiming {
  /** Bits a second in each direction, or null where it is not known. */
  readonly rate: number | null;
  /** What may be sent in the long run, where a budget of airtime allows less than the rate. */
  readonly sustainedRate?: number | null;
  /** One-way propagation delay. */
  readonly delay: Millis;
  /** Bytes that lower layers add to each datagram. */
  readonly overhead: number;
}

const PROCESSING_MS = 1_000;
/** RFC 7252, section 4.8: ACK_TIMEOUT and its doubling, for ways of unknown rate. */
const UNKNOWN_RATE_TIMEOUT_MS = 2_000;
const UNKNOWN_RATE_GROWTH = 2;
const KNOWN_RATE_GROWTH = 1.5;
const JITTER = 0.25;
export const MAX_INTERVAL_MS = 300_000;

/**
 * Time from the moment the last bit of a handshake message left until it is sent again.
 * @param attempt 0 for the first copy
 * @param awaited bytes of the datagrams that have to cross the link before the answer is complete
 * @param fraction [0, 1), so that two sides do not stay in step
 */
export function handshakeTimeout(
  timing: HandshakeTiming,
  attempt: number,
  awaited: readonly number[],
  fraction: number,
): Millis {
  const { rate, delay, overhead } = timing;
  const bytes = awaited.reduce((sum, length) => sum + length + overhead, 0);
  const first =
    2 * delay + (rate === null ? UNKNOWN_RATE_TIMEOUT_MS : (bytes * 8_000) / rate + PROCESSING_MS);
  const growth = rate === null ? UNKNOWN_RATE_GROWTH : KNOWN_RATE_GROWTH;
  const grown = Math.min(first * growth ** attempt, Math.max(first, MAX_INTERVAL_MS));
  return grown * (1 + JITTER * fraction);
}
