import type { Reader } from './database.ts';
import { allIn } from './rows.ts';
import { layerEntries, placeRow, stateOfGroup } from './state.ts';

/**
 * What /sync and /messages read. Every read is bounded by a stream position, so that a response made of many
 * statements describes one moment although the write lane goes on meanwhile.
 */

/** An event as the reading services need it. */
export interface EventRow {
  readonly id: number;
  readonly event_id: string;
  readonly type: string;
  readonly state_key: string | null;
  readonly sender: string;
  readonly depth: number;
  /** The PDU, JSON text without "unsigned". */
  readonly json: string;
  readonly state_before: number | null;
  readonly state_after: number | null;
  readonly position: number | null;
  readonly redacted_by: string | null;
  /** Of an event that is not part of its room yet; 'rejected' or 'quarantined' of a notice that one came to nothing. */
  readonly provisional?: 'provisional' | 'rejected' | 'quarantined' | null;
}

export const EVENT_COLUMNS =
  'e.id, e.event_id, e.type, e.state_key, e.sender, e.depth, e.json, e.state_before, e.state_after, e.position, e.redacted_by';

/** A user's membership in one room, with what tells whether a sync has to look into the room. */
export interface SyncRoomRow {
  readonly room_id: string;
  readonly membership: string;
  readonly event_id: string;
  readonly position: number;
  readonly invite_state: string | null;
  readonly event_json: string | null;
  readonly forgotten: number;
  /** The room's row; null where only the membership is known here. */
  readonly room: number | null;
  readonly version: string | null;
  /** The position of the last event, and of the last change of state; null where there is none. */
  readonly last_event: number | null;
  readonly last_change: number | null;
  /** The position of the last receipt or change of who types; 0 where there is none. */
  readonly last_ephemeral: number;
  /** The position of the user's last account data of the room; null where there is none. */
  readonly last_data: number | null;
}

/** The stream's position and the user's rooms at that very position, by room id: one statement, one snapshot. */
export async function syncRooms(
  reader: Reader,
  user: string,
): Promise<{ readonly now: number; readonly rooms: readonly SyncRoomRow[] }> {
  const rows = await reader.all<(SyncRoomRow | { readonly room_id: null }) & { readonly now: number }>(
    `SELECT s.position AS now, m.room AS room_id, m.membership, m.event_id, m.position, m.invite_state,
       m.event_json, m.forgotten, r.id AS room, r.version,
       MAX(COALESCE((SELECT MAX(e.position) FROM events e WHERE e.room = r.id), 0),
         COALESCE((SELECT MAX(p.position) FROM provisional_events p WHERE p.room = r.id), 0),
         COALESCE((SELECT MAX(n.position) FROM provisional_notices n WHERE n.room = r.id), 0)) AS last_event,
       (SELECT MAX(c.position) FROM current_state_changes c WHERE c.room = r.id) AS last_change,
       MAX(COALESCE((SELECT MAX(t.position) FROM receipts t WHERE t.room = m.room), 0),
         COALESCE((SELECT y.position FROM typing y WHERE y.room = m.room), 0)) AS last_ephemeral,
       (SELECT MAX(a.position) FROM account_data a WHERE a.user_id = m.user_id AND a.room = m.room) AS last_data
     FROM stream s LEFT JOIN memberships m ON m.user_id = ? LEFT JOIN rooms r ON r.room_id = m.room
     ORDER BY m.room`,
    user,
  );
  return { now: rows[0]?.now ?? 0, rooms: rows.filter((row) => row.room_id !== null) };
}

export async function streamPosition(reader: Reader): Promise<number> {
  return (await reader.get<{ position: number }>('SELECT position FROM stream'))?.position ?? 0;
}

export interface RoomRow {
  readonly id: number;
  readonly room_id: string;
  readonly version: string;
}

export function roomRow(reader: Reader, roomId: string): Promise<RoomRow | undefined> {
  return reader.get<RoomRow>('SELECT id, room_id, version FROM rooms WHERE room_id = ?', roomId);
}

/** 'b': newest first, 'f': oldest first. */
export type Direction = 'b' | 'f';

const SORTED = { b: 'DESC', f: 'ASC' } as const;
const BEYOND = { b: '<', f: '>' } as const;

/** Events that are not part of their rooms, and notices about such, in the place of EVENT_COLUMNS and what they are. */
const SHOWN_PROVISIONAL = `SELECT -p.id, p.event_id, p.type, NULL, p.sender, p.depth, p.json, p.state_group, p.state_group,
  p.position, NULL, 'provisional' FROM provisional_events p`;
const SHOWN_NOTICES = `SELECT -n.id, n.event_id, 'm.room.redaction', NULL, n.sender, n.depth, n.json, n.state_group, n.state_group,
  n.position, NULL, n.reason FROM provisional_notices n`;

