import type { EventId, RoomId, UserId } from '../matrix/ids.ts';
import type { Relation } from '../matrix/relation.ts';
import type { Reader, Transaction } from './database.ts';
import { allIn } from './rows.ts';
import { type Direction, EVENT_COLUMNS, type EventRow } from './sync.ts';

/** Events that one answer is chosen from at most, and of one parent those that are told by their ids. */
const MAX_KIN = 10_000;
const MAX_REFERENCES = 100;
/** Edits that are tried where the last ones may not be seen. */
const MAX_EDITS = 10;

/** A place in a room's history, as sync/token.ts orders it: a delivered event's position, or 0, a depth and a row. */
export type Place = readonly [position: number, depth: number, row: number];

const PLACE =
  '(COALESCE(e.position, 0), CASE WHEN e.position IS NULL THEN e.depth ELSE 0 END, CASE WHEN e.position IS NULL THEN e.id ELSE 0 END)';
const SORTED = { b: 'DESC', f: 'ASC' } as const;
const byPlace = (dir: Direction): string =>
  `COALESCE(e.position, 0) ${SORTED[dir]}, e.depth ${SORTED[dir]}, e.id ${SORTED[dir]}`;

/** Notes what an event that is stored points at. */
export async function putRelation(
  tx: Transaction,
  event: { readonly row: number; readonly room: number },
  { parent, type }: Relation,
): Promise<void> {
  await tx.run(
    'INSERT INTO event_relations (event, room, parent, rel_type) VALUES (?, ?, ?, ?)',
    event.row,
    event.room,
    parent,
    type,
  );
}

/** A redacted event points at nothing. */
export async function dropRelation(tx: Transaction, event: EventId): Promise<void> {
  await tx.run('DELETE FROM event_relations WHERE event = (SELECT id FROM events WHERE event_id = ?)', event);
}

/** Whether somebody has annotated an event with a key, by an event of a type. */
export async function hasAnnotated(
  reader: Reader,
  room: RoomId,
  annotation: {
    readonly parent: EventId;
    readonly sender: UserId;
    readonly type: string;
    readonly key: string;
  },
): Promise<boolean> {
  const found = await reader.get(
    `SELECT 1 AS found FROM event_relations r JOIN events e ON e.id = r.event JOIN rooms o ON o.id = r.room
     WHERE r.parent = ? AND r.rel_type = 'm.annotation' AND o.room_id = ? AND e.sender = ? AND e.type = ?
       AND e.status = 'timeline' AND e.json ->> '$.content."m.relates_to".key' = ? LIMIT 1`,
    ...[annotation.parent, room, annotation.sender, annotation.type, annotation.key],
  );
  return found !== undefined;
}

export interface KinQuery {
  readonly parent: string;
  /** null: of any. What does not fit is not looked behind either. */
  readonly relType: string | null;
  readonly type: string | null;
  /** 1: children; 2: their children too; and so on. */
  readonly levels: number;
  readonly dir: Direction;
  /** `after` < place <= `upTo`. */
  readonly after: Place;
  readonly upTo: Place;
  readonly limit: number;
}

/** Events of a room that point at one of its events, or at such an event. */
export function kinOf(reader: Reader, room: number, query: KinQuery): Promise<EventRow[]> {
  const { relType, type } = query;
  const fits = `r.room = ? AND r.rel_type = COALESCE(?, r.rel_type) AND c.type = COALESCE(?, c.type)`;
  return reader.all<EventRow>(
    `WITH RECURSIVE kin (event, level) AS (
       SELECT r.event, 1 FROM event_relations r JOIN events c ON c.id = r.event WHERE r.parent = ? AND ${fits}
       UNION ALL
       SELECT r.event, k.level + 1 FROM kin k JOIN events p ON p.id = k.event
         JOIN event_relations r ON r.parent = p.event_id JOIN events c ON c.id = r.event
       WHERE k.level < ? AND ${fits}
       LIMIT ${MAX_KIN}
     )
     SELECT ${EVENT_COLUMNS} FROM events e
     WHERE e.id IN (SELECT event FROM kin) AND e.status = 'timeline' AND ${PLACE} > (?, ?, ?) AND ${PLACE} <= (?, ?, ?)
     ORDER BY ${byPlace(query.dir)} LIMIT ?`,
    ...[query.parent, room, relType, type, query.levels, room, relType, type],
    ...[...query.after, ...query.upTo, query.limit],
  );
}

/** Children that are shown, of parents in their own room. */
const CHILDREN = `FROM event_relations r JOIN events e ON e.id = r.event
  JOIN events p ON p.event_id = r.parent AND p.room = r.room WHERE e.status = 'timeline'`;

