/** How far behind the highest number a record may arrive. */
export const WINDOW_RECORDS = 1_024;

const WORD_BITS = 32;
// One word more than the window: the one that the highest number is filling (RFC 6479).
const WORDS = WINDOW_RECORDS / WORD_BITS + 1;

/**
 * Which packet numbers have been received (RFC 6479). Only numbers of authenticated records may be handed in,
 * or a forged one would push the window past the genuine ones.
 */
export class ReplayWindow {
  readonly #seen = new Uint32Array(WORDS);
  #highest = -1;

  /** The highest number received, or -1. */
  get highest(): number {
    return this.#highest;
  }

  /**
   * Marks `number` (an integer from 0 to 2^32 - 1) as received. False where it was received before or is too old to
   * tell: then its record must be dropped.
   */
  accept(number: number): boolean {
    if (number <= this.#highest - WINDOW_RECORDS) return false;
    const word = number >>> 5;
    if (number > this.#highest) {
      const last = this.#highest < 0 ? -1 : this.#highest >>> 5;
      const passed = Math.min(word - last, WORDS);
      for (let i = 0; i < passed; i++) this.#seen[(word - i) % WORDS] = 0;
      this.#highest = number;
    }
    const slot = word % WORDS;
    const bit = 1 << (number & (WORD_BITS - 1));
    if ((this.#seen[slot]! & bit) !== 0) return false;
    this.#seen[slot]! |= bit;
    return true;
  }
}
