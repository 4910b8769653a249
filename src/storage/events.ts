import { assert } from '../base/assert.ts';
import type { EventId, RoomId, UserId } from '../matrix/ids.ts';
import { parseJson } from '../matrix/json.ts';
import { authEvents, depthOf, type Event, type Pdu, prevEvents } from '../matrix/pdu.ts';
import { relationOf } from '../matrix/relation.ts';
import type { Reader, Transaction } from './database.ts';
import { dropRelation, putRelation } from './relations.ts';
import { allIn } from './rows.ts';
import { indexEvent, unindexEvent } from './search.ts';

/** As events.status; see migrations/0002_rooms.sql. */
export type EventStatus = 'timeline' | 'outlier' | 'withheld' | 'soft_failed' | 'rejected';

/** An event as it is stored: the PDU, and what this server made of it. */
export interface StoredEvent {
  readonly row: number;
  readonly event: Event;
  /** Of the PDU's JSON text. */
  readonly characters: number;
  readonly status: EventStatus;
  readonly rejectedBy: RejectedBy | null;
  /** State groups; null where the event is not part of the DAG with known state. */
  readonly stateBefore: number | null;
  readonly stateAfter: number | null;
  readonly position: number | null;
  readonly redactedBy: EventId | null;
}

export type RejectedBy = 'auth_events' | 'state';

interface EventRow {
  readonly row: number;
  readonly event_id: string;
  readonly room_id: string;
  readonly json: string;
  readonly status: string;
  readonly rejected_by: string | null;
  readonly state_before: number | null;
  readonly state_after: number | null;
  readonly position: number | null;
  readonly redacted_by: string | null;
}

/** The columns that `storedEvent` reads, of `events e JOIN rooms r ON r.id = e.room`. */
const EVENT_COLUMNS =
  'e.id AS row, e.event_id, r.room_id, e.json, e.status, e.rejected_by, e.state_before, e.state_after, e.position, e.redacted_by';

const FROM_EVENTS = `SELECT ${EVENT_COLUMNS} FROM events e JOIN rooms r ON r.id = e.room`;

/** Turns a row of EVENT_COLUMNS into an event. */
function storedEvent(row: EventRow): StoredEvent {
  return {
    row: row.row,
    event: {
      id: row.event_id as EventId,
      room: row.room_id as RoomId,
      pdu: parseJson(row.json) as unknown as Pdu,
    },
    characters: row.json.length,
    status: row.status as EventStatus,
    rejectedBy: row.rejected_by as RejectedBy | null,
    stateBefore: row.state_before,
    stateAfter: row.state_after,
    position: row.position,
    redactedBy: row.redacted_by as EventId | null,
  };
}

/** Those of the events that are stored, in no particular order. */
export async function eventsById(db: Reader, ids: readonly EventId[]): Promise<StoredEvent[]> {
  return (await allIn<EventRow>(db, ids, (list) => `${FROM_EVENTS} WHERE e.event_id IN (${list})`)).map(
    storedEvent,
  );
}

/** Which of the events are stored, whatever their status. */
export async function storedIds(db: Reader, ids: readonly EventId[]): Promise<Set<EventId>> {
  const rows = await allIn<{ id: string }>(
    db,
    ids,
    (list) => `SELECT event_id AS id FROM events WHERE event_id IN (${list})`,
  );
  return new Set(rows.map((row) => row.id as EventId));
}

/**
 * Stores an event with its edges as one that is known only as a state or auth event, unless it is stored already.
 * @param redactedBy the redaction that has been applied to `event`
 * @returns its row
 */
export async function putEvent(
  tx: Transaction,
  room: number,
  event: Event,
  redactedBy: EventId | null,
): Promise<number> {
  const { unsigned: _, ...pdu } = event.pdu;
  const inserted = await tx.get<{ id: number }>(
    `INSERT INTO events (event_id, room, type, state_key, sender, depth, origin_server_ts, json, status, redacted_by)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'outlier', ?) ON CONFLICT (event_id) DO NOTHING RETURNING id`,
    event.id,
    room,
    pdu.type,
    pdu.state_key ?? null,
    pdu.sender,
    depthOf(pdu),
    pdu.origin_server_ts,
    JSON.stringify(pdu),
    redactedBy,
  );
  if (inserted === undefined) {
    const known = await tx.get<{ id: number; room: number }>(
      'SELECT id, room FROM events WHERE event_id = ?',
      event.id,
    );
    assert(known?.room === room, 'an event with the id of one of another room is refused before');
    return known.id;
  }
  await putEdges(tx, inserted.id, event);
  const relation = relationOf(pdu.content);
  if (relation !== undefined) await putRelation(tx, { row: inserted.id, room }, relation);
  await indexEvent(tx, inserted.id, pdu);
  return inserted.id;
}

