// Ours.
/** What all histories of one socket may take together, in bytes. */
export const MAX_HISTORY_BYTES = 16 * 1024 * 1024;
/** What one takes beside what it has learnt, at least, so that their number has a bound too. */
const BYTES_OF_A_HISTORY = 1024;

/** Something that can be forgotten: its user finds that it is gone. */
export interface Forgettable {
  readonly bytes: number;
  forget(): void;
}

/** Forgets what was not used for the longest time, where all together takes too much. */
export class HistoryMemory {
  readonly #maxBytes: number;
  /** What each takes; the least recently used first. */
  readonly #held = new Map<Forgettable, number>();
  #bytes = 0;

  constructor(maxBytes: number = MAX_HISTORY_BYTES) {
    this.#maxBytes = maxBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** It has been used, and may have grown. */
  use(one: Forgettable): void {
    this.drop(one);
    const bytes = BYTES_OF_A_HISTORY + one.bytes;
    this.#held.set(one, bytes);
    this.#bytes += bytes;
    for (const oldest of this.#held.keys()) {
      if (this.#bytes <= this.#maxBytes) break;
      this.drop(oldest);
      oldest.forget();
    }
  }

  /** It is not used any more. */
  drop(one: Forgettable): void {
    this.#bytes -= this.#held.get(one) ?? 0;
    this.#held.delete(one);
  }
}
