import { concat, utf8 } from '../base/bytes.ts';
import type { Random } from '../base/random.ts';
import type { Millis } from '../base/time.ts';
import type { Address } from '../link/link.ts';
import { SUITE } from './prologue.ts';
import { COOKIE_BYTES } from './record.ts';

// docs/protocol.md, "Cookies".
const SECRET_BYTES = 32;
/** A secret is replaced so often; a cookie is good for one to two of these. */
const ROTATION_MS = 60_000;
const INFO = utf8('ravine pipe cookie');

interface Secret {
  readonly period: number;
  readonly bytes: Uint8Array;
}

/**
 * Shows that somebody receives at the address that he sends from, while nothing is kept of him: a cookie is a MAC over the
 * address and the first message, so each serves one handshake from one place.
 */
export class Cookies {
  readonly #random: Random;
  #secrets: readonly Secret[] = [];

  constructor(random: Random) {
    this.#random = random;
  }

  /** @param first the digest of the first message without a cookie */
  make(address: Address, first: Uint8Array, now: Millis): Uint8Array {
    const period = Math.floor(now / ROTATION_MS);
    let newest = this.#good(period)[0];
    if (newest?.period !== period) {
      newest = { period, bytes: this.#random.bytes(SECRET_BYTES) };
      this.#secrets = [newest, ...this.#good(period)];
    }
    return mac(newest.bytes, address, first);
  }

  isGood(cookie: Uint8Array, address: Address, first: Uint8Array, now: Millis): boolean {
    return this.#good(Math.floor(now / ROTATION_MS)).some(({ bytes }) =>
      isSame(cookie, mac(bytes, address, first)),
    );
  }

  /** This period's secret and the last one's. */
  #good(period: number): readonly Secret[] {
    return this.#secrets.filter((secret) => secret.period >= period - 1);
  }
}

/** HKDF is a MAC with the key in the place of the salt: its first step is HMAC (RFC 5869, section 2.2). */
const mac = (secret: Uint8Array, address: Address, first: Uint8Array): Uint8Array =>
  SUITE.hash.hkdf(secret, concat(first, utf8(address)), COOKIE_BYTES, INFO);

/** In a time that does not depend on where they differ. */
function isSame(a: Uint8Array, b: Uint8Array): boolean {
  let difference = a.length ^ b.length;
  for (let i = 0; i < b.length; i++) difference |= (a[i] ?? 0) ^ b[i]!;
  return difference === 0;
}
