import type { Millis } from '../base/time.ts';
import type { EventId, RoomId, UserId } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

/** What a user finds wrong: an event, a room, or another user. */
export interface Report {
  readonly kind: 'event' | 'room' | 'user';
  readonly reporter: UserId;
  readonly room: RoomId | null;
  readonly eventId: EventId | null;
  readonly userId: UserId | null;
  /** May be empty. */
  readonly reason: string;
}

/** A report as it is stored. */
export interface StoredReport extends Report {
  readonly id: number;
  /** Unix time in milliseconds. */
  readonly received: Millis;
  /** When the operator has marked it as read; null: not yet. */
  readonly read: Millis | null;
}

const COLUMNS = 'id, kind, reporter, room, event_id AS eventId, user_id AS userId, reason, received, read';

/** @param now Unix time */
export async function putReport(tx: Transaction, report: Report, now: Millis): Promise<void> {
  await tx.run(
    `INSERT INTO reports (kind, reporter, room, event_id, user_id, reason, received) VALUES (?, ?, ?, ?, ?, ?, ?)`,
    report.kind,
    report.reporter,
    report.room,
    report.eventId,
    report.userId,
    report.reason,
    now,
  );
}

/** Forgets a user's oldest reports but for the last `kept`. */
export async function trimReports(tx: Transaction, reporter: UserId, kept: number): Promise<void> {
  await tx.run(
    `DELETE FROM reports WHERE reporter = ? AND id <=
       (SELECT id FROM reports WHERE reporter = ? ORDER BY id DESC LIMIT 1 OFFSET ?)`,
    reporter,
    reporter,
    kept,
  );
}

/** The newest first. @param isAll those that have been read as well */
export function listReports(reader: Reader, isAll: boolean, limit: number): Promise<StoredReport[]> {
  return reader.all<StoredReport>(
    `SELECT ${COLUMNS} FROM reports ${isAll ? '' : 'WHERE read IS NULL'} ORDER BY id DESC LIMIT ?`,
    limit,
  );
}

export function findReport(reader: Reader, id: number): Promise<StoredReport | undefined> {
  return reader.get<StoredReport>(`SELECT ${COLUMNS} FROM reports WHERE id = ?`, id);
}

/** Marks those reports up to `last` that are not read yet. @param now Unix time @returns how many */
export function readReportsUpTo(tx: Transaction, last: number, now: Millis): Promise<number> {
  return tx.run('UPDATE reports SET read = ? WHERE read IS NULL AND id <= ?', now, last);
}

/** @param now Unix time */
export async function readReport(tx: Transaction, id: number, now: Millis): Promise<void> {
  await tx.run('UPDATE reports SET read = ? WHERE id = ? AND read IS NULL', now, id);
}
