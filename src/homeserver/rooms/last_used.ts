/** Values in memory, those used last, bounded by what they weigh together; one always stays. */
export class LastUsed<Key, Value> {
  /** In the order of use, the oldest first. */
  readonly #values = new Map<Key, Value>();
  readonly #maxWeight: number;
  readonly #weigh: (value: Value) => number;
  #weight = 0;

  constructor(maxWeight: number, weigh: (value: Value) => number) {
    this.#maxWeight = maxWeight;
    this.#weigh = weigh;
  }

  get(key: Key): Value | undefined {
    const value = this.#values.get(key);
    if (value !== undefined) this.keep(key, value);
    return value;
  }

  keep(key: Key, value: Value): void {
    this.drop(key);
    this.#values.set(key, value);
    this.#weight += this.#weigh(value);
    for (const oldest of this.#values.keys()) {
      if (this.#weight <= this.#maxWeight || this.#values.size === 1) break;
      this.drop(oldest);
    }
  }

  clear(): void {
    this.#values.clear();
    this.#weight = 0;
  }

  drop(key: Key): void {
    const value = this.#values.get(key);
    if (value === undefined) return;
    this.#weight -= this.#weigh(value);
    this.#values.delete(key);
  }
}
