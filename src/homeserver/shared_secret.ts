import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Random } from '../base/random.ts';
import type { Clock, Millis } from '../base/time.ts';
import { forbidden, invalidParam } from '../matrix/error.ts';
import { newToken } from './secrets.ts';

/** Nonces that wait at most; of more, the oldest is not good any more. */
const MAX_NONCES = 1_000;
const NONCE_LIFETIME_MS: Millis = 60_000;

/** What the holder of the secret asks for, as it is signed. */
export interface SignedRegistration {
  readonly nonce: string;
  readonly username: string;
  readonly password: string;
  readonly admin: boolean;
  readonly userType?: string | undefined;
  /** HMAC-SHA1 in hexadecimal digits. */
  readonly mac: string;
}

/** Whether a registration comes from whoever holds a secret that the operator has written into the configuration. */
export class SharedSecret {
  readonly #secret: string;
  readonly #clock: Clock;
  readonly #random: Random;
  /** When each runs out, in monotonic milliseconds; the oldest first. */
  readonly #nonces = new Map<string, Millis>();

  constructor({
    secret,
    clock,
    random,
  }: { readonly secret: string; readonly clock: Clock; readonly random: Random }) {
    this.#secret = secret;
    this.#clock = clock;
    this.#random = random;
  }

  /** What makes the next request one of its own: good once, for a minute. */
  nonce(): string {
    const now = this.#clock.monotonic();
    const nonce = newToken(this.#random);
    this.#nonces.set(nonce, now + NONCE_LIFETIME_MS);
    for (const [oldest, expires] of this.#nonces) {
      if (expires > now && this.#nonces.size <= MAX_NONCES) break;
      this.#nonces.delete(oldest);
    }
    return nonce;
  }

  /** @throws MatrixError M_INVALID_PARAM for a nonce that is not good, M_FORBIDDEN for another secret */
  check({ nonce, username, password, admin, userType, mac }: SignedRegistration): void {
    const expires = this.#nonces.get(nonce);
    if (expires === undefined || expires <= this.#clock.monotonic())
      throw invalidParam('The nonce is not known, was used, or has run out.');
    this.#nonces.delete(nonce);
    const parts = [nonce, username, password, admin ? 'admin' : 'notadmin'];
    if (userType !== undefined) parts.push(userType);
    const expected = createHmac('sha1', this.#secret).update(parts.join('\0')).digest();
    const actual = Buffer.from(mac, 'hex');
    if (actual.length !== expected.length || !timingSafeEqual(actual, expected))
      throw forbidden('The MAC is not of the shared secret.');
  }
}
