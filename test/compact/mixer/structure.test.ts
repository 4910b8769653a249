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

  const SEND = 192;
  /** Room by its handle; header: SIGNED, and as said. */
  const entry = (header: number, ...rest: readonly number[]): readonly number[] => [
    ...[0xd0, 0x05, 0x80 | header],
    ...rest,
  ];
  const [TEXT, USUAL_SENDER] = [0x20, 0x10];
  /** What stands where each byte does, and whether a message may end after it. */
  function followed(...bytes: readonly number[]): string[] {
    const structure = new Structure();
    structure.route(SEND);
    return [0x00, 0xfe, ...bytes].map((byte) => {
      structure.advance(byte);
      return structure.toEnd ? 'text to the end' : structure.complete ? 'may end' : structure.place;
    });
  }

  it('finds the text of the one event of a transaction, which goes to the end', () => {
    const usual = followed(...entry(TEXT | USUAL_SENDER), 0x48, 0x69);
    expect(usual.slice(-3)).toEqual(['text to the end', 'text to the end', 'text to the end']);
    expect(usual[3]).toBe('head');
    const sender = followed(...entry(TEXT), 0xd1, 0x07, 0x48);
    expect(sender.slice(-4)).toEqual(['head', 'argument', 'text to the end', 'text to the end']);
  });

  it('finds the events of a longer one, of which the last text alone has no length', () => {
    const two = followed(
      0x82,
      ...entry(TEXT | USUAL_SENDER, 0x62, 0x48, 0x69),
      ...entry(TEXT | USUAL_SENDER, 0x48),
    );
    expect(two.slice(6, 9)).toEqual(['text', 'text', 'head']);
    expect(two.slice(-2)).toEqual(['text to the end', 'text to the end']);
    const withEdus = followed(0xa1, ...entry(TEXT | USUAL_SENDER, 0x61, 0x48), 0x80);
    expect(withEdus.slice(-3)).toEqual(['text', 'may end', 'may end']);
  });

  it('follows other events up to the end of their contents', () => {
    // A reaction of the usual sender: type and content. A state event of somebody else: extension, sender, type, content.
    expect(followed(...entry(USUAL_SENDER), 0x61, 0x74, 0xa0).slice(-3)).toEqual(['text', 'head', 'may end']);
    const state = followed(...entry(0x40), 0x20, 0xd1, 0x07, 0x61, 0x6d, 0xa1, 0x01, 0x02);
    expect(state.filter((place) => place === 'may end')).toEqual(['may end', 'may end']);
    expect(state.at(-1)).toBe('may end');
  });
});
