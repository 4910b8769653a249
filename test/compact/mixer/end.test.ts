import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ArithmeticDecoder } from '../../../src/compact/mixer/arithmetic_coder.ts';
import { Decisions } from '../../../src/compact/mixer/decisions.ts';
import { endProbability } from '../../../src/compact/mixer/end.ts';
import { ONE } from '../../../src/compact/mixer/logistic.ts';

const SEED = 11;

/** A message of bits of one probability each, which may end before each of them. */
const messages = fc.record({
  bits: fc.array(fc.tuple(fc.nat(1), fc.integer({ min: 1, max: ONE - 1 })), { maxLength: 120 }),
  end: fc.constantFrom(1, 30, 700, 9000, 40_000, ONE - 1),
});

function coded(bits: readonly (readonly [number, number])[], end: number): Uint8Array {
  const decisions = new Decisions();
  for (const [bit, probability] of bits) {
    decisions.add(0, end, true);
    decisions.add(bit, probability, false);
  }
  decisions.add(1, end, true);
  return decisions.encoded();
}

describe('the end of a message', () => {
  it('is found by how many bytes there are', () => {
    fc.assert(
      fc.property(messages, ({ bits, end }) => {
        const bytes = coded(bits, end);
        const decoder = new ArithmeticDecoder(bytes);
        const ends = (): number => decoder.decode(endProbability(end, 8 * bytes.length - decoder.spent));
        for (const [bit, probability] of bits) {
          expect(ends()).toBe(0);
          expect(decoder.decode(probability)).toBe(bit);
        }
        expect(ends()).toBe(1);
      }),
      { seed: SEED, numRuns: 500 },
    );
  });

  it('costs less than where it is told at every place', () => {
    // An end that is as probable before each of a hundred bits.
    const bits = Array.from({ length: 100 }, (_, i) => [i & 1, ONE / 2] as const);
    const end = ONE / 16;
    const toldBits = bits.length * (1 - Math.log2(1 - 1 / 16)) + 4;
    expect(8 * coded(bits, end).length).toBeLessThan(toldBits - 1);
  });

  it('is the more probable the fewer bits are left, and always possible', () => {
    for (const probability of [22, ONE / 100, ONE / 2, ONE - 22]) {
      const by = Array.from({ length: 40 }, (_, i) => endProbability(probability, i - 20));
      for (const [i, one] of by.entries()) {
        expect(one).toBeGreaterThan(0);
        expect(one).toBeLessThan(ONE);
        if (i > 0) expect(one).toBeLessThanOrEqual(by[i - 1]!);
      }
    }
  });
});
