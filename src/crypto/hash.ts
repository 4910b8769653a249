import { blake2b, blake2s } from '@noble/hashes/blake2.js';
import { expand, extract } from '@noble/hashes/hkdf.js';
import { sha256 as nobleSha256, sha512 } from '@noble/hashes/sha2.js';
import type { CHash } from '@noble/hashes/utils.js';
import { sha256 } from './sha256.ts';

/** A hash function together with HKDF over its HMAC. */
export interface Hash {
  /** Length of a digest in bytes. */
  readonly length: number;
  digest(message: Uint8Array): Uint8Array;
  /** HKDF (RFC 5869): `length` bytes. `info` is empty where it is left out. */
  hkdf(salt: Uint8Array, material: Uint8Array, length: number, info?: Uint8Array): Uint8Array;
}

const EMPTY = new Uint8Array(0);

function hash(noble: CHash, digest: (message: Uint8Array) => Uint8Array = noble): Hash {
  return {
    length: noble.outputLen,
    digest,
    hkdf: (salt, material, length, info = EMPTY) =>
      expand(noble, extract(noble, material, salt), info, length),
  };
}

/** FIPS 180-4. */
export const SHA256: Hash = hash(nobleSha256, sha256);
/** FIPS 180-4. */
export const SHA512: Hash = hash(sha512);
/** RFC 7693, 32 bytes. */
export const BLAKE2s: Hash = hash(blake2s);
/** RFC 7693, 64 bytes. */
export const BLAKE2b: Hash = hash(blake2b);
