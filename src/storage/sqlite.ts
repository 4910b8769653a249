import { AsyncLocalStorage } from 'node:async_hooks';
import { chmodSync, closeSync, openSync } from 'node:fs';
import Connection from 'better-sqlite3';
import { assert } from '../base/assert.ts';
import type { Cancel, Clock, Millis } from '../base/time.ts';
import { unknownError } from '../matrix/error.ts';
import type { Database, Reader, SqlValue, Transaction } from './database.ts';

/** Transactions that share one COMMIT at most: bounds how long the first of them waits for the others. */
const MAX_GROUP = 64;
/** Transactions that wait for the lane at most; one more is answered 503. */
const MAX_QUEUE = 10_000;
/** Prepared statements kept for each connection; the one unused for longest goes first. */
const MAX_STATEMENTS = 1_000;
/** How long a statement waits for another process that holds the file, such as a backup. */
const BUSY_TIMEOUT_MS = 5_000;
/** Between two times that the log is emptied of secrets, and until it is tried again where somebody reads from it. */
const ERASURE_INTERVAL_MS: Millis = 10_000;

export interface SqliteOptions {
  /** The database file; it is created where it does not exist, readable by its owner only. */
  readonly path: string;
  /** `full`: a commit returns when it is on the disk. `off`: never synced, for simulations and tests only. */
  readonly durability: 'full' | 'off';
  /**
   * Awaited once before each COMMIT, so that requests which have come in meanwhile share it: a turn of the event loop.
   * Left out: only what is asked for within the same turn is grouped, and everything settles within microtasks.
   */
  readonly gather?: (() => Promise<void>) | undefined;
  /** Says when the log may be emptied of secrets that were replaced; left out: when the database is closed. */
  readonly clock?: Clock;
}

/** Opens a database file. `migrate` (migrate.ts) has been run on it. */
export function openSqlite(options: SqliteOptions): SqliteDatabase {
  return new SqliteDatabase(options);
}

/** Opens a database file to read it only, beside a server that runs or not. */
export function openReadOnly(path: string): Reader & { close(): void } {
  const connection = new Connection(path, { readonly: true, fileMustExist: true, timeout: BUSY_TIMEOUT_MS });
  const statements = new Statements(connection);
  return {
    get: async (sql, ...params) => statements.get(sql, params),
    all: async (sql, ...params) => statements.all(sql, params),
    close: () => connection.close(),
  };
}

/** Makes sure that a file exists and that nobody but its owner can read it; its -wal and -shm get the same mode. */
export function protectFile(path: string): void {
  closeSync(openSync(path, 'a', 0o600));
  chmodSync(path, 0o600);
}

interface Job {
  readonly body: (tx: Transaction) => Promise<unknown>;
  /** What the body came to: told to the caller once the group is committed. */
  outcome: { readonly value: unknown } | { readonly error: unknown } | undefined;
  effects: readonly (() => void)[];
  erasesSecrets: boolean;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * The Database over SQLite: one connection for the write lane and one, read only, for everything else, which
 * therefore sees committed data only. Statements run at once and on this thread; nothing here waits for a timer, so a
 * transaction settles within microtasks, or those and `gather`.
 */
export class SqliteDatabase implements Database {
  readonly #writer: Connection.Database;
  readonly #reader: Connection.Database;
  readonly #write: Statements;
  readonly #read: Statements;
  readonly #gather: (() => Promise<void>) | undefined;
  readonly #queue: Job[] = [];
  readonly #inside = new AsyncLocalStorage<SqliteTransaction>();
  readonly #clock: Clock | undefined;
  #lane: Promise<void> | undefined;
  #open = true;
  /** Whether secrets that were replaced are still in the log. */
  #mustErase = false;
  /** When the log was emptied last, or that was tried. */
  #erasedAt = Number.NEGATIVE_INFINITY;
  #erasure: Cancel | undefined;
  /** Transactions that were committed, and the COMMITs that it took. */
  readonly counters = { transactions: 0, commits: 0 };

