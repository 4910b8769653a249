import { deflateSync, Inflate } from 'fflate';
import { concat } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';

// The specification's (RFC 1951): how far back a copy may reach.
const WINDOW_BYTES = 32 * 1024;

// Ours.
/**
 * Compressed bytes that are fed at a time. One bit of Deflate stands for at most 129 bytes, so that what is inflated
 * beyond a limit before the limit is seen stays below half a megabyte.
 */
const FEED_BYTES = 448;

export type FlateProblem = 'too large' | 'not Deflate';

/** Raw Deflate (RFC 1951) of `bytes`, primed with a preset dictionary that the receiver also has. */
export function deflate(bytes: Uint8Array, dictionary: Uint8Array): Uint8Array {
  return deflateSync(bytes, { level: 9, dictionary: dictionary.subarray(-WINDOW_BYTES) });
}

/**
 * What `deflate` was given. Stops as soon as the output is longer than `maxBytes`: a small bomb costs neither the
 * memory nor the time of what it pretends to be.
 */
export function inflate(
  bytes: Uint8Array,
  dictionary: Uint8Array,
  maxBytes: number,
): Result<Uint8Array, FlateProblem> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  const stream = new Inflate({ dictionary: dictionary.subarray(-WINDOW_BYTES) }, (piece) => {
    pieces.push(piece);
    length += piece.length;
  });
  try {
    for (let at = 0; at < bytes.length; at += FEED_BYTES) {
      stream.push(bytes.subarray(at, at + FEED_BYTES), at + FEED_BYTES >= bytes.length);
      if (length > maxBytes) return bad('too large');
    }
  } catch {
    return bad('not Deflate');
  }
  return bytes.length === 0 ? bad('not Deflate') : ok(concat(...pieces));
}
