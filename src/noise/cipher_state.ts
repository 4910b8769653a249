import { assert } from '../base/assert.ts';
import type { Cipher } from './suite.ts';

/** Reserved for rekeying (Noise revision 34, section 5.1): never the nonce of a message. */
const LAST_NONCE = 2n ** 64n - 1n;

/** A key and a counter (Noise revision 34, section 5.1). */
export class CipherState {
  readonly #cipher: Cipher;
  readonly #key: Uint8Array | undefined;
  #n = 0n;

  /** @param key 32 bytes; undefined while the handshake has none: then everything passes in clear. */
  constructor(cipher: Cipher, key: Uint8Array | undefined) {
    this.#cipher = cipher;
    this.#key = key;
  }

  clone(): CipherState {
    const copy = new CipherState(this.#cipher, this.#key);
    copy.#n = this.#n;
    return copy;
  }

  get hasKey(): boolean {
    return this.#key !== undefined;
  }

  encryptWithAd(associated: Uint8Array, plaintext: Uint8Array): Uint8Array {
    return this.#key === undefined ? plaintext : this.encryptAt(this.#n++, associated, plaintext);
  }

  /** The plaintext, or undefined for a forgery: then the counter stays where it was. */
  decryptWithAd(associated: Uint8Array, sealed: Uint8Array): Uint8Array | undefined {
    if (this.#key === undefined) return sealed;
    const plaintext = this.decryptAt(this.#n, associated, sealed);
    if (plaintext !== undefined) this.#n++;
    return plaintext;
  }

  /**
   * Encrypts under the nonce `n`, for transport messages that may arrive in any order (section 11.4).
   * The caller answers for never using `n` twice.
   */
  encryptAt(n: bigint, associated: Uint8Array, plaintext: Uint8Array): Uint8Array {
    assert(this.#key !== undefined, 'a key has been set');
    assert(n >= 0n && n < LAST_NONCE, 'nonces are not used up');
    return this.#cipher.aead.seal(this.#key, this.#cipher.nonce(n), associated, plaintext);
  }

  /** The plaintext of what was sealed under the nonce `n`, or undefined for a forgery. */
  decryptAt(n: bigint, associated: Uint8Array, sealed: Uint8Array): Uint8Array | undefined {
    assert(this.#key !== undefined, 'a key has been set');
    if (n < 0n || n >= LAST_NONCE) return undefined;
    return this.#cipher.aead.open(this.#key, this.#cipher.nonce(n), associated, sealed);
  }
}
