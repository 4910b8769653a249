import { concat } from '../../src/base/bytes.ts';
import type { Random } from '../../src/base/random.ts';
import { type ConnectionId, encodeFirst, firstHeader, VERSION_AND_SUITE } from '../../src/pipe/record.ts';

const PADDED_BYTES = 64;

/** Makes first messages of strangers: each another random ephemeral key, long enough to be answered. */
export function strangersFirst(random: Random): () => Uint8Array {
  const header = firstHeader('XX1', { version: VERSION_AND_SUITE, refused: [], source: 5 as ConnectionId });
  const padding = new Uint8Array(PADDED_BYTES);
  return () => encodeFirst(header, concat(random.bytes(32), padding));
}
