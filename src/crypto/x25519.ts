import * as node from 'node:crypto';
import { assert } from '../base/assert.ts';
import { concat } from '../base/bytes.ts';
import type { Random } from '../base/random.ts';

// RFC 7748, section 5.
export const X25519_BYTES = 32;
// RFC 8410: what stands before the 32 raw bytes in the DER of a private (PKCS #8) and a public (SPKI) key.
const PKCS8_PREFIX = Uint8Array.of(0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x6e, 4, 0x22, 4, 0x20);
const SPKI_PREFIX = Uint8Array.of(0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x6e, 3, 0x21, 0);

/** A Diffie-Hellman key pair; both are 32 raw bytes. */
export interface KeyPair {
  readonly secret: Uint8Array;
  readonly public: Uint8Array;
}

function secretKeyObject(secret: Uint8Array): node.KeyObject {
  assert(secret.length === X25519_BYTES, 'an X25519 secret is 32 bytes');
  return node.createPrivateKey({
    key: Buffer.from(concat(PKCS8_PREFIX, secret)),
    format: 'der',
    type: 'pkcs8',
  });
}

/** The key pair of a 32-byte secret; clamping is part of X25519 itself. */
export function keyPairOf(secret: Uint8Array): KeyPair {
  const spki = node.createPublicKey(secretKeyObject(secret)).export({ format: 'der', type: 'spki' });
  return { secret, public: new Uint8Array(spki.subarray(SPKI_PREFIX.length)) };
}

/** A new key pair out of 32 random bytes. */
export const generateKeyPair = (random: Random): KeyPair => keyPairOf(random.bytes(X25519_BYTES));

/**
 * X25519 (RFC 7748, section 5). A public key of low order gives 32 zeros, as Noise revision 34, section 12.1, asks
 * for: whoever sends one harms nobody but itself.
 */
export function sharedSecret(secret: Uint8Array, publicKey: Uint8Array): Uint8Array {
  assert(publicKey.length === X25519_BYTES, 'an X25519 public key is 32 bytes');
  const privateKey = secretKeyObject(secret);
  const peer = node.createPublicKey({
    key: Buffer.from(concat(SPKI_PREFIX, publicKey)),
    format: 'der',
    type: 'spki',
  });
  try {
    return new Uint8Array(node.diffieHellman({ privateKey, publicKey: peer }));
  } catch {
    // OpenSSL's only complaint about two well-formed keys: the result would be all zeros.
    return new Uint8Array(X25519_BYTES);
  }
}
