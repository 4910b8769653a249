import type { EventId, RoomId, ServerName, UserId } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

/** A receipt that a destination is yet to be told. */
export interface QueuedReceipt {
  readonly room: RoomId;
  readonly user: UserId;
  /** '' for a receipt without a thread, 'main', or the event id of a thread's root. */
  readonly thread: string;
  readonly event: EventId;
  /** Unix time in milliseconds. */
  readonly ts: number;
}

interface ReceiptColumns {
  readonly position: number;
  readonly room: string;
  readonly user_id: string;
  readonly thread: string;
  readonly event_id: string;
  readonly ts: number;
}

/**
 * Queues a receipt for each destination, in the place of one of the same user, room and thread. Its position is higher: SQLite
 * takes it before it removes the row that is replaced.
 */
export async function enqueueReceipt(
  tx: Transaction,
  { room, user, thread, event, ts }: QueuedReceipt,
  destinations: Iterable<ServerName>,
): Promise<void> {
  for (const destination of destinations)
    await tx.run(
      `INSERT OR REPLACE INTO outbox_receipts (destination, room, user_id, thread, event_id, ts)
       VALUES (?, ?, ?, ?, ?, ?)`,
      ...[destination, room, user, thread, event, ts],
    );
}

/** What a destination is told first, with the positions of the rows. */
export async function queuedReceipts(
  db: Reader,
  destination: ServerName,
  limit: number,
): Promise<readonly (QueuedReceipt & { readonly position: number })[]> {
  const rows = await db.all<ReceiptColumns>(
    `SELECT position, room, user_id, thread, event_id, ts FROM outbox_receipts
     WHERE destination = ? ORDER BY position LIMIT ?`,
    ...[destination, limit],
  );
  return rows.map(({ room, user_id: user, event_id: event, ...row }) => ({
    ...{ ...row, room: room as RoomId, user: user as UserId, event: event as EventId },
  }));
}

/** Removes what a destination has been told; what has taken its place meanwhile stays. */
export async function dequeueReceipts(tx: Transaction, positions: readonly number[]): Promise<void> {
  for (const position of positions) await tx.run('DELETE FROM outbox_receipts WHERE position = ?', position);
}

/** Every destination that a receipt waits for, by name. */
export async function receiptDestinations(db: Reader): Promise<ServerName[]> {
  const rows = await db.all<{ destination: string }>(
    'SELECT DISTINCT destination FROM outbox_receipts ORDER BY destination',
  );
  return rows.map((row) => row.destination as ServerName);
}