  constructor({ path, durability, gather, clock }: SqliteOptions) {
    this.#gather = gather;
    this.#clock = clock;
    protectFile(path);
    this.#writer = new Connection(path, { timeout: BUSY_TIMEOUT_MS });
    this.#writer.pragma('journal_mode = WAL');
    this.#writer.pragma(`synchronous = ${durability === 'full' ? 'FULL' : 'OFF'}`);
    this.#writer.pragma('foreign_keys = ON');
    this.#writer.pragma('secure_delete = ON');
    this.#reader = new Connection(path, { readonly: true, timeout: BUSY_TIMEOUT_MS });
    this.#write = new Statements(this.#writer);
    this.#read = new Statements(this.#reader);
  }

  async get<R>(sql: string, ...params: SqlValue[]): Promise<R | undefined> {
    this.#assertOutside('a read of committed data');
    return this.#read.get<R>(sql, params);
  }

  async all<R>(sql: string, ...params: SqlValue[]): Promise<R[]> {
    this.#assertOutside('a read of committed data');
    return this.#read.all<R>(sql, params);
  }

  async transaction<T>(body: (tx: Transaction) => Promise<T>): Promise<T> {
    assert(this.#open, 'the database is open');
    this.#assertOutside('a transaction');
    if (this.#queue.length >= MAX_QUEUE) throw unknownError(503, 'The server has too much to write.');
    return new Promise<T>((resolve, reject) => {
      this.#queue.push({
        ...{ body, outcome: undefined, effects: [], erasesSecrets: false },
        ...{ resolve: resolve as Job['resolve'], reject },
      });
      this.#lane ??= this.#runLane();
    });
  }

  async close(): Promise<void> {
    this.#assertOutside('closing');
    if (!this.#open) return;
    this.#open = false;
    await this.#lane;
    this.#erasure?.();
    // The writer goes last: only it can fold the log back into the file.
    this.#reader.close();
    if (this.#mustErase) this.#emptyLog();
    this.#writer.close();
  }

  #assertOutside(what: string): void {
    // What a body started and left behind may outlive its transaction, so the context alone says nothing.
    assert(this.#inside.getStore()?.active !== true, `${what} is not started inside a transaction`);
  }

  async #runLane(): Promise<void> {
    // Everything that is asked for in this turn shares the first group.
    await Promise.resolve();
    while (this.#queue.length > 0) await this.#runGroup();
    this.#lane = undefined;
  }

  /** Runs what waits, each in a savepoint, until nothing more does; commits; then tells everybody. */
  async #runGroup(): Promise<void> {
    const group: Job[] = [];
    try {
      this.#writer.exec('BEGIN IMMEDIATE');
      await this.#runQueued(group);
      if (this.#gather !== undefined && group.length < MAX_GROUP) {
        await this.#gather();
        await this.#runQueued(group);
      }
      this.#writer.exec('COMMIT');
    } catch (error) {
      if (this.#writer.inTransaction) this.#writer.exec('ROLLBACK');
      // Where BEGIN itself failed, everybody who waits would only fail the same way, each after the busy timeout.
      const failed = group.length > 0 ? group : this.#queue.splice(0);
      for (const job of failed) job.reject(error);
      return;
    }
    this.counters.commits++;
    for (const job of group) this.#settle(job);
    this.#mustErase ||= group.some((job) => job.erasesSecrets);
    this.#eraseSecrets();
  }

  /** Empties the log where that is to be done and its time has come; else when it comes, or after the group under way. */
  #eraseSecrets(): void {
    const clock = this.#clock;
    if (!this.#mustErase || clock === undefined || this.#erasure !== undefined) return;
    const wait = this.#erasedAt + ERASURE_INTERVAL_MS - clock.monotonic();
    if (wait > 0) {
      this.#erasure = clock.after(wait, () => {
        this.#erasure = undefined;
        this.#eraseSecrets();
      });
    } else if (!this.#writer.inTransaction) {
      this.#erasedAt = clock.monotonic();
      this.#writer.pragma('busy_timeout = 0');
      this.#emptyLog();
      this.#writer.pragma(`busy_timeout = ${BUSY_TIMEOUT_MS}`);
      this.#eraseSecrets();
    }
  }

