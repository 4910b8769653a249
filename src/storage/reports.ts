import type { Millis } from '../base/time.ts';
import type { EventId, RoomId, UserId } from '../matrix/ids.ts';
import type { Transaction } from './database.ts';

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
