import type { Millis } from '../base/time.ts';
import type { DeviceId, EventId, UserId } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';
import { allIn } from './rows.ts';

/** How long a client's transaction id is remembered. */
const KEPT_MS = 7 * 24 * 60 * 60 * 1000;

/** What identifies a repeated PUT (client-server API, "Transaction identifiers"). */
export interface ClientTransaction {
  readonly user: UserId;
  readonly device: DeviceId;
  /** The request's path without the transaction id. */
  readonly scope: string;
  readonly txnId: string;
}

/** The event that a client's transaction made, or undefined where it is a new one. */
export async function eventOfTransaction(
  db: Reader,
  transaction: ClientTransaction,
): Promise<EventId | undefined> {
  const row = await db.get<{ id: string }>(
    `SELECT event_id AS id FROM client_transactions
     WHERE user_id = ? AND device_id = ? AND scope = ? AND txn_id = ?`,
    transaction.user,
    transaction.device,
    transaction.scope,
    transaction.txnId,
  );
  return row?.id as EventId | undefined;
}

/** Remembers what a transaction made, and forgets that device's old ones. @param now Unix time */
export async function putTransaction(
  tx: Transaction,
  transaction: ClientTransaction,
  event: EventId,
  now: Millis,
): Promise<void> {
  await tx.run(
    'DELETE FROM client_transactions WHERE user_id = ? AND device_id = ? AND created < ?',
    transaction.user,
    transaction.device,
    now - KEPT_MS,
  );
  await tx.run(
    `INSERT INTO client_transactions (user_id, device_id, scope, txn_id, event_id, created)
     VALUES (?, ?, ?, ?, ?, ?)`,
    transaction.user,
    transaction.device,
    transaction.scope,
    transaction.txnId,
    event,
    now,
  );
}

/** The transaction ids under which a device sent those of the events that it did. */
export async function transactionIds(
  db: Reader,
  user: UserId,
  device: DeviceId,
  ids: readonly EventId[],
): Promise<Map<EventId, string>> {
  const rows = await allIn<{ user_id: string; device_id: string; event_id: string; txn_id: string }>(
    db,
    ids,
    (list) =>
      `SELECT user_id, device_id, event_id, txn_id FROM client_transactions WHERE event_id IN (${list})`,
  );
  return new Map(
    rows
      .filter((row) => row.user_id === user && row.device_id === device)
      .map((row) => [row.event_id as EventId, row.txn_id]),
  );
}
