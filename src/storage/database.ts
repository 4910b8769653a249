/** A value that SQLite and PostgreSQL both take. Booleans are 0 and 1. */
export type SqlValue = string | number | null | Uint8Array;

/** Reads committed data. A service that only reads takes this type, so that it cannot write. */
export interface Reader {
  /** The first row, or undefined. Statements are prepared once for each distinct text. */
  get<R>(sql: string, ...params: SqlValue[]): Promise<R | undefined>;
  all<R>(sql: string, ...params: SqlValue[]): Promise<R[]>;
}

/** Inside a transaction only its own statements may be awaited. */
export interface Transaction extends Reader {
  /** Runs a statement that returns no rows; answers how many rows it changed. */
  run(sql: string, ...params: SqlValue[]): Promise<number>;
  /** Runs `effect` once, after the commit is durable and before `transaction` resolves; dropped on rollback. */
  afterCommit(effect: () => void): void;
  /**
   * Says that this transaction replaces or removes a secret: soon after the commit it is gone from the log as well. From
   * the file itself it goes by being overwritten.
   */
  erasesSecrets(): void;
}

export interface Database extends Reader {
  /**
   * Runs `body` in the one write lane: transactions run one after another, and the promise settles only after the
   * commit is on the disk. `body` may run twice and has no effects of its own; those go through `afterCommit`.
   * Where it throws, everything it wrote is undone and the error is passed on.
   */
  transaction<T>(body: (tx: Transaction) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}
