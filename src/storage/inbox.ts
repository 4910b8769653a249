import type { Millis } from '../base/time.ts';
import type { EventId, RoomId, ServerName } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

/** PDUs kept of one server in one room, of one server, and of all. */
const MAX_OF_ORIGIN_AND_ROOM = 200;
const MAX_OF_ORIGIN = 1_000;
const MAX_PDUS = 5_000;
/** How much deeper a PDU may be than the one before it so that what was between them may be shed. */
const MAX_SHED_DEPTH = 50;

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
 * Puts a PDU at the end; one that waits already, from the same server, stays where it is. How many may wait is for
 * `thinInbox` and `isInboxOverfull` to say.
 */
export async function putInInbox(tx: Transaction, pdu: WaitingPdu): Promise<void> {
  await tx.run(
    `INSERT INTO inbox (origin, room_id, event_id, json, received) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT (origin, event_id) DO NOTHING`,
    pdu.origin,
    pdu.room,
    pdu.eventId,
    pdu.json,
    pdu.received,
  );
}

/** Whether more PDUs wait of one server, or of all, than may. */
export async function isInboxOverfull(db: Reader, origin: ServerName): Promise<boolean> {
  const counts = await db.get<{ all: number; origin: number }>(
    'SELECT COUNT(*) AS "all", COALESCE(SUM(origin = ?), 0) AS origin FROM inbox',
    origin,
  );
  return counts!.all > MAX_PDUS || counts!.origin > MAX_OF_ORIGIN;
}

interface Thinned {
  /** Removed from between others, so that filling the gap before the next one brings them. */
  readonly shed: readonly EventId[];
  /** The newest, removed because that cannot be said of any. */
  readonly refused: readonly EventId[];
}

/**
 * Brings the PDUs of one server in one room down to their bound. The oldest and the newest stay. Of those between, the
 * one goes first whose neighbours are the closest in depth, so that no gap becomes long before all are.
 */
export async function thinInbox(tx: Transaction, origin: ServerName, room: RoomId): Promise<Thinned> {
  const count = await tx.get<{ count: number }>(
    'SELECT COUNT(*) AS count FROM inbox WHERE origin = ? AND room_id = ?',
    origin,
    room,
  );
  if (count!.count <= MAX_OF_ORIGIN_AND_ROOM) return { shed: [], refused: [] };
  const rows = await tx.all<{ position: number; event_id: string; depth: number }>(
    `SELECT position, event_id, json_extract(json, '$.depth') AS depth FROM inbox
     WHERE origin = ? AND room_id = ? ORDER BY position`,
    origin,
    room,
  );
  const shed: EventId[] = [];
  const refused: EventId[] = [];
  while (rows.length > MAX_OF_ORIGIN_AND_ROOM) {
    const between = leastNeeded(rows.map(({ depth }) => depth));
    const [row] = rows.splice(between ?? -1, 1);
    (between === undefined ? refused : shed).push(row!.event_id as EventId);
    await removeFromInbox(tx, row!.position);
  }
  return { shed, refused };
}

/** The index of the depth between the closest neighbours; undefined where no gap would be short and forward. */
function leastNeeded(depths: readonly number[]): number | undefined {
  let best: number | undefined;
  let least = MAX_SHED_DEPTH + 1;
  for (let i = 1; i < depths.length - 1; i++) {
    const [before, depth, after] = [depths[i - 1]!, depths[i]!, depths[i + 1]!];
    if (before >= depth || depth >= after || after - before >= least) continue;
    least = after - before;
    best = i;
  }
  return best;
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
