import type { EventId, RoomId, UserId } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

/** A room that this server has or had a copy of. */
export interface RoomRow {
  readonly row: number;
  readonly version: string;
  /** The state group that current_state holds. */
  readonly currentGroup: number | null;
  /** The depth of the join with which this server last came in through another server; 0: it made the room. */
  readonly joinedDepth: number;
}

export interface ExtremityRow {
  readonly id: EventId;
  readonly depth: number;
  readonly sender: UserId;
  readonly stateAfter: number;
}

export async function findRoom(db: Reader, room: RoomId): Promise<RoomRow | undefined> {
  return db.get<RoomRow>(
    'SELECT id AS row, version, current_group AS "currentGroup", joined_depth AS "joinedDepth" FROM rooms WHERE room_id = ?',
    room,
  );
}

/** Records a room, once. Answers its row. */
export async function ensureRoom(tx: Transaction, room: RoomId, version: string): Promise<number> {
  await tx.run(
    'INSERT INTO rooms (room_id, version) VALUES (?, ?) ON CONFLICT (room_id) DO NOTHING',
    room,
    version,
  );
  return (await findRoom(tx, room))!.row;
}

/** Records what holds in a room now. */
export async function placeRoom(
  tx: Transaction,
  room: number,
  place: { readonly currentGroup: number; readonly joinedDepth: number },
): Promise<void> {
  await tx.run(
    'UPDATE rooms SET current_group = ?, joined_depth = ? WHERE id = ?',
    place.currentGroup,
    place.joinedDepth,
    room,
  );
}

/** A room's forward extremities, in the order in which they were stored. */
export async function forwardExtremities(db: Reader, room: number): Promise<ExtremityRow[]> {
  return db.all<ExtremityRow>(
    `SELECT e.event_id AS id, e.depth AS depth, e.sender AS sender, e.state_after AS "stateAfter"
     FROM forward_extremities x JOIN events e ON e.id = x.event
     WHERE x.room = ? ORDER BY x.event`,
    room,
  );
}

/** Adds and removes forward extremities. */
export async function changeExtremities(
  tx: Transaction,
  room: number,
  change: { readonly added: Iterable<EventId>; readonly removed: Iterable<EventId> },
): Promise<void> {
  for (const id of change.removed) {
    await tx.run(
      'DELETE FROM forward_extremities WHERE room = ? AND event = (SELECT id FROM events WHERE event_id = ?)',
      room,
      id,
    );
  }
  for (const id of change.added) {
    await tx.run(
      'INSERT INTO forward_extremities (room, event) SELECT ?, id FROM events WHERE event_id = ?',
      room,
      id,
    );
  }
}
