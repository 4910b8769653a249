import { hex } from '../../src/base/bytes.ts';
import { chaCha20Poly1305 } from '../../src/crypto/aead.ts';

/** Every key and nonce that anybody has sealed under. */
export interface Seals {
  readonly count: number;
  /** Those under which two different texts were sealed, or one twice. */
  readonly repeated: readonly string[];
  reset(): void;
}

/** Watches the AEAD itself from now on, whoever in this process uses it. */
export function watchSeals(): Seals {
  const pairs = new Set<string>();
  let repeated: string[] = [];
  const { seal } = chaCha20Poly1305;
  Object.assign(chaCha20Poly1305, {
    seal: ((key, nonce, associated, plaintext) => {
      const name = `${hex(key)} ${hex(nonce)}`;
      if (pairs.has(name)) repeated.push(name);
      pairs.add(name);
      return seal(key, nonce, associated, plaintext);
    }) satisfies typeof seal,
  });
  return {
    get count() {
      return pairs.size;
    },
    get repeated() {
      return repeated;
    },
    reset() {
      pairs.clear();
      repeated = [];
    },
  };
}
