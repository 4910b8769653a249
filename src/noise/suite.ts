import { type Aead, aes256Gcm, chaCha20Poly1305, NONCE_BYTES } from '../crypto/aead.ts';
import { BLAKE2b, BLAKE2s, type Hash, SHA256, SHA512 } from '../crypto/hash.ts';

/** A cipher function of Noise: an AEAD and how it writes the 64-bit counter into 96 bits. */
export interface Cipher {
  readonly aead: Aead;
  /** @param n 0 to 2^64 - 1 */
  nonce(n: bigint): Uint8Array;
}

/** 32 zero bits, then the counter; ChaChaPoly has it little-endian (section 12.3), AESGCM big-endian (12.4). */
function counterNonce(littleEndian: boolean): (n: bigint) => Uint8Array {
  return (n) => {
    const nonce = new Uint8Array(NONCE_BYTES);
    new DataView(nonce.buffer).setBigUint64(4, n, littleEndian);
    return nonce;
  };
}

const CIPHERS = {
  ChaChaPoly: { aead: chaCha20Poly1305, nonce: counterNonce(true) },
  AESGCM: { aead: aes256Gcm, nonce: counterNonce(false) },
} as const satisfies Record<string, Cipher>;

const HASHES = { SHA256, SHA512, BLAKE2s, BLAKE2b } as const satisfies Record<string, Hash>;

/** What fills the second half of a protocol name (Noise revision 34, section 8). Diffie-Hellman is always 25519. */
export interface Suite {
  readonly name: string;
  readonly cipher: Cipher;
  readonly hash: Hash;
}

export function suite(cipher: keyof typeof CIPHERS, hash: keyof typeof HASHES): Suite {
  return { name: `25519_${cipher}_${hash}`, cipher: CIPHERS[cipher], hash: HASHES[hash] };
}
