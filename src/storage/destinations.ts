import type { Millis } from '../base/time.ts';
import type { ServerName } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

/** What is kept about sending to one server. */
export interface Destination {
  /** Attempts that failed since the last one that did not. */
  readonly failures: number;
  /** Unix time in milliseconds of the next attempt; 0: at once. */
  readonly retryAt: Millis;
  /** The transaction under way, or undefined. */
  readonly transaction?: OutgoingTransaction;
}

/** The composition of a transaction: the rows of the outbox up to `last`. */
export interface OutgoingTransaction {
  readonly id: string;
  /** Unix time in milliseconds: its origin_server_ts. */
  readonly created: Millis;
  readonly last: number;
}

interface DestinationRow {
  readonly failures: number;
  readonly retry_at: number;
  readonly txn_id: string | null;
  readonly txn_created: number | null;
  readonly txn_last: number | null;
}

export async function destination(db: Reader, server: ServerName): Promise<Destination> {
  const row = await db.get<DestinationRow>(
    'SELECT failures, retry_at, txn_id, txn_created, txn_last FROM destinations WHERE server_name = ?',
    server,
  );
  if (row === undefined) return { failures: 0, retryAt: 0 };
  const { failures, retry_at: retryAt, txn_id: id, txn_created: created, txn_last: last } = row;
  return id === null || created === null || last === null
    ? { failures, retryAt }
    : { failures, retryAt, transaction: { id, created, last } };
}

/** Fixes what the next transaction consists of. */
export async function beginTransaction(
  tx: Transaction,
  server: ServerName,
  transaction: OutgoingTransaction,
): Promise<void> {
  await tx.run(
    `INSERT INTO destinations (server_name, txn_id, txn_created, txn_last) VALUES (?, ?, ?, ?)
     ON CONFLICT (server_name) DO UPDATE SET
       txn_id = excluded.txn_id, txn_created = excluded.txn_created, txn_last = excluded.txn_last`,
    server,
    transaction.id,
    transaction.created,
    transaction.last,
  );
}

/** The composition of the transaction under way is given up; what it held goes into others. */
export async function abandonTransaction(tx: Transaction, server: ServerName): Promise<void> {
  await tx.run(
    'UPDATE destinations SET txn_id = NULL, txn_created = NULL, txn_last = NULL WHERE server_name = ?',
    server,
  );
}

/** The destination has taken the transaction: no transaction is under way and nothing has failed. */
export async function forgetDestination(tx: Transaction, server: ServerName): Promise<void> {
  await tx.run('DELETE FROM destinations WHERE server_name = ?', server);
}

/** The destination has answered something else than the transaction under way, which is to be delivered still. */
export async function forgetFailures(tx: Transaction, server: ServerName): Promise<void> {
  await tx.run('UPDATE destinations SET failures = 0, retry_at = 0 WHERE server_name = ?', server);
}

/** Records a failed attempt. */
export async function postponeDestination(
  tx: Transaction,
  server: ServerName,
  { failures, retryAt }: { readonly failures: number; readonly retryAt: Millis },
): Promise<void> {
  await tx.run(
    `INSERT INTO destinations (server_name, failures, retry_at) VALUES (?, ?, ?)
     ON CONFLICT (server_name) DO UPDATE SET failures = excluded.failures, retry_at = excluded.retry_at`,
    server,
    failures,
    retryAt,
  );
}