  /** Moves what is in the log to the file and cuts it off; not while another process reads from it. */
  #emptyLog(): void {
    const [outcome] = this.#writer.pragma('wal_checkpoint(TRUNCATE)') as readonly { readonly busy: number }[];
    this.#mustErase = outcome?.busy !== 0;
  }

  async #runQueued(group: Job[]): Promise<void> {
    while (group.length < MAX_GROUP && this.#queue.length > 0) {
      const job = this.#queue.shift()!;
      group.push(job);
      await this.#runJob(job);
    }
  }

  /** Runs one body. Throws only where the whole group is lost. */
  async #runJob(job: Job): Promise<void> {
    this.#writer.exec('SAVEPOINT job');
    const tx = new SqliteTransaction(this.#write);
    try {
      job.outcome = { value: await this.#inside.run(tx, () => job.body(tx)) };
      job.effects = tx.effects;
      job.erasesSecrets = tx.erases;
    } catch (error) {
      // A full disk and its like make SQLite undo the group's transaction on its own.
      if (!this.#writer.inTransaction) throw error;
      this.#writer.exec('ROLLBACK TO job');
      job.outcome = { error };
    } finally {
      tx.active = false;
    }
    assert(this.#writer.inTransaction, 'the body has not ended the transaction itself');
    this.#writer.exec('RELEASE job');
  }

  #settle(job: Job): void {
    assert(job.outcome !== undefined, 'a committed transaction has an outcome');
    if ('error' in job.outcome) {
      job.reject(job.outcome.error);
      return;
    }
    this.counters.transactions++;
    let failure: { readonly error: unknown } | undefined;
    for (const effect of job.effects) {
      try {
        effect();
      } catch (error) {
        failure ??= { error };
      }
    }
    if (failure === undefined) job.resolve(job.outcome.value);
    else job.reject(failure.error);
  }
}

class SqliteTransaction implements Transaction {
  readonly #statements: Statements;
  readonly effects: (() => void)[] = [];
  erases = false;
  active = true;

  constructor(statements: Statements) {
    this.#statements = statements;
  }

  async get<R>(sql: string, ...params: SqlValue[]): Promise<R | undefined> {
    this.#assertActive();
    return this.#statements.get<R>(sql, params);
  }

  async all<R>(sql: string, ...params: SqlValue[]): Promise<R[]> {
    this.#assertActive();
    return this.#statements.all<R>(sql, params);
  }

  async run(sql: string, ...params: SqlValue[]): Promise<number> {
    this.#assertActive();
    return this.#statements.run(sql, params);
  }

  afterCommit(effect: () => void): void {
    this.#assertActive();
    this.effects.push(effect);
  }

  erasesSecrets(): void {
    this.#assertActive();
    this.erases = true;
  }

  #assertActive(): void {
    assert(this.active, 'a transaction is not used after its end');
  }
}

/** The prepared statements of one connection, by their text. */
class Statements {
  readonly #connection: Connection.Database;
  readonly #byText = new Map<string, Connection.Statement<SqlValue[]>>();

  constructor(connection: Connection.Database) {
    this.#connection = connection;
  }

  get<R>(sql: string, params: SqlValue[]): R | undefined {
    return this.#prepared(sql).get(...params) as R | undefined;
  }

  all<R>(sql: string, params: SqlValue[]): R[] {
    return this.#prepared(sql).all(...params) as R[];
  }

  run(sql: string, params: SqlValue[]): number {
    return this.#prepared(sql).run(...params).changes;
  }

  #prepared(sql: string): Connection.Statement<SqlValue[]> {
    const found = this.#byText.get(sql);
    if (found !== undefined) {
      this.#byText.delete(sql);
      this.#byText.set(sql, found);
      return found;
    }
    const statement = this.#connection.prepare<SqlValue[]>(sql);
    this.#byText.set(sql, statement);
    if (this.#byText.size > MAX_STATEMENTS) {
      const [oldest] = this.#byText.keys();
      this.#byText.delete(oldest!);
    }
    return statement;
  }
}
