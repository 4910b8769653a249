import { createHash, hkdfSync } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { fromHex, hex } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { BLAKE2b, BLAKE2s, SHA256, SHA512 } from '../../src/crypto/hash.ts';

const ALL = [
  ['sha256', SHA256],
  ['sha512', SHA512],
  ['blake2s256', BLAKE2s],
  ['blake2b512', BLAKE2b],
] as const;

describe('hashes and HKDF', () => {
  it('HKDF gives the key of RFC 5869, test case 3, which has no info', () => {
    const key = SHA256.hkdf(new Uint8Array(0), fromHex('0b'.repeat(22))!, 42);
    expect(hex(key)).toBe(
      '8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8',
    );
  });

  it.each(ALL)('%s agrees with node:crypto', (name, hash) => {
    const random = seededRandom(4);
    for (let i = 0; i < 50; i++) {
      const message = random.bytes(random.integer(300));
      expect(hex(hash.digest(message))).toBe(createHash(name).update(message).digest('hex'));
      const salt = random.bytes(hash.length);
      const expected = new Uint8Array(hkdfSync(name, message, salt, new Uint8Array(0), 2 * hash.length));
      expect(hex(hash.hkdf(salt, message, 2 * hash.length))).toBe(hex(expected));
    }
  });
});
