import { assert } from '../base/assert.ts';
import { concat } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import { MOST_BLOCKS } from './block.ts';

/** Which blocks of a body have arrived: what the acknowledgement of a checkpoint says. */
export interface MissingBlocks {
  /** The first block that has not arrived; where all have, how many there are. */
  readonly first: number;
  /** One bit for each block behind it, 1 where it has arrived; the highest bit of each byte first, no zeros at the end. */
  readonly behind: Uint8Array;
}

/** Of the bitmap; an acknowledgement stays small beside a block. */
const MOST_BITMAP_BYTES = 32;

/** So far behind the first missing block a bitmap reaches: what is further away is neither sent nor kept. */
export const REACH = MOST_BITMAP_BYTES * 8;

/**
 * @param first the first block that has not arrived
 * @param behind the blocks behind it that have, in any order, none further away than `REACH`
 */
export function missingBlocks(first: number, behind: Iterable<number>): MissingBlocks {
  const bits = new Uint8Array(MOST_BITMAP_BYTES);
  let length = 0;
  for (const num of behind) {
    const at = num - first - 1;
    assert(at >= 0 && at < REACH, 'a block behind the first missing one is within reach');
    bits[at >> 3]! |= 0x80 >> (at & 7);
    length = Math.max(length, (at >> 3) + 1);
  }
  return { first, behind: bits.subarray(0, length) };
}

/** Whether a block has arrived; undefined where it is out of reach, so that nothing is said about it. */
export function hasArrived({ first, behind }: MissingBlocks, num: number): boolean | undefined {
  if (num <= first) return num < first;
  const at = num - first - 1;
  return at < REACH ? ((behind[at >> 3] ?? 0) & (0x80 >> (at & 7))) !== 0 : undefined;
}

/** `0.......`: 7 bits, `10......`: 14 bits, `11......`: 30 bits, as connection ids are written. */
const ONE_BYTE_BELOW = 2 ** 7;
const TWO_BYTES_BELOW = 2 ** 14;

/** The number of the first missing block, in its shortest form, and the bitmap. */
export function encodeMissing({ first, behind }: MissingBlocks): Uint8Array {
  assert(first >= 0 && first <= MOST_BLOCKS, 'a block number has twenty bits');
  if (first < ONE_BYTE_BELOW) return concat(Uint8Array.of(first), behind);
  if (first < TWO_BYTES_BELOW) return concat(Uint8Array.of(0x80 | (first >> 8), first & 0xff), behind);
  return concat(Uint8Array.of(0xc0, first >> 16, (first >> 8) & 0xff, first & 0xff), behind);
}

/** Reads what `encodeMissing` writes; never throws, and the result shares no memory with `bytes`. */
export function decodeMissing(bytes: Uint8Array): Result<MissingBlocks, 'number' | 'bitmap'> {
  const head = bytes[0];
  if (head === undefined) return bad('number');
  const length = head < 0x80 ? 1 : head < 0xc0 ? 2 : 4;
  if (bytes.length < length) return bad('number');
  let first = length === 1 ? head : head & 0x3f;
  for (let at = 1; at < length; at++) first = first * 256 + bytes[at]!;
  const shortest = first < ONE_BYTE_BELOW ? 1 : first < TWO_BYTES_BELOW ? 2 : 4;
  if (length !== shortest || first > MOST_BLOCKS) return bad('number');
  const behind = bytes.slice(length);
  return behind.length > MOST_BITMAP_BYTES || behind.at(-1) === 0 ? bad('bitmap') : ok({ first, behind });
}
