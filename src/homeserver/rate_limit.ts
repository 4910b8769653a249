import { assert } from '../base/assert.ts';
import type { Clock, Millis } from '../base/time.ts';
import { MatrixError } from '../matrix/error.ts';

/** Keys that are kept; of more, the one that was longest left alone is forgotten. */
const MAX_KEYS = 10_000;

export interface Rate {
  /** Attempts that may come at once. */
  readonly burst: number;
  /** Between two attempts in the long run. */
  readonly intervalMs: Millis;
}

/** Bounds attempts by key, such as an account or an address: a token bucket each (client-server API, "Rate limiting"). */
export class RateLimit {
  readonly #clock: Clock;
  readonly #rate: Rate;
  /** When the bucket of a key is full again, in monotonic milliseconds; the key used last is last. */
  readonly #fullAt = new Map<string, Millis>();

  constructor(clock: Clock, rate: Rate) {
    assert(rate.burst >= 1 && rate.intervalMs > 0, 'a rate lets something through');
    this.#clock = clock;
    this.#rate = rate;
  }

  /** Counts one attempt. @throws MatrixError 429 M_LIMIT_EXCEEDED where it comes too early; that one does not count */
  take(key: string): void {
    const now = this.#clock.monotonic();
    const { burst, intervalMs } = this.#rate;
    const fullAt = Math.max(now, this.#fullAt.get(key) ?? now) + intervalMs;
    const waitMs = fullAt - now - burst * intervalMs;
    if (waitMs > 0) {
      throw new MatrixError(429, 'M_LIMIT_EXCEEDED', 'Too many attempts.', {
        retry_after_ms: Math.ceil(waitMs),
      });
    }
    this.#fullAt.delete(key);
    this.#fullAt.set(key, fullAt);
    if (this.#fullAt.size <= MAX_KEYS) return;
    for (const oldest of this.#fullAt.keys()) {
      this.#fullAt.delete(oldest);
      break;
    }
  }
}
