import type { Millis } from '../base/time.ts';

/** Bytes on the wire that may go at once where a second's share is less: four ordinary XX2. */
const BURST_BYTES = 1_200;
/** The part that strangers leave to known peers. */
const RESERVED = 0.5;
/** The part of the airtime that strangers' first messages leave to cookies and versions, which are shorter than answers. */
const RESERVED_FOR_COOKIES = 0.75;
/** The part that those leave who have shown nothing but a known address, which may be somebody else's. */
const RESERVED_FOR_PROVED = 0.25;
/** The part of the airtime that cookies to a known address leave. */
const RESERVED_BY_KNOWN_COOKIES = 0.125;

export interface Answer {
  /** With what lower layers add. */
  readonly wireBytes: number;
  /** The link's, in bits a second, or null where it is not known: then only the number of answers is bounded. */
  readonly rate: number | null;
  /** Whether it goes to where a known peer is; asked only where strangers get nothing. */
  readonly isKnown: () => boolean;
  /** Of a first message: whether it has brought a cookie, so that somebody does receive there. */
  readonly isProved?: boolean;
}

/**
 * What is spent on answering those who have not proved who they are: so many answers a second, and where the link's rate
 * is known so much of its airtime. Strangers spend the upper half only, so that a flood, from however many addresses,
 * leaves the lower half to the addresses of known peers; and of that half first messages without a cookie leave a part to
 * those with one, so that a flood under the address of a known peer keeps nobody out.
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
  take({ wireBytes, rate, isKnown, isProved }: Answer, now: Millis): boolean {
    const leaves = this.#fill(rate, now);
    const [stranger, known] =
      isProved === false ? [RESERVED_FOR_COOKIES, RESERVED_FOR_PROVED] : [RESERVED, 0];
    const may =
      leaves(RESERVED, stranger) ||
      (isProved === true && leaves(0, 0)) ||
      (leaves(known, known) && isKnown());
    if (!may) return false;
    this.#answers--;
    this.#spend(wireBytes, rate);
    return true;
  }

  /** The same for a cookie or a list of versions: it costs its airtime and no answer. */
  takeAirtime({ wireBytes, rate, isKnown }: Answer, now: Millis): boolean {
    this.#fill(rate, now);
    const leaves = (part: number): boolean => rate === null || this.#bytes > part * this.#burstBytes(rate);
    if (!leaves(RESERVED) && !(leaves(RESERVED_BY_KNOWN_COOKIES) && isKnown())) return false;
    this.#spend(wireBytes, rate);
    return true;
  }

  #burstBytes(rate: number): number {
    return Math.max(BURST_BYTES, (this.#share * rate) / 8);
  }

  /** Into debt where need be, so that an answer of any length can be afforded at some time. */
  #spend(wireBytes: number, rate: number | null): void {
    if (rate !== null) this.#bytes -= wireBytes;
  }

  /** Adds what the time has brought. Returns whether more than these parts of the bursts are left. */
  #fill(rate: number | null, now: Millis): (answers: number, bytes: number) => boolean {
    const seconds = Math.max(0, now - (this.#filledAt ?? now)) / 1_000;
    this.#filledAt = now;
    this.#answers = Math.min(this.#burst, this.#answers + seconds * this.#perSecond);
    const bytesPerSecond = rate === null ? 0 : (this.#share * rate) / 8;
    const burstBytes = this.#burstBytes(rate ?? 0);
    this.#bytes = Math.min(burstBytes, this.#bytes + seconds * bytesPerSecond);
    return (answers, bytes) =>
      this.#answers >= answers * this.#burst + 1 && (rate === null || this.#bytes > bytes * burstBytes);
  }
}