/** Delivered events with `after` < position <= `upTo`, in a direction. */
export function deliveredEvents(
  reader: Reader,
  room: number,
  dir: Direction,
  range: { readonly after: number; readonly upTo: number; readonly limit: number },
): Promise<EventRow[]> {
  const { after, upTo } = range;
  return reader.all<EventRow>(
    `SELECT ${EVENT_COLUMNS}, NULL AS provisional FROM events e
     WHERE e.room = ? AND e.position > ? AND e.position <= ? AND e.status = 'timeline'
     UNION ALL ${SHOWN_PROVISIONAL} WHERE p.room = ? AND p.position > ? AND p.position <= ?
     UNION ALL ${SHOWN_NOTICES} WHERE n.room = ? AND n.position > ? AND n.position <= ?
     ORDER BY position ${SORTED[dir]} LIMIT ?`,
    ...[room, after, upTo, room, after, upTo, room, after, upTo, range.limit],
  );
}

/** A place among the events that were never delivered, which are ordered by depth, then by row. */
export interface HistoricPlace {
  readonly depth: number;
  readonly id: number;
}

/** Events that were never delivered (backfilled), `after` < (depth, id) <= `upTo`, in a direction. */
export function historicEvents(
  reader: Reader,
  room: number,
  dir: Direction,
  range: { readonly after: HistoricPlace; readonly upTo: HistoricPlace; readonly limit: number },
): Promise<EventRow[]> {
  return reader.all<EventRow>(
    `SELECT ${EVENT_COLUMNS} FROM events e
     WHERE e.room = ? AND e.position IS NULL AND e.status = 'timeline'
       AND (e.depth, e.id) > (?, ?) AND (e.depth, e.id) <= (?, ?)
     ORDER BY e.depth ${SORTED[dir]}, e.id ${SORTED[dir]} LIMIT ?`,
    room,
    range.after.depth,
    range.after.id,
    range.upTo.depth,
    range.upTo.id,
    range.limit,
  );
}

/** One event of a room's timeline, or one that is shown before it is part of it; not an outlier, not rejected, not soft-failed. */
export function timelineEvent(reader: Reader, room: number, eventId: string): Promise<EventRow | undefined> {
  return reader.get<EventRow>(
    `SELECT ${EVENT_COLUMNS}, NULL AS provisional FROM events e
     WHERE e.event_id = ? AND e.room = ? AND e.status = 'timeline'
     UNION ALL ${SHOWN_PROVISIONAL} WHERE p.event_id = ? AND p.room = ? AND p.position IS NOT NULL`,
    ...[eventId, room, eventId, room],
  );
}

/** Events of a room's timeline from a time on, in a direction of time; of those of one time, from one row on. */
export function eventsAround(
  reader: Reader,
  room: number,
  dir: Direction,
  from: { readonly time: number; readonly row: number; readonly limit: number },
): Promise<(EventRow & { readonly origin_server_ts: number })[]> {
  return reader.all(
    `SELECT ${EVENT_COLUMNS}, e.origin_server_ts FROM events e
     WHERE e.room = ? AND e.status = 'timeline' AND (e.origin_server_ts, e.id) ${BEYOND[dir]} (?, ?)
     ORDER BY e.origin_server_ts ${SORTED[dir]}, e.id ${SORTED[dir]} LIMIT ?`,
    ...[room, from.time, from.row, from.limit],
  );
}

/** The room of an event. */
export async function roomOfEvent(reader: Reader, eventId: string): Promise<string | undefined> {
  const row = await reader.get<{ room: string }>(
    'SELECT r.room_id AS room FROM events e JOIN rooms r ON r.id = e.room WHERE e.event_id = ?',
    eventId,
  );
  return row?.room;
}

/** One stored event. */
export function eventByRow(reader: Reader, row: number): Promise<EventRow | undefined> {
  return reader.get<EventRow>(`SELECT ${EVENT_COLUMNS} FROM events e WHERE e.id = ?`, row);
}

/** Stored events, in no particular order. */
export function eventsByRow(reader: Reader, rows: readonly number[]): Promise<EventRow[]> {
  return allIn<EventRow>(
    reader,
    rows,
    (list) => `SELECT ${EVENT_COLUMNS} FROM events e WHERE e.id IN (${list})`,
  );
}

export function eventById(reader: Reader, eventId: string): Promise<EventRow | undefined> {
  return reader.get<EventRow>(`SELECT ${EVENT_COLUMNS} FROM events e WHERE e.event_id = ?`, eventId);
}

/** Where members are not wanted, they are left out before their events are read. */
const OTHERS = { true: '', false: " JOIN places p ON p.id = h.place AND p.type <> 'm.room.member'" } as const;

