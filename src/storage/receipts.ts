import type { RoomId } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';
import { nextPosition } from './stream.ts';

export type ReceiptType = 'm.read' | 'm.read.private';

export interface ReceiptRow {
  readonly user_id: string;
  readonly type: ReceiptType;
  /** '' for a receipt without a thread, 'main', or the event id of a thread's root. */
  readonly thread: string;
  readonly event_id: string;
  /** Unix time in milliseconds. */
  readonly ts: number;
}

/** The event that a user's receipt names, or undefined where there is none. */
export async function receiptEvent(
  reader: Reader,
  room: RoomId,
  { user_id, type, thread }: Pick<ReceiptRow, 'user_id' | 'type' | 'thread'>,
): Promise<string | undefined> {
  const row = await reader.get<{ event_id: string }>(
    'SELECT event_id FROM receipts WHERE room = ? AND user_id = ? AND type = ? AND thread = ?',
    ...[room, user_id, type, thread],
  );
  return row?.event_id;
}

/** Stores a receipt in the place of the user's last one. @returns its position in the stream */
export async function putReceipt(tx: Transaction, room: RoomId, receipt: ReceiptRow): Promise<number> {
  const position = await nextPosition(tx);
  const { user_id, type, thread, event_id, ts } = receipt;
  await tx.run(
    `INSERT INTO receipts (room, user_id, type, thread, event_id, ts, position) VALUES (?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT (room, user_id, type, thread) DO UPDATE SET
       event_id = excluded.event_id, ts = excluded.ts, position = excluded.position`,
    ...[room, user_id, type, thread, event_id, ts, position],
  );
  return position;
}

/** How many receipts a user has in a room, one for each type and thread. */
export async function countReceipts(reader: Reader, room: RoomId, user: string): Promise<number> {
  const row = await reader.get<{ receipts: number }>(
    'SELECT COUNT(*) AS receipts FROM receipts WHERE room = ? AND user_id = ?',
    ...[room, user],
  );
  return row!.receipts;
}

/** Removes a user's oldest receipt of a thread in a room. */
export async function dropOldestThreadReceipt(tx: Transaction, room: RoomId, user: string): Promise<void> {
  await tx.run(
    `DELETE FROM receipts WHERE room = ? AND user_id = ? AND position = (
       SELECT MIN(position) FROM receipts WHERE room = ? AND user_id = ? AND thread NOT IN ('', 'main'))`,
    ...[room, user, room, user],
  );
}

/** Receipts that a user may see, of `after` < position <= `upTo`, oldest first: private ones are their own user's. */
export function receiptChanges(
  reader: Reader,
  room: string,
  viewer: string,
  range: { readonly after: number; readonly upTo: number },
): Promise<ReceiptRow[]> {
  return reader.all<ReceiptRow>(
    `SELECT user_id, type, thread, event_id, ts FROM receipts
     WHERE room = ? AND position > ? AND position <= ? AND (type = 'm.read' OR user_id = ?)
     ORDER BY position`,
    ...[room, range.after, range.upTo, viewer],
  );
}
