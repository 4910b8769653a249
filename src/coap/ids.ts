import { hex } from '../base/bytes.ts';
import type { Random } from '../base/random.ts';
import type { Millis } from '../base/time.ts';

export const ID_COUNT = 2 ** 16;
/** Ids are freed by the span, so that 64 instants say what 65,536 would. */
const SPAN = 1024;
const HANDLE_TRIES = 64;

/** Message ids: from a start upwards, none again within its lifetime (RFC 7252, section 4.4). */
export class MessageIds {
  #next: number;
  readonly #lastUsed: Millis[] = new Array<Millis>(ID_COUNT / SPAN).fill(Number.NEGATIVE_INFINITY);
  #started = false;

  /** @param first 0 to 65,535 */
  constructor(first: number) {
    this.#next = first;
  }

  /** The next id, or null where all were used within `lifetime` before `now`: then `freeAt` says when. */
  take(now: Millis, lifetime: Millis): number | null {
    if (this.freeAt(lifetime) > now) return null;
    const id = this.#next;
    this.#next = (id + 1) % ID_COUNT;
    this.#started = true;
    this.touch(id, now);
    return id;
  }

  /** Records that a copy under `id` was sent at `now`: its lifetime starts anew. */
  touch(id: number, now: Millis): void {
    this.#lastUsed[Math.floor(id / SPAN)] = now;
  }

  /** When the next id may be taken; in the past where it may be now. */
  freeAt(lifetime: Millis): Millis {
    const entersSpan = !this.#started || this.#next % SPAN === 0;
    return entersSpan ? this.#lastUsed[Math.floor(this.#next / SPAN)]! + lifetime : Number.NEGATIVE_INFINITY;
  }
}

/** Tokens towards one peer: unpredictable, unlike every one that is in use or might still be answered late. */
export class Tokens {
  readonly #random: Random;
  readonly #length: number;
  readonly #handleLength: number;
  readonly #taken = new Set<string>();
  /** Tokens of requests that ended without an answer, oldest first. */
  readonly #retired = new Set<string>();
  readonly #mostRetired: number;

  constructor(
    random: Random,
    lengths: { readonly token: number; readonly handle: number },
    mostRetired: number,
  ) {
    this.#random = random;
    this.#length = lengths.token;
    this.#handleLength = lengths.handle;
    this.#mostRetired = mostRetired;
  }

  take(): Uint8Array {
    for (;;) {
      const token = this.#tryOne(this.#length);
      if (token !== undefined) return token;
    }
  }

  /** One for an observation; as long as another one where all short ones that chance brings are in use. */
  takeHandle(): Uint8Array {
    for (let i = 0; i < HANDLE_TRIES; i++) {
      const handle = this.#tryOne(this.#handleLength);
      if (handle !== undefined) return handle;
    }
    return this.take();
  }

  #tryOne(length: number): Uint8Array | undefined {
    const token = this.#random.bytes(length);
    const name = hex(token);
    if (this.#taken.has(name) || this.#retired.has(name)) return undefined;
    this.#taken.add(name);
    return token;
  }

  /** @param answered whether its response has arrived; if not, one may come yet, and the token rests. */
  release(name: string, answered: boolean): void {
    this.#taken.delete(name);
    if (answered) return;
    this.#retired.add(name);
    if (this.#retired.size > this.#mostRetired) this.#retired.delete(this.#retired.values().next().value!);
  }
}
