import { ed25519 as noble } from '@noble/curves/ed25519.js';
import { describe, expect, it } from 'vitest';
import { concat, hex } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { publicKeyOf, sign } from '../../src/crypto/ed25519.ts';
import {
  add,
  BASE,
  decodePoint,
  littleEndian,
  multiplesOf,
  negate,
  ORDER,
  ordinatesOf,
  sumOfMultiples,
} from '../../src/crypto/edwards25519.ts';
import {
  completeSignature,
  SHORT_SIGNATURE_BYTES,
  shortSignature,
} from '../../src/matrix/short_signature.ts';

describe('arithmetic of points', () => {
  const { Point } = noble;

  it('agrees with its twin', () => {
    const random = seededRandom(1);
    for (let i = 0; i < 12; i++) {
      const [a, b] = [littleEndian(random.bytes(32)) % ORDER, littleEndian(random.bytes(32)) % ORDER];
      const twin = Point.BASE.multiply(a + 1n);
      const point = decodePoint(twin.toBytes())!;
      expect(point.X).toBe(twin.toAffine().x);
      const [sum, difference] = [
        sumOfMultiples([
          { point: BASE, scalar: a },
          { point, scalar: b },
        ]),
        add(point, negate(BASE)),
      ];
      expect(ordinatesOf([sum, difference])).toEqual([
        Point.BASE.multiplyUnsafe(a).add(twin.multiplyUnsafe(b)).toAffine().y,
        twin.subtract(Point.BASE).toAffine().y,
      ]);
    }
    expect(ordinatesOf(multiplesOf(BASE, 4))).toEqual(
      [0n, 1n, 2n, 3n].map((n) => Point.BASE.multiplyUnsafe(n).toAffine().y),
    );
  });

  it('takes no bytes that are not a point in its only form', () => {
    const random = seededRandom(2);
    const takesIt = (bytes: Uint8Array): boolean => {
      try {
        return Point.fromBytes(bytes) !== undefined;
      } catch {
        return false;
      }
    };
    const edges = [0, 1, 0xec, 0xed, 0xee].flatMap((low) =>
      [0x7f, 0xff].map((high) =>
        Uint8Array.from({ length: 32 }, (_, i) => (i === 0 ? low : i === 31 ? high : 0xff)),
      ),
    );
    const one = Uint8Array.from({ length: 32 }, (_, i) => (i === 0 ? 1 : 0));
    const oddOne = Uint8Array.from(one, (byte, i) => (i === 31 ? 0x80 : byte));
    for (const bytes of [...edges, one, oddOne, ...Array.from({ length: 30 }, () => random.bytes(32))])
      expect([hex(bytes), decodePoint(bytes) !== undefined]).toEqual([hex(bytes), takesIt(bytes)]);
  });
});

describe('a short signature', () => {
  it('is three bytes shorter and comes back as it was', () => {
    const random = seededRandom(3);
    for (let i = 0; i < 20; i++) {
      const secret = random.bytes(32);
      const message = random.bytes(random.integer(300));
      const signature = sign(secret, message);
      const short = shortSignature(signature)!;
      expect(short).toHaveLength(61);
      expect(hex(completeSignature(publicKeyOf(secret), message, short)!)).toBe(hex(signature));
    }
  });

  it('is not found for another message, another key, or other bytes', () => {
    const random = seededRandom(4);
    const secret = random.bytes(32);
    const publicKey = publicKeyOf(secret);
    const message = random.bytes(50);
    const short = shortSignature(sign(secret, message))!;
    expect(completeSignature(publicKey, random.bytes(50), short)).toBeUndefined();
    expect(completeSignature(publicKeyOf(random.bytes(32)), message, short)).toBeUndefined();
    for (const at of [0, 31, 32, SHORT_SIGNATURE_BYTES - 1]) {
      const changed = short.map((byte, i) => (i === at ? byte ^ 1 : byte));
      expect(completeSignature(publicKey, message, changed)).toBeUndefined();
    }
    expect(completeSignature(publicKey, message, short.subarray(1))).toBeUndefined();
    expect(completeSignature(publicKey.subarray(1), message, short)).toBeUndefined();
  });

  it('does not exist of a signature whose number is not below 2^252, or of another length', () => {
    const signature = sign(new Uint8Array(32), new Uint8Array(0));
    expect(shortSignature(signature.map((byte, i) => (i === 63 ? byte | 0x10 : byte)))).toBeUndefined();
    expect(shortSignature(concat(signature, signature))).toBeUndefined();
  });

  it('is found at both ends of what may be missing', () => {
    const secret = new Uint8Array(32).fill(5);
    const publicKey = publicKeyOf(secret);
    let [lowest, highest] = [0xffff, 0];
    for (let i = 0; i < 3000; i++) {
      const message = Uint8Array.of(i & 0xff, i >> 8);
      const signature = sign(secret, message);
      const upper = signature[62]! | (signature[63]! << 8);
      if (upper >= lowest && upper <= highest) continue;
      [lowest, highest] = [Math.min(upper, lowest), Math.max(upper, highest)];
      expect(hex(completeSignature(publicKey, message, shortSignature(signature)!)!)).toBe(hex(signature));
    }
    expect(lowest).toBeLessThan(10);
    expect(highest).toBeGreaterThan(0xff0);
  });
});
