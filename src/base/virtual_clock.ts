import type { Cancel, Clock, Millis } from './time.ts';

interface Timer {
  readonly at: Millis;
  readonly order: number;
  readonly run: () => void;
}

/**
 * A clock that moves only when told to. Timers due at the same instant run in the order in which they were set,
 * so that a run depends on nothing but its inputs.
 */
export class VirtualClock implements Clock {
  #now: Millis = 0;
  #order = 0;
  /** A binary heap by (at, order). A cancelled timer stays until it surfaces. */
  readonly #heap: Timer[] = [];
  readonly #cancelled = new Set<Timer>();
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
    const timer: Timer = { at: this.#now + Math.max(0, delay), order: this.#order++, run };
    this.#push(timer);
    return () => {
      if (!this.#fired.has(timer)) this.#cancelled.add(timer);
    };
  }

  readonly #fired = new WeakSet<Timer>();

  /** When the next timer is due, or null where none is set. */
  next(): Millis | null {
    this.#dropCancelled();
    return this.#heap[0]?.at ?? null;
  }

  /** Moves time to the next timer and runs that one timer. Returns false where none is set. */
  step(): boolean {
    this.#dropCancelled();
    const timer = this.#pop();
    if (timer === undefined) return false;
    this.#now = Math.max(this.#now, timer.at);
    this.#fired.add(timer);
    timer.run();
    return true;
  }

  /** Moves time forward without running anything; the caller has seen to it that nothing is due before. */
  advanceTo(at: Millis): void {
    this.#now = Math.max(this.#now, at);
  }

  #dropCancelled(): void {
    for (let top = this.#heap[0]; top !== undefined && this.#cancelled.delete(top); top = this.#heap[0]) {
      this.#pop();
    }
  }

  #push(timer: Timer): void {
    const heap = this.#heap;
    let at = heap.push(timer) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(timer, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = timer;
  }

  #pop(): Timer | undefined {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (top === undefined || last === undefined || heap.length === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (!before(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return top;
  }
}

function before(a: Timer, b: Timer): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
