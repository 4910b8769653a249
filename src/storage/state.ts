import type { EventId } from '../matrix/ids.ts';
import type { StateKey, StateMap } from '../matrix/pdu.ts';
import { splitStateKey, stateKey } from '../matrix/pdu.ts';
import type { Reader, Transaction } from './database.ts';

interface Entry {
  readonly type: string;
  readonly state_key: string;
  readonly event_id: string;
}

/** The whole state that a group stands for, and how many parents it took to put it together. */
export async function stateOfGroup(db: Reader, group: number): Promise<{ map: StateMap; hops: number }> {
  const rows = await db.all<Entry>(
    `WITH RECURSIVE chain (id, parent, distance) AS (
       SELECT id, parent, 0 FROM state_groups WHERE id = ?
       UNION ALL
       SELECT g.id, g.parent, chain.distance + 1 FROM chain JOIN state_groups g ON g.id = chain.parent
     )
     SELECT s.type AS type, s.state_key AS state_key, e.event_id AS event_id
     FROM chain JOIN state_group_entries s ON s.state_group = chain.id JOIN events e ON e.id = s.event
     ORDER BY chain.distance DESC, s.type, s.state_key`,
    group,
  );
  const map = new Map<StateKey, EventId>();
  for (const row of rows) map.set(stateKey(row.type, row.state_key), row.event_id as EventId);
  const { hops } = (await db.get<{ hops: number }>('SELECT hops FROM state_groups WHERE id = ?', group))!;
  return { map, hops };
}

/**
 * Stores a group: `entries` laid over `parent`, or complete where that is null.
 * @returns the group's id
 */
export async function putGroup(
  tx: Transaction,
  room: number,
  group: { readonly parent: number | null; readonly hops: number; readonly entries: StateMap },
): Promise<number> {
  const { id } = (await tx.get<{ id: number }>(
    'INSERT INTO state_groups (room, parent, hops) VALUES (?, ?, ?) RETURNING id',
    room,
    group.parent,
    group.hops,
  ))!;
  for (const [key, event] of group.entries) {
    const { type, key: state } = splitStateKey(key);
    await tx.run(
      `INSERT INTO state_group_entries (state_group, type, state_key, event)
       SELECT ?, ?, ?, id FROM events WHERE event_id = ?`,
      id,
      type,
      state,
      event,
    );
  }
  return id;
}

/** Changes current_state, and records the change at a delivery position. Undefined: the entry goes away. */
export async function changeCurrentState(
  tx: Transaction,
  room: number,
  position: number,
  changes: ReadonlyMap<StateKey, EventId | undefined>,
): Promise<void> {
  for (const [place, event] of changes) {
    const { type, key } = splitStateKey(place);
    if (event === undefined) {
      await tx.run(
        'DELETE FROM current_state WHERE room = ? AND type = ? AND state_key = ?',
        room,
        type,
        key,
      );
    } else {
      await tx.run(
        `INSERT INTO current_state (room, type, state_key, event) SELECT ?, ?, ?, id FROM events WHERE event_id = ?
         ON CONFLICT (room, type, state_key) DO UPDATE SET event = excluded.event`,
        room,
        type,
        key,
        event,
      );
    }
    await tx.run(
      `INSERT INTO current_state_changes (room, position, type, state_key, event)
       VALUES (?, ?, ?, ?, (SELECT id FROM events WHERE event_id = ?))`,
      room,
      position,
      type,
      key,
      event ?? null,
    );
  }
}

/** The events that hold places of one type at a delivery position, by what current_state was then. */
export async function stateOfTypeAt(
  db: Reader,
  room: number,
  type: string,
  position: number,
): Promise<EventId[]> {
  const rows = await db.all<{ id: string }>(
    `SELECT e.event_id AS id FROM current_state_changes c JOIN events e ON e.id = c.event
     WHERE c.room = ? AND c.type = ? AND c.position = (
       SELECT MAX(position) FROM current_state_changes
       WHERE room = c.room AND type = c.type AND state_key = c.state_key AND position <= ?
     ) ORDER BY c.state_key`,
    room,
    type,
    position,
  );
  return rows.map((row) => row.id as EventId);
}
