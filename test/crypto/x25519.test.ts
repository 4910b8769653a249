import { x25519 } from '@noble/curves/ed25519.js';
import { describe, expect, it } from 'vitest';
import { fromHex, hex } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { generateKeyPair, sharedSecret } from '../../src/crypto/x25519.ts';

describe('X25519', () => {
  it('gives the result of RFC 7748, section 5.2', () => {
    const scalar = fromHex('a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4')!;
    const u = fromHex('e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c')!;
    expect(hex(sharedSecret(scalar, u))).toBe(
      'c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552',
    );
  });

  it('agrees with @noble/curves on random keys, with the unused top bit set as well', () => {
    const random = seededRandom(1);
    for (let i = 0; i < 50; i++) {
      const pair = generateKeyPair(random);
      expect(hex(pair.public)).toBe(hex(x25519.getPublicKey(pair.secret)));
      const other = random.bytes(32);
      expect(hex(sharedSecret(pair.secret, other))).toBe(hex(x25519.getSharedSecret(pair.secret, other)));
    }
  });

  it('gives zeros for a public key of low order', () => {
    const { secret } = generateKeyPair(seededRandom(2));
    expect(sharedSecret(secret, new Uint8Array(32))).toEqual(new Uint8Array(32));
    expect(sharedSecret(secret, Uint8Array.of(1, ...new Uint8Array(31)))).toEqual(new Uint8Array(32));
  });
});
