import type { Database, SqlValue, Transaction } from '../../src/storage/database.ts';

/** Where a process is killed: before or after the COMMIT of its nth transaction, counted from 0. */
export interface Death {
  readonly transaction: number;
  readonly when: 'before' | 'after';
}

/** A database as one process sees it that may be killed: from then on it reads and writes nothing. */
export class MortalDatabase implements Database {
  readonly #inner: Database;
  #death: Death | undefined;
  #isDead = false;
  /** Transactions since `dieAt` was called last. */
  transactions = 0;

  constructor(inner: Database) {
    this.#inner = inner;
  }

  /** Kills it now. */
  die(): void {
    this.#isDead = true;
  }

  get isDead(): boolean {
    return this.#isDead;
  }

  dieAt(death: Death | undefined): void {
    this.#death = death;
    this.transactions = 0;
  }

  async get<R>(sql: string, ...params: SqlValue[]): Promise<R | undefined> {
    this.#live();
    return this.#inner.get<R>(sql, ...params);
  }

  async all<R>(sql: string, ...params: SqlValue[]): Promise<R[]> {
    this.#live();
    return this.#inner.all<R>(sql, ...params);
  }

  async transaction<T>(body: (tx: Transaction) => Promise<T>): Promise<T> {
    this.#live();
    const isLast = this.#death?.transaction === this.transactions++;
    if (!isLast) return this.#inner.transaction(body);
    await this.#inner.transaction(async (tx) => {
      // What runs after the commit is told to nobody any more.
      const dying: Transaction = {
        get: (sql, ...params) => tx.get(sql, ...params),
        all: (sql, ...params) => tx.all(sql, ...params),
        run: (sql, ...params) => tx.run(sql, ...params),
        afterCommit: () => undefined,
        erasesSecrets: () => tx.erasesSecrets(),
      };
      await body(dying);
      this.#isDead = true;
      if (this.#death?.when === 'before') throw new Error('killed');
    });
    this.#live();
    throw new Error('never');
  }

  async close(): Promise<void> {}

  #live(): void {
    if (this.#isDead) throw new Error('killed');
  }
}
