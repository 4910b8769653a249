import { gcm } from '@noble/ciphers/aes.js';
import { chacha20poly1305 } from '@noble/ciphers/chacha.js';
import { assert } from '../base/assert.ts';

// RFC 8439, section 2.8, and NIST SP 800-38D with a 96-bit nonce.
export const KEY_BYTES = 32;
export const NONCE_BYTES = 12;
export const TAG_BYTES = 16;

/** Authenticated encryption with associated data: a 32-byte key, a 12-byte nonce, a 16-byte tag at the end. */
export interface Aead {
  seal(key: Uint8Array, nonce: Uint8Array, associated: Uint8Array, plaintext: Uint8Array): Uint8Array;
  /** The plaintext, or undefined where the tag does not fit: there is nothing else to know about a forgery. */
  open(
    key: Uint8Array,
    nonce: Uint8Array,
    associated: Uint8Array,
    sealed: Uint8Array,
  ): Uint8Array | undefined;
}

type NobleCipher = typeof chacha20poly1305 | typeof gcm;

function aead(cipher: NobleCipher): Aead {
  // Checked here, so that the only thing that noble can still object to is the tag.
  const check = (key: Uint8Array, nonce: Uint8Array): void =>
    assert(key.length === KEY_BYTES && nonce.length === NONCE_BYTES, 'a key is 32 bytes and a nonce 12');
  return {
    seal(key, nonce, associated, plaintext) {
      check(key, nonce);
      return cipher(key, nonce, associated).encrypt(plaintext);
    },
    open(key, nonce, associated, sealed) {
      check(key, nonce);
      if (sealed.length < TAG_BYTES) return undefined;
      try {
        return cipher(key, nonce, associated).decrypt(sealed);
      } catch {
        return undefined;
      }
    },
  };
}

/** AEAD_CHACHA20_POLY1305 (RFC 8439). For the short records of a pipe noble measured faster than node:crypto. */
export const chaCha20Poly1305: Aead = aead(chacha20poly1305);

/** AES-256-GCM (NIST SP 800-38D). */
export const aes256Gcm: Aead = aead(gcm);
