import { concat } from '../base/bytes.ts';
import { LAST_PACKET_NUMBER } from './packet_number.ts';

// docs/protocol.md, "Data". No CoAP message begins with this byte.
const SEEN = 0x01;
// RFC 9000, section 16: the two high bits say how long an integer is.
const VARINT_LENGTHS = [1, 2, 4, 8] as const;

/** Puts the highest number received in front of a payload. */
export function withSeen(seen: number, payload: Uint8Array): Uint8Array {
  const code = VARINT_LENGTHS.findIndex((length) => seen < 2 ** (8 * length - 2));
  const eight = new Uint8Array(8);
  const view = new DataView(eight.buffer);
  view.setUint32(0, Math.floor(seen / 2 ** 32));
  view.setUint32(4, seen % 2 ** 32);
  const varint = eight.subarray(8 - VARINT_LENGTHS[code]!);
  varint[0]! |= code << 6;
  return concat(Uint8Array.of(SEEN), varint, payload);
}

/** Whether a payload would be read as one with a number in front. */
export const beginsLikeSeen = (payload: Uint8Array): boolean => payload[0] === SEEN;

export interface Parted {
  /** The highest of the reader's own numbers that the writer is known to have received. */
  readonly seen: number | undefined;
  readonly payload: Uint8Array;
}

/** Parts the plaintext of a data record; undefined where a number ends too early or is too high. */
export function partSeen(plaintext: Uint8Array): Parted | undefined {
  if (!beginsLikeSeen(plaintext)) return { seen: undefined, payload: plaintext };
  const first = plaintext[1];
  if (first === undefined) return undefined;
  const end = 1 + VARINT_LENGTHS[first >> 6]!;
  if (plaintext.length < end) return undefined;
  let seen = first & 0x3f;
  for (let at = 2; at < end; at++) seen = seen * 256 + plaintext[at]!;
  return seen > LAST_PACKET_NUMBER ? undefined : { seen, payload: plaintext.slice(end) };
}
