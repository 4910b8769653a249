import { concat, utf8 } from '../base/bytes.ts';
import { KEY_BYTES } from '../crypto/aead.ts';
import { CipherState } from './cipher_state.ts';
import type { Suite } from './suite.ts';

const EMPTY = new Uint8Array(0);

/** Chaining key, handshake hash and current cipher of a handshake (Noise revision 34, section 5.2). */
export class SymmetricState {
  readonly #suite: Suite;
  #chainingKey: Uint8Array;
  #hash: Uint8Array;
  #cipher: CipherState;

  private constructor(suite: Suite, chainingKey: Uint8Array, hash: Uint8Array, cipher: CipherState) {
    this.#suite = suite;
    this.#chainingKey = chainingKey;
    this.#hash = hash;
    this.#cipher = cipher;
  }

  static initialize(suite: Suite, protocolName: string): SymmetricState {
    const name = utf8(protocolName);
    const { length } = suite.hash;
    const hash =
      name.length <= length ? concat(name, new Uint8Array(length - name.length)) : suite.hash.digest(name);
    return new SymmetricState(suite, hash, hash, new CipherState(suite.cipher, undefined));
  }

  clone(): SymmetricState {
    return new SymmetricState(this.#suite, this.#chainingKey, this.#hash, this.#cipher.clone());
  }

  get hasKey(): boolean {
    return this.#cipher.hasKey;
  }

  /** The handshake hash `h`: after the last message it identifies the session (section 11.2). */
  get handshakeHash(): Uint8Array {
    return this.#hash;
  }

  mixKey(material: Uint8Array): void {
    const [chainingKey, key] = this.#hkdf(material, 2);
    this.#chainingKey = chainingKey!;
    this.#cipher = new CipherState(this.#suite.cipher, key!.subarray(0, KEY_BYTES));
  }

  mixHash(data: Uint8Array): void {
    this.#hash = this.#suite.hash.digest(concat(this.#hash, data));
  }

  /** For pre-shared keys (section 9.2): the key goes into the hash as well. */
  mixKeyAndHash(material: Uint8Array): void {
    const [chainingKey, hash, key] = this.#hkdf(material, 3);
    this.#chainingKey = chainingKey!;
    this.mixHash(hash!);
    this.#cipher = new CipherState(this.#suite.cipher, key!.subarray(0, KEY_BYTES));
  }

  encryptAndHash(plaintext: Uint8Array): Uint8Array {
    const sealed = this.#cipher.encryptWithAd(this.#hash, plaintext);
    this.mixHash(sealed);
    return sealed;
  }

  /** The plaintext, or undefined for a forgery. */
  decryptAndHash(sealed: Uint8Array): Uint8Array | undefined {
    const plaintext = this.#cipher.decryptWithAd(this.#hash, sealed);
    if (plaintext !== undefined) this.mixHash(sealed);
    return plaintext;
  }

  /** The two transport keys: the initiator sends with the first, the responder with the second. */
  splitKeys(): readonly [Uint8Array, Uint8Array] {
    const [first, second] = this.#hkdf(EMPTY, 2);
    return [first!.subarray(0, KEY_BYTES), second!.subarray(0, KEY_BYTES)];
  }

  /** The two transport ciphers, in the same order. */
  split(): readonly [CipherState, CipherState] {
    const [first, second] = this.splitKeys();
    return [new CipherState(this.#suite.cipher, first), new CipherState(this.#suite.cipher, second)];
  }

  /** HKDF(chaining key, material) with `count` outputs of the hash's length (section 4.3). */
  #hkdf(material: Uint8Array, count: 2 | 3): readonly Uint8Array[] {
    const { hash } = this.#suite;
    const all = hash.hkdf(this.#chainingKey, material, count * hash.length);
    return Array.from({ length: count }, (_, n) => all.slice(n * hash.length, (n + 1) * hash.length));
  }
}
