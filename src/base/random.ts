import { randomFillSync } from 'node:crypto';
import { assert } from './assert.ts';

/** The only source of randomness in the process. Simulations pass a seeded one. */
export interface Random {
  /** `length` random bytes in a new array. */
  bytes(length: number): Uint8Array;
  /** A uniform integer in [0, bound); `bound` is at most 2^32. */
  integer(bound: number): number;
  /** A uniform number in [0, 1). */
  fraction(): number;
}

/** Builds a Random out of a function that fills an array with random bytes. */
function randomFrom(fill: (bytes: Uint8Array) => void): Random {
  const word = new Uint8Array(4);
  const view = new DataView(word.buffer);
  const uint32 = (): number => {
    fill(word);
    return view.getUint32(0);
  };
  return {
    bytes(length) {
      const bytes = new Uint8Array(length);
      fill(bytes);
      return bytes;
    },
    integer(bound) {
      assert(bound >= 1 && bound <= 2 ** 32, 'a bound is from 1 to 2^32');
      // Rejection, so that every value is equally likely.
      const limit = 2 ** 32 - (2 ** 32 % bound);
      for (;;) {
        const value = uint32();
        if (value < limit) return value % bound;
      }
    },
    fraction: () => uint32() / 2 ** 32,
  };
}

/** The operating system's generator, fit for keys. */
export const systemRandom: Random = randomFrom((bytes) => {
  randomFillSync(bytes);
});

/**
 * A deterministic generator for simulations and tests: xoshiro128** seeded through splitmix32.
 * Never for keys that protect anything.
 */
export function seededRandom(seed: number): Random {
  let mix = seed >>> 0;
  const splitmix = (): number => {
    mix = (mix + 0x9e3779b9) >>> 0;
    let z = mix;
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return (z ^ (z >>> 16)) >>> 0;
  };
  let [a, b, c, d] = [splitmix(), splitmix(), splitmix(), splitmix()];
  const rotl = (x: number, k: number): number => ((x << k) | (x >>> (32 - k))) >>> 0;
  const next = (): number => {
    const result = Math.imul(rotl(Math.imul(b, 5), 7), 9) >>> 0;
    const t = b << 9;
    c ^= a;
    d ^= b;
    b = (b ^ c) >>> 0;
    a = (a ^ d) >>> 0;
    c = (c ^ t) >>> 0;
    d = rotl(d >>> 0, 11);
    return result;
  };
  return randomFrom((bytes) => {
    for (let at = 0; at < bytes.length; ) {
      let word = next();
      for (let i = 0; i < 4 && at < bytes.length; i++, at++) {
        bytes[at] = word & 0xff;
        word >>>= 8;
      }
    }
  });
}
