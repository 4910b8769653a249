import type { EventId, RoomId } from '../matrix/ids.ts';
import { type Pdu, prevEvents } from '../matrix/pdu.ts';
import type { Reader } from './database.ts';
import type { EventStatus } from './events.ts';

/** What an operator is told of a room. */
export interface RoomOverview {
  readonly room: RoomId;
  readonly version: string;
  readonly name: string | null;
  readonly joined: number;
  readonly servers: number;
  /** Events by what became of them. */
  readonly events: Readonly<Partial<Record<EventStatus, number>>>;
  readonly stateEntries: number;
  readonly stateGroups: number;
  /** Bytes that the packed historic state takes. */
  readonly stateBytes: number;
  readonly extremities: number;
  readonly greatestDepth: number;
}

/** The rooms that are known here, by id. */
export async function roomList(
  db: Reader,
): Promise<
  { readonly room: RoomId; readonly version: string; readonly joined: number; readonly events: number }[]
> {
  return db.all(
    `SELECT r.room_id AS room, r.version AS version,
       (SELECT COUNT(*) FROM memberships m WHERE m.room = r.room_id AND m.membership = 'join') AS joined,
       (SELECT COUNT(*) FROM events e WHERE e.room = r.id) AS events
     FROM rooms r ORDER BY r.room_id`,
  );
}

/** One room, or undefined where it is not known here. */
export async function roomOverview(db: Reader, room: RoomId): Promise<RoomOverview | undefined> {
  const found = await db.get<{ id: number; version: string }>(
    'SELECT id, version FROM rooms WHERE room_id = ?',
    room,
  );
  if (found === undefined) return undefined;
  const count = async (sql: string, of: string | number): Promise<number> =>
    (await db.get<{ n: number | null }>(sql, of))?.n ?? 0;
  const events = await db.all<{ status: EventStatus; n: number }>(
    'SELECT status, COUNT(*) AS n FROM events WHERE room = ? GROUP BY status ORDER BY status',
    found.id,
  );
  const name = await db.get<{ json: string }>(
    `SELECT e.json AS json FROM current_state c JOIN events e ON e.id = c.event
     WHERE c.room = ? AND e.type = 'm.room.name' AND e.state_key = ''`,
    found.id,
  );
  const text = name === undefined ? undefined : (JSON.parse(name.json) as Pdu).content.name;
  const joined = "FROM memberships WHERE room = ? AND membership = 'join'";
  return {
    room,
    version: found.version,
    name: typeof text === 'string' ? text : null,
    joined: await count(`SELECT COUNT(*) AS n ${joined}`, room),
    servers: await count(`SELECT COUNT(DISTINCT server_name) AS n ${joined}`, room),
    events: Object.fromEntries(events.map(({ status, n }) => [status, n])),
    stateEntries: await count('SELECT COUNT(*) AS n FROM current_state WHERE room = ?', found.id),
    stateGroups: await count('SELECT COUNT(*) AS n FROM state_groups WHERE room = ?', found.id),
    stateBytes: await count('SELECT SUM(LENGTH(entries)) AS n FROM state_groups WHERE room = ?', found.id),
    extremities: await count('SELECT COUNT(*) AS n FROM forward_extremities WHERE room = ?', found.id),
    greatestDepth: await count('SELECT MAX(depth) AS n FROM events WHERE room = ?', found.id),
  };
}

/** An event of the DAG, for its picture. */
export interface GraphEvent {
  readonly id: EventId;
  readonly type: string;
  readonly stateKey: string | null;
  readonly sender: string;
  readonly depth: number;
  readonly status: EventStatus;
  readonly isExtremity: boolean;
  readonly prev: readonly EventId[];
}

/** The last events of a room's DAG, those that were stored last first; outliers are no part of it. */
export async function lastOfGraph(db: Reader, room: RoomId, limit: number): Promise<GraphEvent[]> {
  const rows = await db.all<{
    id: EventId;
    type: string;
    stateKey: string | null;
    sender: string;
    depth: number;
    status: EventStatus;
    json: string;
    end: number | null;
  }>(
    `SELECT e.event_id AS id, e.type, e.state_key AS "stateKey", e.sender, e.depth, e.status, e.json, x.event AS "end"
     FROM events e JOIN rooms r ON r.id = e.room LEFT JOIN forward_extremities x ON x.room = r.id AND x.event = e.id
     WHERE r.room_id = ? AND e.state_after IS NOT NULL AND e.status <> 'outlier' ORDER BY e.depth DESC, e.id DESC LIMIT ?`,
    room,
    limit,
  );
  return rows.map(({ json, end, ...event }) => ({
    ...event,
    isExtremity: end !== null,
    prev: prevEvents(JSON.parse(json) as Pdu),
  }));
}
