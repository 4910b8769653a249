import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Structure } from '../../../src/compact/mixer/structure.ts';
import { CompactWriter } from '../../../src/compact/value_writer.ts';
import type { JsonValue } from '../../../src/matrix/json.ts';

const SEED = 11;
const MAX_FOLLOWED_DEPTH = 5;

/** Texts that the compact form writes in a way of its own, besides any others. */
const texts = fc.oneof(
  fc.string({ maxLength: 40 }),
  fc.string({ unit: 'grapheme', maxLength: 10 }),
  fc.constantFrom(
    '@alice:example.org',
    '!room:example.org',
    '#alias:chat.example.com',
    'mxc://example.org/GCmhgzMPRjqgpODLsNQzVuHZ',
    'm1700000000000.5',
    'm.room.message',
    '123456',
    `$${'Q0FGRUJBQkVDQUZFQkFCRUNBRkVCQUJFQ0FGRUJBQkU'.slice(0, 43)}`,
  ),
);
const values = fc.letrec<{ value: JsonValue }>((tie) => ({
  value: fc.oneof(
    { maxDepth: MAX_FOLLOWED_DEPTH, depthSize: 'small' },
    texts,
    fc.integer(),
    fc.constantFrom(1_700_000_000_000, -0.5, 1e300, true, false, null),
    fc.array(tie('value'), { maxLength: 5 }),
    fc.dictionary(texts, tie('value'), { maxKeys: 5 }),
    texts.map((body) => ({ msgtype: 'm.text', body })),
  ),
})).value;

function contentWithoutBlobs(value: JsonValue): Uint8Array {
  const writer = new CompactWriter({});
  writer.value(value);
  const { bytes, blobs } = writer.content();
  return bytes.filter((_, i) => !blobs.some(([start, end]) => i >= start && i < end));
}

describe('the structure that the mixer follows', () => {
  it('is complete at the end of a compact value and nowhere before', () => {
    fc.assert(
      fc.property(values, (value) => {
        const content = contentWithoutBlobs(value);
        const structure = new Structure();
        for (const [i, byte] of content.entries()) {
          structure.advance(byte);
          expect(structure.complete).toBe(i === content.length - 1);
        }
      }),
      { seed: SEED, numRuns: 1000 },
    );
  });

  it('knows the texts, and how many of their bytes are to come', () => {
    const content = contentWithoutBlobs({ msgtype: 'm.text', body: 'Grüße' });
    const structure = new Structure();
    const left = Array.from(content, (byte) => {
      structure.advance(byte);
      return structure.place === 'text' ? structure.remaining : 0;
    });
    expect(left.slice(-8)).toEqual([7, 6, 5, 4, 3, 2, 1, 0]);
  });

  it('takes any bytes, and forgets them at a reset', () => {
    const used = new Structure();
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 500 }), (bytes) => {
        used.reset();
        const fresh = new Structure();
        for (const byte of bytes) {
          fresh.advance(byte);
          used.advance(byte);
          expect(fresh.remaining).toBeLessThanOrEqual(4096);
          expect([used.place, used.depth, used.key, used.isKey]).toEqual([
            fresh.place,
            fresh.depth,
            fresh.key,
            fresh.isKey,
          ]);
        }
      }),
      { seed: SEED, numRuns: 300 },
    );
  });
});
