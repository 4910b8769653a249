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
  /** Nothing up to here is accepted: it may have been received before this window was made. */
  readonly #floor: number;
  #highest: number;

  /** @param highest the highest number received so far; -1: none. */
  constructor(highest = -1) {
    this.#floor = highest;
    this.#highest = highest;
  }

  /** The highest number received, or -1. */
  get highest(): number {
    return this.#highest;
  }

  /**
   * Marks `number` (an integer from 0 to 2^48 - 1) as received. False where it was received before or is too old to
   * tell: then its record must be dropped.
   */
  accept(number: number): boolean {
    if (number <= Math.max(this.#floor, this.#highest - WINDOW_RECORDS)) return false;
    const word = Math.floor(number / WORD_BITS);
    if (number > this.#highest) {
      const last = Math.floor(this.#highest / WORD_BITS);
      const passed = Math.min(word - last, WORDS);
      for (let i = 0; i < passed; i++) this.#seen[(word - i) % WORDS] = 0;
      this.#highest = number;
    }
    const slot = word % WORDS;
    const bit = 1 << (number % WORD_BITS);
    if ((this.#seen[slot]! & bit) !== 0) return false;
    this.#seen[slot]! |= bit;
    return true;
  }
}
