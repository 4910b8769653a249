import type { Millis } from '../base/time.ts';

const HOUR: Millis = 3_600_000;
/** Uses that begin within this time of each other are forgotten together, with the latest of them. */
const GRAIN: Millis = 5_000;

interface Use {
  readonly since: Millis;
  /** When the last of it ended. */
  until: Millis;
  airtime: Millis;
}

/**
 * How much of its airtime a link may use in any hour (a duty cycle). What was used counts until an hour after it ended,
 * so that no hour, wherever it begins, has more.
 */
export class AirtimeBudget {
  readonly #perHour: Millis;
  /** The oldest first. */
  readonly #uses: Use[] = [];
  #used: Millis = 0;

  constructor(perHour: Millis) {
    this.#perHour = perHour;
  }

  /** Whether a packet of so much airtime could ever be sent. */
  allows(airtime: Millis): boolean {
    return airtime <= this.#perHour;
  }

  /** The part that has been used: 0 to 1. */
  used(now: Millis): number {
    this.#forget(now);
    return this.#used / this.#perHour;
  }

  /** When a packet of so much airtime, which the budget allows, may begin: `now` or later. */
  freeAt(airtime: Millis, now: Millis): Millis {
    this.#forget(now);
    let used = this.#used;
    let at = now;
    for (const use of this.#uses) {
      if (used + airtime <= this.#perHour) break;
      used -= use.airtime;
      at = use.until + HOUR;
    }
    return at;
  }

  /** A packet has begun. */
  use(airtime: Millis, now: Millis): void {
    const latest = this.#uses.at(-1);
    if (latest !== undefined && now < latest.since + GRAIN) {
      latest.airtime += airtime;
      latest.until = now + airtime;
    } else this.#uses.push({ since: now, until: now + airtime, airtime });
    this.#used += airtime;
  }

  #forget(now: Millis): void {
    while (this.#uses[0] !== undefined && this.#uses[0].until + HOUR <= now) {
      this.#uses.shift();
    }
    // Summed anew: no rounding adds up over the years.
    this.#used = this.#uses.reduce((sum, { airtime }) => sum + airtime, 0);
  }
}
