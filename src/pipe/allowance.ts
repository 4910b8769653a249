import type { Millis } from '../base/time.ts';

/** Bytes on the wire that may go at once where a second's share is less: four ordinary XX2. */
const BURST_BYTES = 1_200;
/** The part that strangers leave to known peers. */
const RESERVED = 0.5;

export interface Answer {
  /** With what lower layers add. */
  readonly wireBytes: number;
  /** The link's, in bits a second, or null where it is not known: then only the number of answers is bounded. */
  readonly rate: number | null;
  /** Whether it goes to where a known peer is; asked only where strangers get nothing. */
  readonly isKnown: () => boolean;
}

/**
 * What is spent on answering those who have not proved who they are: so many answers a second, and where the link's rate
 * is known so much of its airtime. Strangers spend the upper half only, so that a flood, from however many addresses,
 * leaves the lower half to the addresses of known peers.
 */
export class Allowance {
  readonly #perSecond: number;
  readonly #burst: number;
  readonly #share: number;
  #answers: number;
  #bytes = Number.POSITIVE_INFINITY;
  #filledAt: Millis | undefined;

  /** @param share of the airtime, 0 to 1 */
  constructor(perSecond: number, burst: number, share: number) {
    this.#perSecond = perSecond;
    this.#burst = burst;
    this.#share = share;
    this.#answers = burst;
  }

  /** Takes what an answer costs, or returns false where it may not be sent. */
  take({ wireBytes, rate, isKnown }: Answer, now: Millis): boolean {
    const seconds = Math.max(0, now - (this.#filledAt ?? now)) / 1_000;
    this.#filledAt = now;
    this.#answers = Math.min(this.#burst, this.#answers + seconds * this.#perSecond);
    const bytesPerSecond = rate === null ? 0 : (this.#share * rate) / 8;
    const burstBytes = Math.max(BURST_BYTES, bytesPerSecond);
    this.#bytes = Math.min(burstBytes, this.#bytes + seconds * bytesPerSecond);
    const leaves = (part: number): boolean =>
      this.#answers >= part * this.#burst + 1 && (rate === null || this.#bytes > part * burstBytes);
    if (!leaves(RESERVED) && !(leaves(0) && isKnown())) return false;
    this.#answers--;
    // Into debt where need be, so that an answer of any length can be afforded at some time.
    if (rate !== null) this.#bytes -= wireBytes;
    return true;
  }
}
