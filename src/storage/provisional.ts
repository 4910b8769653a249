import type { Millis } from '../base/time.ts';
import type { EventId, KeyId, RoomId, ServerName } from '../matrix/ids.ts';
import { parseJson } from '../matrix/json.ts';
import { depthOf, type Event, type Pdu } from '../matrix/pdu.ts';
import type { Reader, Transaction } from './database.ts';
import { allIn } from './rows.ts';

// Ours.
/** Notices kept; the oldest go. A client that was away for longer keeps what it was shown. */
const MAX_NOTICES = 10_000;

/** As provisional_events.state; see migrations/0014_deferred_signatures.sql. What has ended has no row. */
export type KeptState = 'provisional' | 'refetching' | 'verified';

/** An event that is not part of its room yet. */
export interface KeptEvent {
  readonly event: Event;
  readonly origin: ServerName;
  readonly state: KeptState;
  /** With which its signature has to be made; undefined where it came whole. The public key is unpadded base64. */
  readonly key: { readonly keyId: KeyId; readonly publicKey: string } | undefined;
  /** Unix time. */
  readonly received: Millis;
  /** Null: clients are not shown it. */
  readonly position: number | null;
  readonly stateGroup: number | null;
  /** The room's row. */
  readonly room: number;
}

interface KeptRow {
  readonly event_id: string;
  readonly room: number;
  readonly room_id: string;
  readonly origin: string;
  readonly state: string;
  readonly key_id: string | null;
  readonly public_key: string | null;
  readonly json: string;
  readonly received: number;
  readonly position: number | null;
  readonly state_group: number | null;
}

const FROM_KEPT = `SELECT p.event_id, p.room, r.room_id, p.origin, p.state, p.key_id, p.public_key, p.json, p.received, p.position,
  p.state_group FROM provisional_events p JOIN rooms r ON r.id = p.room`;

function keptEvent(row: KeptRow): KeptEvent {
  return {
    event: {
      id: row.event_id as EventId,
      room: row.room_id as RoomId,
      pdu: parseJson(row.json) as unknown as Pdu,
    },
    origin: row.origin as ServerName,
    state: row.state as KeptState,
    key:
      row.key_id === null || row.public_key === null
        ? undefined
        : { keyId: row.key_id as KeyId, publicKey: row.public_key },
    received: row.received,
    position: row.position,
    stateGroup: row.state_group,
    room: row.room,
  };
}

/** Keeps an event, unless it is kept already. */
export async function putKept(tx: Transaction, kept: KeptEvent): Promise<void> {
  const { event, key } = kept;
  await tx.run(
    `INSERT INTO provisional_events (event_id, room, origin, state, key_id, public_key, type, sender, depth, json, received,
       position, state_group) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (event_id) DO NOTHING`,
    event.id,
    kept.room,
    kept.origin,
    kept.state,
    key?.keyId ?? null,
    key?.publicKey ?? null,
    event.pdu.type,
    event.pdu.sender,
    depthOf(event.pdu),
    JSON.stringify(event.pdu),
    kept.received,
    kept.position,
    kept.stateGroup,
  );
}

/** The kept events of one room, or of one server, each before those that can be built on it. */
export async function keptEvents(
  db: Reader,
  of: { readonly room: RoomId } | { readonly origin: ServerName },
): Promise<KeptEvent[]> {
  const rows =
    'room' in of
      ? await db.all<KeptRow>(`${FROM_KEPT} WHERE r.room_id = ? ORDER BY p.depth, p.id`, of.room)
      : await db.all<KeptRow>(`${FROM_KEPT} WHERE p.origin = ? ORDER BY p.depth, p.id`, of.origin);
  return rows.map(keptEvent);
}

/** Those of the events that are kept. */
export async function keptById(db: Reader, ids: readonly EventId[]): Promise<KeptEvent[]> {
  return (await allIn<KeptRow>(db, ids, (list) => `${FROM_KEPT} WHERE p.event_id IN (${list})`)).map(
    keptEvent,
  );
}

/** Which of the events have a place in the history of their rooms; those that are only part of a state have none. */
export async function placedIds(db: Reader, ids: readonly EventId[]): Promise<ReadonlySet<EventId>> {
  const rows = await allIn<{ id: string }>(
    db,
    ids,
    (list) => `SELECT event_id AS id FROM events WHERE event_id IN (${list}) AND state_after IS NOT NULL`,
  );
  return new Set(rows.map((row) => row.id as EventId));
}

/** How many events are kept of a server. */
export async function countKept(db: Reader, origin: ServerName): Promise<number> {
  const row = await db.get<{ count: number }>(
    'SELECT COUNT(*) AS count FROM provisional_events WHERE origin = ?',
    origin,
  );
  return row!.count;
}

/** The servers of which something is kept. */
export async function keptOrigins(db: Reader): Promise<ServerName[]> {
  const rows = await db.all<{ origin: string }>(
    'SELECT DISTINCT origin FROM provisional_events ORDER BY origin',
  );
  return rows.map((row) => row.origin as ServerName);
}

/** When the oldest of the events came that wait for something of their server. */
export async function oldestUndecided(db: Reader): Promise<Millis | undefined> {
  const row = await db.get<{ received: number | null }>(
    "SELECT MIN(received) AS received FROM provisional_events WHERE state <> 'verified'",
  );
  return row?.received ?? undefined;
}

/** The events that wait for something of their server and came at `until` or before. */
export async function undecidedUntil(db: Reader, until: Millis): Promise<KeptEvent[]> {
  const rows = await db.all<KeptRow>(
    `${FROM_KEPT} WHERE p.state <> 'verified' AND p.received <= ? ORDER BY p.depth, p.id`,
    until,
  );
  return rows.map(keptEvent);
}

/** Changes the state of an event that is in one of `from`. @param pdu what it is from now on, where that changes */
export async function changeKept(
  tx: Transaction,
  id: EventId,
  from: KeptState,
  to: KeptState,
  pdu?: Pdu,
): Promise<boolean> {
  const changed = await tx.run(
    'UPDATE provisional_events SET state = ?, json = COALESCE(?, json) WHERE event_id = ? AND state = ?',
    to,
    pdu === undefined ? null : JSON.stringify(pdu),
    id,
    from,
  );
  return changed > 0;
}

export async function dropKept(tx: Transaction, id: EventId): Promise<void> {
  await tx.run('DELETE FROM provisional_events WHERE event_id = ?', id);
}

/** Gives an event that has become part of its room the place at which clients were shown it. */
export async function keepPlace(tx: Transaction, id: EventId, position: number): Promise<void> {
  await tx.run('UPDATE events SET position = ? WHERE event_id = ?', position, id);
}

/** What clients are told of an event that came to nothing. */
export interface Notice {
  readonly event: Event;
  readonly reason: 'rejected' | 'quarantined';
  readonly room: number;
  readonly position: number;
  readonly stateGroup: number | null;
}

export async function putNotice(tx: Transaction, notice: Notice): Promise<void> {
  const { id, pdu } = notice.event;
  await tx.run(
    `INSERT INTO provisional_notices (event_id, room, sender, depth, json, reason, position, state_group)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
    id,
    notice.room,
    pdu.sender,
    depthOf(pdu),
    JSON.stringify(pdu),
    notice.reason,
    notice.position,
    notice.stateGroup,
  );
  await tx.run(
    'DELETE FROM provisional_notices WHERE id <= (SELECT MAX(id) FROM provisional_notices) - ?',
    MAX_NOTICES,
  );
}
