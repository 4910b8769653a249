import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ArithmeticDecoder, ArithmeticEncoder } from '../../../src/compact/mixer/arithmetic_coder.ts';
import { ONE, SQUASH, stretch } from '../../../src/compact/mixer/logistic.ts';

const SEED = 7;
const decisions = fc.array(
  fc.tuple(fc.nat(1), fc.oneof(fc.integer({ min: 1, max: ONE - 1 }), fc.constantFrom(1, 22, ONE - 1))),
  {
    maxLength: 400,
  },
);

/** The same coder with the bounds as fractions of big integers, which never lose a bit and never send one early. */
function exactInterval(bits: readonly (readonly [number, number])[]): {
  low: bigint;
  high: bigint;
  shift: bigint;
} {
  let low = 0n;
  let high = 0xffff_ffffn;
  let shift = 0n;
  for (const [bit, probability] of bits) {
    const [l, h] = [low & 0xffff_ffffn, high & 0xffff_ffffn];
    const middle = low + (((h - l) * BigInt(probability)) >> 16n);
    if (bit === 1) high = middle;
    else low = middle + 1n;
    while (low >> 24n === high >> 24n) {
      low <<= 8n;
      high = (high << 8n) | 0xffn;
      shift += 8n;
    }
  }
  return { low, high, shift };
}

describe('the arithmetic coder', () => {
  it('gives back every decision', () => {
    fc.assert(
      fc.property(decisions, (bits) => {
        const encoder = new ArithmeticEncoder();
        for (const [bit, probability] of bits) encoder.encode(bit, probability);
        const decoder = new ArithmeticDecoder(encoder.finish());
        for (const [bit, probability] of bits) expect(decoder.decode(probability)).toBe(bit);
        expect(decoder.exact).toBe(true);
      }),
      { seed: SEED, numRuns: 500 },
    );
  });

  it('writes the shortest bytes that lie in the exact interval with zeros after them', () => {
    fc.assert(
      fc.property(decisions, (bits) => {
        const encoder = new ArithmeticEncoder();
        for (const [bit, probability] of bits) encoder.encode(bit, probability);
        const bytes = encoder.finish();
        const { low, high, shift } = exactInterval(bits);
        const numberOf = (written: Uint8Array): bigint => {
          const total = Number(shift + 32n) / 8;
          const padded = new Uint8Array(Math.max(total, written.length));
          padded.set(written);
          return BigInt(`0x0${Buffer.from(padded).toString('hex')}`);
        };
        const value = numberOf(bytes);
        expect(value >= low && value <= high).toBe(true);
        // One byte less cannot name a number in the interval: the smallest such number is rounded up past its end.
        if (bytes.length > 0) {
          const unit = 1n << (shift + 32n - 8n * BigInt(bytes.length - 1));
          expect(((low + unit - 1n) / unit) * unit > high).toBe(true);
        }
      }),
      { seed: SEED, numRuns: 500 },
    );
  });

  it('reads any bytes, and zeros after their end', () => {
    const decoder = new ArithmeticDecoder(Uint8Array.of(0xff));
    for (let i = 0; i < 1000; i++) expect([0, 1]).toContain(decoder.decode(ONE / 2));
  });
});

describe('the logistic function', () => {
  it('rises, is symmetric, and is undone by its inverse to the precision of twelve bits', () => {
    for (let x = 0; x < SQUASH.length; x++) {
      const p = SQUASH[x]!;
      expect(p + SQUASH[SQUASH.length - 1 - x]!).toBe(ONE);
      if (x > 0) expect(p).toBeGreaterThanOrEqual(SQUASH[x - 1]!);
      expect(Math.abs(SQUASH[stretch(p) + 2047]! - p)).toBeLessThanOrEqual(160);
    }
  });

  it('is what floating point says of it', () => {
    for (let x = -2047; x <= 2047; x++) {
      expect(Math.abs(SQUASH[x + 2047]! - ONE / (1 + Math.exp(-x / 256)))).toBeLessThanOrEqual(1);
    }
  });
});
