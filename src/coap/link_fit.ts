import type { Millis } from '../base/time.ts';

/** The bounds of a fit. */
export const MOST_SAMPLES = 2 ** 32;
export const LONGEST_FIXED: Millis = 600_000;
export const LONGEST_VARIATION: Millis = 150_000;
export const LONGEST_TRIP: Millis = 1_200_000;
/** How many times slower than the first hop the rest of the way may be. */
export const SLOWER = 100;
export const SLOWEST_BYTE: Millis = 60_000;
export const LONGEST_WIRE = 2 ** 17;
export const MOST_CODES = 16;
const LARGEST_CODE = 255;

/**
 * What the round trips with a peer have taught. Plain numbers, to be kept over a restart. The time from the last bit
 * of a message to its reply is
 *
 *     fixed + perByteThere x message + perByteBack x reply (+ hesitation, where the reply is an empty acknowledgement)
 *
 * with the lengths as they are on the wire.
 */
export interface LinkFit {
  /** Round trips that it was made of. */
  readonly samples: number;
  /** Both ways' propagation and the peer's processing. */
  readonly fixed: Millis;
  /** Airtime of a byte of ours behind the first hop, and of the peer's on its way back. */
  readonly perByteThere: Millis;
  readonly perByteBack: Millis;
  /** How long the peer waits before it acknowledges a request that it cannot answer yet. */
  readonly hesitation: Millis;
  /** Mean deviation of round trips from what was predicted (RTTVAR). */
  readonly variation: Millis;
  /** Copies sent lately and replies to them; older ones count less. */
  readonly copies: number;
  readonly replies: number;
  /** The least of what was fixed lately: nothing is answered sooner. */
  readonly least: Millis;
  /** Bytes on the wire of the longest of our messages lately, and of the peer's own. */
  readonly ours: number;
  readonly inTheWay: Longest;
  /** By code of a message: bytes on the wire of the longest reply, and how lately one was preceded by hesitation (1: now). */
  readonly expected: readonly (readonly [code: number, ...Longest, hesitated: number])[];
}

/** The longest that was seen lately, and what is left of the guess that was made before anything was seen. */
export type Longest = readonly [seen: number, guess: number];

/** The largest value of each number in a fit; none is negative. */
const BOUNDS: Readonly<Record<Exclude<keyof LinkFit, 'inTheWay' | 'expected'>, number>> = {
  samples: MOST_SAMPLES,
  fixed: LONGEST_FIXED,
  perByteThere: SLOWEST_BYTE,
  perByteBack: SLOWEST_BYTE,
  hesitation: LONGEST_FIXED,
  variation: LONGEST_VARIATION,
  copies: MOST_SAMPLES,
  replies: MOST_SAMPLES,
  least: LONGEST_FIXED,
  ours: LONGEST_WIRE,
};

/** The fit in a value that was read from somewhere, or undefined where it cannot be one. */
export function checkedFit(value: unknown): LinkFit | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const fit = value as LinkFit;
  const sound = Object.entries(BOUNDS).every(([name, most]) =>
    isWithin(fit[name as keyof typeof BOUNDS], most),
  );
  // Divisors, and a part that is no more than the whole.
  if (!sound || fit.copies === 0 || fit.ours === 0 || fit.replies > fit.copies) return undefined;
  if (!areWithin(fit.inTheWay, [LONGEST_WIRE, LONGEST_WIRE])) return undefined;
  if (!Array.isArray(fit.expected) || fit.expected.length > MOST_CODES) return undefined;
  const bounds = [LARGEST_CODE, LONGEST_WIRE, LONGEST_WIRE, 1];
  const areExpected = fit.expected.every(
    (one: unknown) => areWithin(one, bounds) && Number.isInteger((one as number[])[0]),
  );
  return areExpected ? fit : undefined;
}

const areWithin = (value: unknown, bounds: readonly number[]): boolean =>
  Array.isArray(value) &&
  value.length === bounds.length &&
  bounds.every((most, at) => isWithin(value[at], most));

const isWithin = (value: unknown, most: number): boolean =>
  typeof value === 'number' && value >= 0 && value <= most;
