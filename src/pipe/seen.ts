import { concat } from '../base/bytes.ts';
import { LAST_PACKET_NUMBER } from './packet_number.ts';
import { decodeVarint, encodeVarint } from './varint.ts';

// docs/protocol.md, "Data". No message begins with this byte.
const SEEN = 0x01;

/** Puts the highest number received in front of a payload. */
export const withSeen = (seen: number, payload: Uint8Array): Uint8Array =>
  concat(Uint8Array.of(SEEN), encodeVarint(seen), payload);

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
  const seen = decodeVarint(plaintext, 1, LAST_PACKET_NUMBER);
  return seen && { seen: seen.value, payload: plaintext.slice(seen.end) };
}
