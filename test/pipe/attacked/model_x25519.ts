import { createHash } from 'node:crypto';
import type { Random } from '../../../src/base/random.ts';
import type { KeyPair } from '../../../src/crypto/x25519.ts';

/*
 * In the place of src/crypto/x25519.ts where thousands of runs are made: the same value for both sides of a pair of keys, and
 * another one for every other pair. It keeps nothing secret, which nobody in a simulation would notice.
 */

export const X25519_BYTES = 32;

function digest(...parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
}

export const keyPairOf = (secret: Uint8Array): KeyPair => ({ secret, public: digest(secret) });

export const generateKeyPair = (random: Random): KeyPair => keyPairOf(random.bytes(X25519_BYTES));

export function sharedSecret(secret: Uint8Array, publicKey: Uint8Array): Uint8Array {
  const own = digest(secret);
  return Buffer.compare(own, publicKey) < 0 ? digest(own, publicKey) : digest(publicKey, own);
}
