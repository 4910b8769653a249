import type { Cancel, Clock, Millis } from './time.ts';
import { Timers } from './timers.ts';

/**
 * A clock that moves only when told to. Timers due at the same instant run in the order in which they were set,
 * so that a run depends on nothing but its inputs.
 */
export class VirtualClock implements Clock {
  #now: Millis = 0;
  readonly #timers = new Timers<{ readonly run: () => void }>();
  readonly #epoch: Millis;

  /** @param epoch Unix time in milliseconds at which virtual time starts. */
  constructor(epoch: Millis = Date.UTC(2026, 0, 1)) {
    this.#epoch = epoch;
  }

  wall(): Millis {
    return Math.floor(this.#epoch + this.#now);
  }

  monotonic(): Millis {
    return this.#now;
  }

  after(delay: Millis, run: () => void): Cancel {
    const timer = { run };
    this.#timers.set(timer, this.#now + Math.max(0, delay));
    return () => this.#timers.clear(timer);
  }

  /** When the next timer is due, or null where none is set. */
  next(): Millis | null {
    return this.#timers.next();
  }

  /** Moves time to the next timer and runs that one timer. Returns false where none is set. */
  step(): boolean {
    const at = this.#timers.next();
    if (at === null) return false;
    this.#now = Math.max(this.#now, at);
    this.#timers.due(at)?.run();
    return true;
  }

  /** Moves time forward without running anything; the caller has seen to it that nothing is due before. */
  advanceTo(at: Millis): void {
    this.#now = Math.max(this.#now, at);
  }
}