/** Stores the edges of an event that is new, and those to it. */
async function putEdges(tx: Transaction, row: number, { id, pdu }: Event): Promise<void> {
  for (const prev of new Set(prevEvents(pdu))) {
    const known = await tx.run(
      'INSERT INTO event_prev (prev, event) SELECT id, ? FROM events WHERE event_id = ?',
      row,
      prev,
    );
    if (known === 0) await tx.run('INSERT INTO unknown_prev (prev, event) VALUES (?, ?)', prev, row);
  }
  await tx.run(
    'INSERT INTO event_prev (prev, event) SELECT ?, event FROM unknown_prev WHERE prev = ?',
    row,
    id,
  );
  await tx.run('DELETE FROM unknown_prev WHERE prev = ?', id);
  if (pdu.state_key === undefined) return;
  for (const auth of new Set(authEvents(pdu))) {
    const known = await tx.run(
      'INSERT INTO event_auth (event, auth) SELECT ?, id FROM events WHERE event_id = ? AND id < ?',
      row,
      auth,
      row,
    );
    assert(known === 1, 'an event is stored after its auth events');
  }
}

/** Says what this server made of an event that is stored. */
export async function placeEvent(
  tx: Transaction,
  row: number,
  place: Pick<StoredEvent, 'status' | 'rejectedBy' | 'stateBefore' | 'stateAfter' | 'position'>,
): Promise<void> {
  await tx.run(
    'UPDATE events SET status = ?, rejected_by = ?, state_before = ?, state_after = ?, position = ? WHERE id = ?',
    place.status,
    place.rejectedBy,
    place.stateBefore,
    place.stateAfter,
    place.position,
    row,
  );
}

/** An event that names another among its previous events. */
export interface Child {
  readonly id: EventId;
  readonly status: EventStatus;
}

/** The events of a room that name one of `ids`, which need not be stored, among their previous events. */
export async function childrenOf(db: Reader, room: RoomId, ids: readonly EventId[]): Promise<Child[]> {
  const ofStored = await allIn<Child & { readonly room: string }>(
    db,
    ids,
    (list) =>
      `SELECT DISTINCT e.event_id AS id, e.status AS status, r.room_id AS room
       FROM events o JOIN event_prev p ON p.prev = o.id JOIN events e ON e.id = p.event
         JOIN rooms r ON r.id = e.room
       WHERE o.event_id IN (${list})`,
  );
  const ofUnknown = await allIn<Child & { readonly room: string }>(
    db,
    ids,
    (list) =>
      `SELECT DISTINCT e.event_id AS id, e.status AS status, r.room_id AS room
       FROM unknown_prev p JOIN events e ON e.id = p.event JOIN rooms r ON r.id = e.room
       WHERE p.prev IN (${list})`,
  );
  return [...ofStored, ...ofUnknown].filter((child) => child.room === room);
}

/** A redaction that names an event. */
export interface RedactionRow {
  readonly id: EventId;
  readonly sender: UserId;
  readonly status: EventStatus;
  readonly byPower: 0 | 1;
}

/** The redactions in a room that name an event, the first to come first. */
export async function redactionsOf(db: Reader, room: RoomId, redacts: EventId): Promise<RedactionRow[]> {
  return db.all<RedactionRow>(
    `SELECT e.event_id AS id, e.sender AS sender, e.status AS status, x.by_power AS "byPower"
     FROM redactions x JOIN events e ON e.id = x.redaction JOIN rooms r ON r.id = e.room
     WHERE x.redacts = ? AND r.room_id = ? ORDER BY x.redaction`,
    redacts,
    room,
  );
}

export async function putRedaction(
  tx: Transaction,
  redaction: { readonly row: number; readonly redacts: EventId; readonly byPower: boolean },
): Promise<void> {
  await tx.run(
    'INSERT INTO redactions (redacts, redaction, by_power) VALUES (?, ?, ?) ON CONFLICT DO NOTHING',
    redaction.redacts,
    redaction.row,
    redaction.byPower ? 1 : 0,
  );
}

/** Replaces an event by what redaction leaves of it. */
export async function putRedacted(tx: Transaction, redacted: Event, by: EventId): Promise<void> {
  const { unsigned: _, ...pdu } = redacted.pdu;
  await tx.run(
    'UPDATE events SET json = ?, redacted_by = COALESCE(redacted_by, ?) WHERE event_id = ?',
    JSON.stringify(pdu),
    by,
    redacted.id,
  );
  await dropRelation(tx, redacted.id);
  await unindexEvent(tx, redacted.id);
}

/** Shows a redaction that was withheld. */
export async function showWithheld(tx: Transaction, id: EventId, position: number): Promise<void> {
  await tx.run("UPDATE events SET status = 'timeline', position = ? WHERE event_id = ?", position, id);
}