/** What holds each place of the state that changed in `after` < position <= `upTo`, at `upTo`. */
export async function stateChanges(
  reader: Reader,
  room: number,
  range: { readonly after: number; readonly upTo: number; readonly members: boolean },
): Promise<EventRow[]> {
  return reader.all<EventRow>(
    `SELECT ${EVENT_COLUMNS}
     FROM (
       SELECT h.place, MAX(h.position) AS position FROM current_state_changes h${OTHERS[`${range.members}`]}
       WHERE h.room = ? AND h.position > ? AND h.position <= ? GROUP BY h.place
     ) l
     JOIN current_state_changes c ON c.room = ? AND c.position = l.position AND c.place = l.place
     JOIN events e ON e.id = c.event
     ORDER BY e.type, e.state_key`,
    room,
    range.after,
    range.upTo,
    room,
  );
}

/**
 * The event that held one place of the state at `upTo`, where that changed after `after`. The position is looked up
 * first, from current_state_changes_by_place alone: asked for all at once, SQLite walks the whole room's changes.
 */
export function stateEntry(
  reader: Reader,
  room: number,
  place: { readonly type: string; readonly key: string },
  range: { readonly after: number; readonly upTo: number },
): Promise<EventRow | undefined> {
  return reader.get<EventRow>(
    `SELECT ${EVENT_COLUMNS}
     FROM (
       SELECT room, place, MAX(position) AS position FROM current_state_changes
       WHERE room = ? AND place = (SELECT id FROM places WHERE type = ? AND state_key = ?) AND position <= ?
       GROUP BY room, place
     ) l
     JOIN current_state_changes c ON c.room = l.room AND c.position = l.position AND c.place = l.place
     JOIN events e ON e.id = c.event
     WHERE l.position > ?`,
    room,
    place.type,
    place.key,
    range.upTo,
    range.after,
  );
}

/** How a user's membership changed up to a position, oldest first; `json` null where the entry went away. */
export function membershipChanges(
  reader: Reader,
  room: number,
  user: string,
  upTo: number,
): Promise<{ readonly position: number; readonly json: string | null }[]> {
  return reader.all(
    `SELECT c.position, e.json FROM current_state_changes c LEFT JOIN events e ON e.id = c.event
     WHERE c.room = ? AND c.position <= ?
       AND c.place = (SELECT id FROM places WHERE type = 'm.room.member' AND state_key = ?)
     ORDER BY c.position`,
    room,
    upTo,
    user,
  );
}

/** One place of the state in a state group. */
export async function stateGroupEntry(
  reader: Reader,
  group: number,
  type: string,
  key: string,
): Promise<EventRow | undefined> {
  const place = await placeRow(reader, type, key);
  if (place === undefined) return undefined;
  const places = new Set([place]);
  for (let at: number | null = group; at !== null; ) {
    const layer = await layerEntries(reader, at, places);
    const event = layer.events.get(place);
    if (event !== undefined) return event === 0 ? undefined : eventByRow(reader, event);
    at = layer.parent;
  }
  return undefined;
}

/** The whole state in a state group, with or without the members. */
export async function stateGroupState(reader: Reader, group: number, members: boolean): Promise<EventRow[]> {
  const rows = [...(await stateOfGroup(reader, group)).values()];
  const events = await allIn<EventRow>(
    reader,
    rows,
    (list) =>
      `SELECT ${EVENT_COLUMNS} FROM events e
       WHERE e.id IN (${list})${members ? '' : " AND e.type <> 'm.room.member'"}`,
  );
  const byPlace = (a: EventRow, b: EventRow): number =>
    compareText(a.type, b.type) || compareText(a.state_key!, b.state_key!);
  return events.sort(byPlace);
}

const compareText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** How many members are joined and how many invited. */
export async function memberCounts(
  reader: Reader,
  roomId: string,
): Promise<{ readonly joined: number; readonly invited: number }> {
  const rows = await reader.all<{ membership: string; members: number }>(
    `SELECT membership, COUNT(*) AS members FROM memberships
     WHERE room = ? AND membership IN ('join', 'invite') GROUP BY membership`,
    roomId,
  );
  const count = (membership: string): number =>
    rows.find((row) => row.membership === membership)?.members ?? 0;
  return { joined: count('join'), invited: count('invite') };
}

/** The first members by the time at which they became so, apart from one; `present`: joined or invited, else gone. */
export async function firstMembers(
  reader: Reader,
  roomId: string,
  who: { readonly apartFrom: string; readonly present: boolean; readonly limit: number },
): Promise<string[]> {
  const [one, other] = who.present ? ['join', 'invite'] : ['leave', 'ban'];
  const rows = await reader.all<{ user_id: string }>(
    `SELECT user_id FROM memberships WHERE room = ? AND membership IN (?, ?) AND user_id <> ?
     ORDER BY position, user_id LIMIT ?`,
    roomId,
    one!,
    other!,
    who.apartFrom,
    who.limit,
  );
  return rows.map((row) => row.user_id);
}