/** What one sender has added to a thread. */
export interface ThreadShare {
  readonly root: EventId;
  readonly sender: string;
  readonly events: number;
  /** The row of their last one, and where it is: of two texts the greater one is later. */
  readonly last: number;
  readonly place: string;
}

/** Who has written into the threads of some roots. */
export function threadShares(reader: Reader, roots: readonly string[]): Promise<ThreadShare[]> {
  return allIn<ThreadShare>(
    reader,
    roots,
    (list) =>
      `SELECT r.parent AS root, e.sender, COUNT(*) AS events, e.id AS last,
         MAX(printf('%015d %015d %015d', COALESCE(e.position, 0), e.depth, e.id)) AS place
       ${CHILDREN} AND r.parent IN (${list}) AND r.rel_type = 'm.thread'
       GROUP BY r.parent, e.sender`,
  );
}

/** An edit that counts must be of the same sender and type, bring a content, and not be one of an edit. */
const VALID_EDITS = `${CHILDREN} AND r.rel_type = 'm.replace' AND e.sender = p.sender AND e.type = p.type
    AND e.state_key IS NULL AND p.state_key IS NULL AND p.redacted_by IS NULL
    AND (e.type = 'm.room.encrypted' OR json_type(e.json, '$.content."m.new_content"') = 'object')
    AND NOT EXISTS (SELECT 1 FROM event_relations x WHERE x.event = p.id AND x.rel_type = 'm.replace')`;

/** The rows of the last edits of some events, by event id. */
export async function lastEdits(reader: Reader, events: readonly string[]): Promise<Map<string, number>> {
  const rows = await allIn<{ readonly parent: string; readonly edit: number }>(
    reader,
    events,
    (list) =>
      `SELECT r.parent, e.id AS edit, MAX(printf('%020d %s', e.origin_server_ts, e.event_id))
       ${VALID_EDITS} AND r.parent IN (${list}) GROUP BY r.parent`,
  );
  return new Map(rows.map(({ parent, edit }) => [parent, edit]));
}

/** The last edits of one event, the last first. */
export function editsOf(reader: Reader, event: string): Promise<EventRow[]> {
  return reader.all<EventRow>(
    `SELECT ${EVENT_COLUMNS} ${VALID_EDITS} AND r.parent = ?
     ORDER BY e.origin_server_ts DESC, e.event_id DESC LIMIT ${MAX_EDITS}`,
    event,
  );
}

/** The first events that refer to each of some events. */
export function references(
  reader: Reader,
  events: readonly string[],
): Promise<(EventRow & { readonly parent: string })[]> {
  return allIn(
    reader,
    events,
    (list) =>
      `SELECT * FROM (
         SELECT r.parent, ${EVENT_COLUMNS}, ROW_NUMBER() OVER (PARTITION BY r.parent ORDER BY e.id) AS nth
         ${CHILDREN} AND r.parent IN (${list}) AND r.rel_type = 'm.reference'
       ) WHERE nth <= ${MAX_REFERENCES} ORDER BY parent, nth`,
  );
}

/** Events that are the last of their threads, the latest first, with the roots of these, as far as they are known here. */
export function lastInThreads(
  reader: Reader,
  room: number,
  range: { readonly upTo: Place; readonly limit: number; readonly apartFrom: readonly string[] },
): Promise<(EventRow & { readonly root: string })[]> {
  const later = (one: string, other: string): string =>
    `(COALESCE(${one}.position, 0), ${one}.depth, ${one}.id) > (COALESCE(${other}.position, 0), ${other}.depth, ${other}.id)`;
  return reader.all(
    `SELECT r.parent AS root, ${EVENT_COLUMNS}
     FROM event_relations r JOIN events e ON e.id = r.event JOIN events o ON o.event_id = r.parent AND o.room = r.room
     WHERE r.room = ? AND r.rel_type = 'm.thread' AND e.status = 'timeline' AND o.status = 'timeline'
       AND e.sender NOT IN (SELECT value FROM json_each(?)) AND ${PLACE} <= (?, ?, ?)
       AND NOT EXISTS (
         SELECT 1 FROM event_relations l JOIN events n ON n.id = l.event
         WHERE l.parent = r.parent AND l.rel_type = 'm.thread' AND l.room = r.room AND n.status = 'timeline'
           AND n.sender NOT IN (SELECT value FROM json_each(?)) AND ${later('n', 'e')}
       )
     ORDER BY ${byPlace('b')} LIMIT ?`,
    ...[room, JSON.stringify(range.apartFrom), ...range.upTo, JSON.stringify(range.apartFrom), range.limit],
  );
}
