import type { Millis } from '../base/time.ts';
import type { ExchangeLog } from './socket_options.ts';

/** A budget of airtime that allows nothing for longer than this is told to the operator. */
const LONG_SILENCE: Millis = 60_000;

/** Tells why a link falls silent for a long time: once, until it has been free for as long. */
export class AirtimeWatch {
  readonly #log: ExchangeLog | undefined;
  /** The end of the silence that was told last. */
  #silentUntil: Millis = Number.NEGATIVE_INFINITY;

  constructor(log: ExchangeLog | undefined) {
    this.#log = log;
  }

  /** @param forbiddenUntil when the budget allows the next datagram; null: now */
  see(forbiddenUntil: Millis | null, now: Millis): void {
    const silence = (forbiddenUntil ?? now) - now;
    const isTold = now - this.#silentUntil <= LONG_SILENCE;
    if (silence > LONG_SILENCE && !isTold) {
      const seconds = Math.ceil(silence / 1_000);
      this.#log?.warn({ seconds }, "the hour's airtime is used up: nothing is sent for so many seconds");
    }
    if (silence > LONG_SILENCE || (silence > 0 && isTold)) this.#silentUntil = now + silence;
  }
}
