import type { Transaction } from '../../storage/database.ts';
import { LastUsed } from '../rooms/last_used.ts';

/**
 * What transactions have read, those values used last kept for the next ones. Everything is read inside of transactions, which
 * follow on each other: what is kept is what was committed last, or what the transactions before have made of it.
 */
export class CommittedCache<Key, Value> {
  readonly #kept: LastUsed<Key, Value>;

  constructor(maxWeight: number, weigh: (value: Value) => number) {
    this.#kept = new LastUsed(maxWeight, weigh);
  }

  async get(tx: Transaction, key: Key, load: () => Promise<Value>): Promise<Value> {
    const kept = this.#kept.get(key);
    if (kept !== undefined) return kept;
    const value = await load();
    // Only what is committed is kept: a transaction before this one in the same commit may have changed it.
    tx.afterCommit(() => this.#kept.keep(key, value));
    return value;
  }

  /** A transaction has changed what is behind a value. */
  changed(tx: Transaction, key: Key): void {
    this.#kept.drop(key);
    tx.afterCommit(() => this.#kept.drop(key));
  }
}
