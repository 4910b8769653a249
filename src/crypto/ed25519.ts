import * as node from 'node:crypto';
import { assert } from '../base/assert.ts';
import { concat } from '../base/bytes.ts';

// RFC 8032, section 5.1.
const KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;
// RFC 8410: what stands before the 32 raw bytes in the DER of a private (PKCS #8) and a public (SPKI) key.
const PKCS8_PREFIX = Uint8Array.of(0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20);
const SPKI_PREFIX = Uint8Array.of(0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0);

// Ours: building a KeyObject costs about as much as a signature, so those in use are kept.
const MAX_SECRET_KEYS = 64;
const MAX_PUBLIC_KEYS = 1_024;

const secretKeys = new Map<string, node.KeyObject>();
const publicKeys = new Map<string, node.KeyObject>();

/** The key object of `raw`, from the cache or built; the one least recently used makes room. */
function cached(
  cache: Map<string, node.KeyObject>,
  limit: number,
  raw: Uint8Array,
  build: (raw: Uint8Array) => node.KeyObject,
): node.KeyObject {
  const name = Buffer.from(raw.buffer, raw.byteOffset, raw.length).toString('latin1');
  const key = cache.get(name) ?? build(raw);
  cache.delete(name);
  cache.set(name, key);
  if (cache.size > limit) cache.delete(cache.keys().next().value!);
  return key;
}

const secretKeyObject = (secret: Uint8Array): node.KeyObject =>
  cached(secretKeys, MAX_SECRET_KEYS, secret, (raw) =>
    node.createPrivateKey({ key: Buffer.from(concat(PKCS8_PREFIX, raw)), format: 'der', type: 'pkcs8' }),
  );

const publicKeyObject = (publicKey: Uint8Array): node.KeyObject =>
  cached(publicKeys, MAX_PUBLIC_KEYS, publicKey, (raw) =>
    node.createPublicKey({ key: Buffer.from(concat(SPKI_PREFIX, raw)), format: 'der', type: 'spki' }),
  );

/**
 * Ed25519 signature (RFC 8032, section 5.1.6).
 * @param secret the 32-byte seed
 * @returns 64 bytes
 */
export function sign(secret: Uint8Array, message: Uint8Array): Uint8Array {
  assert(secret.length === KEY_BYTES, 'an Ed25519 secret is 32 bytes');
  return new Uint8Array(node.sign(null, message, secretKeyObject(secret)));
}

/** Whether `signature` is `publicKey`'s over `message` (RFC 8032, section 5.1.7). Never throws: wrong lengths are false. */
export function verify(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (publicKey.length !== KEY_BYTES || signature.length !== SIGNATURE_BYTES) return false;
  return node.verify(null, message, publicKeyObject(publicKey), signature);
}

/** The 32-byte public key of a 32-byte seed. */
export function publicKeyOf(secret: Uint8Array): Uint8Array {
  assert(secret.length === KEY_BYTES, 'an Ed25519 secret is 32 bytes');
  const spki = node.createPublicKey(secretKeyObject(secret)).export({ format: 'der', type: 'spki' });
  return new Uint8Array(spki.subarray(SPKI_PREFIX.length));
}
