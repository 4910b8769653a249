import type { Millis } from './time.ts';

interface Entry<Target> {
  readonly at: Millis;
  readonly order: number;
  readonly target: Target;
}

/** A driver's clock may be early by what rounding leaves; without this a timer could be due for ever and never run. */
const ROUNDING: Millis = 1e-3;

/** Stale entries that the heap may hold beside the live ones before it is rebuilt. */
const SLACK_ENTRIES = 64;

/** At most one instant for each target, the earliest first; equal instants in the order in which they were set. */
export class Timers<Target extends object> {
  #heap: Entry<Target>[] = [];
  #order = 0;
  readonly #armed = new Map<Target, Entry<Target>>();

  /** Sets the instant of `target`, in place of the one that it had. */
  set(target: Target, at: Millis): void {
    const entry = { at, order: this.#order++, target };
    this.#armed.set(target, entry);
    if (this.#heap.length > 2 * this.#armed.size + SLACK_ENTRIES) this.#rebuild();
    else this.#push(entry);
  }

  clear(target: Target): void {
    this.#armed.delete(target);
  }

  has(target: Target): boolean {
    return this.#armed.has(target);
  }

  /** The earliest instant, or null where none is set. */
  next(): Millis | null {
    this.#dropStale();
    return this.#heap[0]?.at ?? null;
  }

  /** Takes out the earliest target that is due at `now`. */
  due(now: Millis): Target | undefined {
    const at = this.next();
    if (at === null || at > now + ROUNDING) return undefined;
    const { target } = this.#pop();
    this.#armed.delete(target);
    return target;
  }

  #dropStale(): void {
    for (
      let top = this.#heap[0];
      top !== undefined && this.#armed.get(top.target) !== top;
      top = this.#heap[0]
    ) {
      this.#pop();
    }
  }

  /** A sorted array is a heap. */
  #rebuild(): void {
    this.#heap = [...this.#armed.values()].sort((a, b) => (before(a, b) ? -1 : 1));
  }

  #push(entry: Entry<Target>): void {
    const heap = this.#heap;
    let at = heap.push(entry) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(entry, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = entry;
  }

  #pop(): Entry<Target> {
    const heap = this.#heap;
    const top = heap[0]!;
    const last = heap.pop()!;
    if (heap.length === 0) return top;
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

const before = <T>(a: Entry<T>, b: Entry<T>): boolean => a.at < b.at || (a.at === b.at && a.order < b.order);
