import { createCipheriv, createDecipheriv } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { concat, fromHex, hex, utf8 } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { type Aead, aes256Gcm, chaCha20Poly1305 } from '../../src/crypto/aead.ts';

/** The same through node:crypto. */
const twin = (name: 'chacha20-poly1305' | 'aes-256-gcm'): Aead => ({
  seal(key, nonce, associated, plaintext) {
    const cipher = createCipheriv(name as 'aes-256-gcm', key, nonce, { authTagLength: 16 });
    cipher.setAAD(associated, { plaintextLength: plaintext.length });
    return concat(cipher.update(plaintext), cipher.final(), cipher.getAuthTag());
  },
  open(key, nonce, associated, sealed) {
    const length = sealed.length - 16;
    const decipher = createDecipheriv(name as 'aes-256-gcm', key, nonce, { authTagLength: 16 });
    decipher.setAAD(associated, { plaintextLength: length });
    decipher.setAuthTag(sealed.subarray(length));
    return concat(decipher.update(sealed.subarray(0, length)), decipher.final());
  },
});

describe('AEADs', () => {
  it('ChaCha20-Poly1305 seals the text of RFC 8439, section 2.8.2', () => {
    const sealed = chaCha20Poly1305.seal(
      fromHex('808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f')!,
      fromHex('070000004041424344454647')!,
      fromHex('50515253c0c1c2c3c4c5c6c7')!,
      utf8(
        "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
      ),
    );
    expect(hex(sealed.subarray(0, 16))).toBe('d31a8d34648e60db7b86afbc53ef7ec2');
    expect(hex(sealed.subarray(-16))).toBe('1ae10b594f09e26a7e902ecbd0600691');
  });

  it.each([
    ['ChaCha20-Poly1305', chaCha20Poly1305, twin('chacha20-poly1305')],
    ['AES-256-GCM', aes256Gcm, twin('aes-256-gcm')],
  ] as const)(
    '%s agrees with node:crypto, and opens nothing of which a bit has changed',
    (_, aead, other) => {
      const random = seededRandom(3);
      for (let i = 0; i < 100; i++) {
        const [key, nonce, associated] = [
          random.bytes(32),
          random.bytes(12),
          random.bytes(random.integer(20)),
        ];
        const plaintext = random.bytes(random.integer(200));
        const sealed = aead.seal(key, nonce, associated, plaintext);
        expect(hex(sealed)).toBe(hex(other.seal(key, nonce, associated, plaintext)));
        expect(aead.open(key, nonce, associated, sealed)).toEqual(plaintext);
        expect(hex(other.open(key, nonce, associated, sealed)!)).toBe(hex(plaintext));
        sealed[random.integer(sealed.length)]! ^= 1 << random.integer(8);
        expect(aead.open(key, nonce, associated, sealed)).toBeUndefined();
      }
      expect(
        aead.open(random.bytes(32), random.bytes(12), random.bytes(0), random.bytes(15)),
      ).toBeUndefined();
    },
  );
});
