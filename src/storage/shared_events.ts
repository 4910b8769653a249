import type { EventId, RoomId, ServerName } from '../matrix/ids.ts';
import type { Reader } from './database.ts';
import { allIn } from './rows.ts';

// What two servers both know of a room, for the short form of events between them.

/** How many of a room's deepest events are looked at for the last one of a server. */
const MAX_LOOKED_AT = 64;

/** Which of the events wait in the queue of a destination. */
export async function queuedAmong(
  db: Reader,
  destination: ServerName,
  ids: readonly EventId[],
): Promise<Set<EventId>> {
  const rows = await allIn<{ id: string; destination: string }>(
    db,
    ids,
    (list) => `SELECT event_id AS id, destination FROM outbox WHERE event_id IN (${list})`,
  );
  return new Set(rows.flatMap((row) => (row.destination === destination ? [row.id as EventId] : [])));
}

/** An event of a server among the deepest of a room. */
export interface SentEvent {
  readonly id: EventId;
  readonly sender: string;
}

/** The events of a server's users among the deepest of a room, the deepest first. */
export async function lastEventsOf(db: Reader, room: RoomId, server: ServerName): Promise<SentEvent[]> {
  return db.all<SentEvent>(
    `SELECT id, sender FROM (
       SELECT e.event_id AS id, e.sender AS sender, e.depth AS depth FROM events e
       WHERE e.room = (SELECT id FROM rooms WHERE room_id = ?) ORDER BY e.depth DESC LIMIT ?
     ) WHERE substr(sender, instr(sender, ':') + 1) = ? ORDER BY depth DESC, id`,
    room,
    MAX_LOOKED_AT,
    server,
  );
}
