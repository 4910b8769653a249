import type { Millis } from '../base/time.ts';
import type { EventId, RoomId, ServerName } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

/** PDUs kept of one server in one room, of one server, and of all. */
const MAX_OF_ORIGIN_AND_ROOM = 200;
const MAX_OF_ORIGIN = 1_000;
const MAX_PDUS = 5_000;

/** A PDU that another server has been answered for, and that is not decided yet. */
export interface WaitingPdu {
  readonly origin: ServerName;
  readonly room: RoomId;
  readonly eventId: EventId;
  /** JSON text of the PDU as it came. */
  readonly json: string;
  /** Unix time in milliseconds. */
  readonly received: Millis;
}

export interface InboxPdu extends WaitingPdu {
  readonly position: number;
}

/** Whose PDUs, of which room; both where both are given. */
export type InboxPart =
  | { readonly origin: ServerName; readonly room?: RoomId }
  | { readonly origin?: undefined; readonly room: RoomId };

interface InboxRow {
  readonly position: number;
  readonly origin: string;
  readonly room_id: string;
  readonly event_id: string;
  readonly json: string;
  readonly received: number;
}

/**
 * Puts a PDU at the end; one that waits already, from the same server, stays where it is.
 * @returns false, with nothing stored, where a bound is reached
 */
export async function putInInbox(tx: Transaction, pdu: WaitingPdu): Promise<boolean> {
  const counts = await tx.get<{ all: number; origin: number; room: number }>(
    `SELECT COUNT(*) AS "all", COALESCE(SUM(origin = ?), 0) AS origin,
       COALESCE(SUM(origin = ? AND room_id = ?), 0) AS room
     FROM inbox WHERE NOT (origin = ? AND event_id = ?)`,
    pdu.origin,
    pdu.origin,
    pdu.room,
    pdu.origin,
    pdu.eventId,
  );
  const { all, origin, room } = counts!;
  if (all >= MAX_PDUS || origin >= MAX_OF_ORIGIN || room >= MAX_OF_ORIGIN_AND_ROOM) return false;
  await tx.run(
    `INSERT INTO inbox (origin, room_id, event_id, json, received) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT (origin, event_id) DO NOTHING`,
    pdu.origin,
    pdu.room,
    pdu.eventId,
    pdu.json,
    pdu.received,
  );
  return true;
}

/** The first PDU behind a position, in the order in which they came. */
export async function nextInInbox(db: Reader, part: InboxPart, after: number): Promise<InboxPdu | undefined> {
  const columns = 'position, origin, room_id, event_id, json, received';
  const row =
    part.origin === undefined
      ? await db.get<InboxRow>(
          `SELECT ${columns} FROM inbox WHERE room_id = ? AND position > ? ORDER BY position LIMIT 1`,
          part.room,
          after,
        )
      : await db.get<InboxRow>(
          `SELECT ${columns} FROM inbox WHERE origin = ? AND room_id = COALESCE(?, room_id) AND position > ?
           ORDER BY position LIMIT 1`,
          part.origin,
          part.room ?? null,
          after,
        );
  return row && fromRow(row);
}

export async function removeFromInbox(tx: Transaction, position: number): Promise<void> {
  await tx.run('DELETE FROM inbox WHERE position = ?', position);
}

/** Removes what came before an instant, and answers it. */
export async function expireInbox(tx: Transaction, before: Millis): Promise<InboxPdu[]> {
  const rows = await tx.all<InboxRow>('SELECT * FROM inbox WHERE received < ? ORDER BY position', before);
  if (rows.length > 0) await tx.run('DELETE FROM inbox WHERE received < ?', before);
  return rows.map(fromRow);
}

/** The servers of which something waits, by name; with a room, only in that one. */
export async function inboxOrigins(db: Reader, room?: RoomId): Promise<ServerName[]> {
  const rows = await db.all<{ origin: string }>(
    'SELECT DISTINCT origin FROM inbox WHERE room_id = COALESCE(?, room_id) ORDER BY origin',
    room ?? null,
  );
  return rows.map(({ origin }) => origin as ServerName);
}

function fromRow(row: InboxRow): InboxPdu {
  return {
    position: row.position,
    origin: row.origin as ServerName,
    room: row.room_id as RoomId,
    eventId: row.event_id as EventId,
    json: row.json,
    received: row.received,
  };
}
