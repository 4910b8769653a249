import { assert } from '../../base/assert.ts';

// Ours. Probabilities have 16 bits, logits 8 bits after the point.
/** Bits of a probability: 65536 would be certainty. */
export const PROBABILITY_BITS = 16;
export const ONE = 1 << PROBABILITY_BITS;
const LOGIT_BITS = 8;
/** The largest logit: 2047/256 = 8 nats, a probability of 0.99966. */
export const MAX_LOGIT = 2047;

/** Bits after the point while the tables are computed. */
const WORKING_BITS = 80n;
const TAYLOR_TERMS = 20n;

/**
 * 65536 / (1 + e^(-x/256)) for x from -MAX_LOGIT to MAX_LOGIT, at index x + MAX_LOGIT. By integer arithmetic, since
 * `Math.exp` differs between engines and both ends must agree to the bit.
 */
export const SQUASH: Uint16Array = computeSquash();

/** The logit of a probability of 12 bits: the smallest whose squash reaches it. */
const STRETCH: Int16Array = computeStretch();

/** The logit of a probability of 16 bits. */
export function stretch(probability: number): number {
  assert(probability >= 0 && probability < ONE, 'a probability has 16 bits');
  return STRETCH[probability >> 4]!;
}

function computeSquash(): Uint16Array {
  const one = 1n << WORKING_BITS;
  // e^(-1/256) by its series.
  let step = 0n;
  let term = one;
  for (let n = 1n; n <= TAYLOR_TERMS; n++) {
    step += term;
    term = -term / (n << BigInt(LOGIT_BITS));
  }
  const table = new Uint16Array(2 * MAX_LOGIT + 1);
  let power = one;
  for (let x = 0; x <= MAX_LOGIT; x++) {
    const p = Number((BigInt(ONE) * one) / (one + power));
    table[MAX_LOGIT + x] = p;
    table[MAX_LOGIT - x] = ONE - p;
    power = (power * step) >> WORKING_BITS;
  }
  return table;
}

function computeStretch(): Int16Array {
  const table = new Int16Array(1 << 12);
  let x = -MAX_LOGIT;
  for (let p = 0; p < table.length; p++) {
    while (x < MAX_LOGIT && SQUASH[x + MAX_LOGIT]! < (p << 4) + 8) x++;
    table[p] = x;
  }
  return table;
}
