import type { Millis } from '../base/time.ts';
import type { EventId, RoomId, UserId } from '../matrix/ids.ts';
import type { JsonObject } from '../matrix/json.ts';
import type { Reader, Transaction } from './database.ts';

/** An event that is to be sent later, or was; times are Unix time. */
export interface DelayedEvent {
  readonly id: string;
  readonly user: UserId;
  readonly room: RoomId;
  readonly type: string;
  /** null: a message. */
  readonly stateKey: string | null;
  readonly content: JsonObject;
  readonly delayMs: Millis;
  /** When it was scheduled, or started anew. */
  readonly since: Millis;
  /** When it was sent, cancelled, or failed. */
  readonly ended: Millis | null;
  readonly eventId: EventId | null;
  readonly error: JsonObject | null;
}

type Row = Omit<DelayedEvent, 'content' | 'error'> & {
  readonly content: string;
  readonly error: string | null;
};

const SELECT = `SELECT id, user_id AS user, room, type, state_key AS "stateKey", content, delay_ms AS "delayMs", since, ended,
  event_id AS "eventId", error FROM delayed_events`;

const fromRow = (row: Row): DelayedEvent => ({
  ...row,
  content: JSON.parse(row.content) as JsonObject,
  error: row.error === null ? null : (JSON.parse(row.error) as JsonObject),
});

export async function findDelayedEvent(reader: Reader, id: string): Promise<DelayedEvent | undefined> {
  const row = await reader.get<Row>(`${SELECT} WHERE id = ?`, id);
  return row === undefined ? undefined : fromRow(row);
}

/** The id that a request was given before. */
export async function delayedByRequest(
  reader: Reader,
  user: UserId,
  request: string,
): Promise<string | undefined> {
  const row = await reader.get<{ id: string }>(
    'SELECT id FROM delayed_events WHERE user_id = ? AND request = ?',
    user,
    request,
  );
  return row?.id;
}

/** A user's events that wait, the next first. */
export async function waitingOf(reader: Reader, user: UserId): Promise<DelayedEvent[]> {
  const rows = await reader.all<Row>(
    `${SELECT} WHERE user_id = ? AND ended IS NULL ORDER BY since + delay_ms, id`,
    user,
  );
  return rows.map(fromRow);
}

/** A user's events that have ended, the last first. */
export async function endedOf(reader: Reader, user: UserId): Promise<DelayedEvent[]> {
  const rows = await reader.all<Row>(
    `${SELECT} WHERE user_id = ? AND ended IS NOT NULL ORDER BY ended DESC, id`,
    user,
  );
  return rows.map(fromRow);
}

/** Of all users, the event that is due next. */
export async function nextDelayed(reader: Reader): Promise<DelayedEvent | undefined> {
  const row = await reader.get<Row>(`${SELECT} WHERE ended IS NULL ORDER BY since + delay_ms LIMIT 1`);
  return row === undefined ? undefined : fromRow(row);
}

export async function putDelayedEvent(
  tx: Transaction,
  event: Omit<DelayedEvent, 'ended' | 'eventId' | 'error'> & { readonly request: string | null },
): Promise<void> {
  const { id, user, request, room, type, stateKey, content, delayMs, since } = event;
  await tx.run(
    `INSERT INTO delayed_events (id, user_id, request, room, type, state_key, content, delay_ms, since)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ...[id, user, request, room, type, stateKey, JSON.stringify(content), delayMs, since],
  );
}

/** Starts the time of an event anew that waits. @returns whether it does */
export async function restartDelayed(tx: Transaction, id: string, now: Millis): Promise<boolean> {
  return (await tx.run('UPDATE delayed_events SET since = ? WHERE id = ? AND ended IS NULL', now, id)) === 1;
}

/** Notes what became of an event that waits. @returns whether it did */
export async function endDelayed(
  tx: Transaction,
  id: string,
  { at, eventId = null, error = null }: { at: Millis; eventId?: EventId | null; error?: JsonObject | null },
): Promise<boolean> {
  const changed = await tx.run(
    'UPDATE delayed_events SET ended = ?, event_id = ?, error = ? WHERE id = ? AND ended IS NULL',
    ...[at, eventId, error === null ? null : JSON.stringify(error), id],
  );
  return changed === 1;
}

/** Forgets what ended before an instant, and all but the last of a user's. */
export async function forgetEnded(
  tx: Transaction,
  user: UserId,
  { before, kept }: { readonly before: Millis; readonly kept: number },
): Promise<void> {
  await tx.run(
    `DELETE FROM delayed_events WHERE user_id = ? AND ended IS NOT NULL AND (ended < ? OR id NOT IN (
       SELECT id FROM delayed_events WHERE user_id = ? AND ended IS NOT NULL ORDER BY ended DESC, id LIMIT ?))`,
    ...[user, before, user, kept],
  );
}
