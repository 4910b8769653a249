import type { Millis } from '../base/time.ts';
import type { Address } from '../link/link.ts';
import { Allowance } from './allowance.ts';
import type { PipeState } from './state.ts';
import { TokenBucket } from './token_bucket.ts';

/**
 * What may be spent on somebody who has not proved who he is, or who repeats what anybody can have captured (wire rule 5:
 * at most a tenth of a link's airtime).
 */
export class Strangers {
  readonly #state: PipeState;
  readonly #allowance: Allowance;
  readonly #cookies: TokenBucket;

  constructor(state: PipeState) {
    this.#state = state;
    const { answersPerSecond, answersBurst, answersShare, cookiesPerSecond, cookiesBurst } = state.limits;
    this.#allowance = new Allowance(answersPerSecond, answersBurst, answersShare);
    this.#cookies = new TokenBucket(cookiesPerSecond, cookiesBurst);
  }

  /** Whether so many bytes may go there. What may not is counted, and is for the peer to ask again. */
  mayAnswer(to: Address, bytes: number, now: Millis, isProved?: boolean): boolean {
    const answer = { ...this.#answer(to, bytes), ...(isProved === undefined ? {} : { isProved }) };
    const may = this.#allowance.take(answer, now);
    if (!may) this.#state.statistics.throttled++;
    return may;
  }

  /** The same for a cookie or a list of versions: shorter than what it answers, and hardly any work. */
  mayAnswerShortly(to: Address, bytes: number, now: Millis): boolean {
    return this.#cookies.take(now) && this.#allowance.takeAirtime(this.#answer(to, bytes), now);
  }

  /**
   * Whether a server is at `address`, as far as the configuration and authenticated records tell. A device proves no more
   * than that it has made a key.
   */
  isKnown(address: Address): boolean {
    for (const { path, terms } of this.#state.established)
      if (path.proved === address && terms.claim.kind === 'server') return true;
    for (const peer of this.#state.peers.servers()) if (peer.configured === address) return true;
    return false;
  }

  #answer(
    to: Address,
    bytes: number,
  ): { readonly wireBytes: number; readonly rate: number | null; readonly isKnown: () => boolean } {
    const { rate, sustainedRate = rate, overhead } = this.#state.timing(to);
    return { wireBytes: bytes + overhead, rate: sustainedRate, isKnown: () => this.isKnown(to) };
  }
}
