import { assert } from '../base/assert.ts';

// docs/protocol.md, "Packet numbers".
/** A counter of 48 bits. A sender uses no higher number. */
export const LAST_PACKET_NUMBER = 2 ** 48 - 1;

/** How many bytes of a number are in a record. */
export type NumberLength = 1 | 2 | 4;

/**
 * How many bytes of `number` a receiver needs, of whom it is known that `arrived` has arrived (-1: nothing): enough for
 * twice the distance (RFC 9000, A.2).
 */
export function numberLength(number: number, arrived: number): NumberLength {
  const distance = number - arrived;
  if (distance <= 2 ** 7) return 1;
  if (distance <= 2 ** 15) return 2;
  assert(distance <= 2 ** 31, 'the distance to what has arrived is below 2^31');
  return 4;
}

/** The low `length` bytes of a number. */
export const truncateNumber = (number: number, length: NumberLength): number => number % 2 ** (8 * length);

/** The number closest to the one after `highest` whose low `length` bytes are `truncated` (RFC 9000, A.3). */
export function expandNumber(truncated: number, length: NumberLength, highest: number): number {
  const range = 2 ** (8 * length);
  const expected = highest + 1;
  const candidate = expected - (expected % range) + truncated;
  if (candidate <= expected - range / 2 && candidate + range <= LAST_PACKET_NUMBER) return candidate + range;
  if (candidate > expected + range / 2 && candidate >= range) return candidate - range;
  return candidate;
}
