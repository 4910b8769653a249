/** What of one peer's can be counted and forgotten. */
interface Remembered {
  /** How much there is. */
  readonly size: number;
  /** Forgets the oldest part of it. */
  shed(share: number): void;
}

// Ours.
/** Messages, copies and requests of all peers. */
const MOST_OF_ALL = 131_072;
/** Which part of what the fullest peer has is forgotten at a time, so that looking for it is rare. */
const SHED_SHARE = 1 / 16;

/** What this side remembers of what it has sent to all peers. Where it gets too much the fullest forgets its oldest. */
export class SentOfAll {
  /** As each was when something was last added to it: what has been answered since counts until then. */
  readonly #sizes = new Map<Remembered, number>();
  #count = 0;

  /** At least what there is. */
  get count(): number {
    return this.#count;
  }

  /** Something has been added to `to`. */
  added(to: Remembered): void {
    this.#count += to.size - (this.#sizes.get(to) ?? 0);
    this.#sizes.set(to, to.size);
    if (this.#count <= MOST_OF_ALL) return;
    this.#recount();
    while (this.#count > MOST_OF_ALL) {
      let fullest = to;
      for (const other of this.#sizes.keys()) if (other.size > fullest.size) fullest = other;
      fullest.shed(SHED_SHARE);
      this.#recount();
    }
  }

  #recount(): void {
    this.#count = 0;
    for (const one of this.#sizes.keys()) {
      if (one.size === 0) this.#sizes.delete(one);
      else this.#sizes.set(one, one.size);
      this.#count += one.size;
    }
  }

  /** Nothing of `from` is to be remembered any more. */
  removed(from: Remembered): void {
    this.#count -= this.#sizes.get(from) ?? 0;
    this.#sizes.delete(from);
  }
}
