import { assert } from '../base/assert.ts';
import type { EventId, RoomId } from '../matrix/ids.ts';
import { parseJson } from '../matrix/json.ts';
import type { Event, Pdu, StateKey } from '../matrix/pdu.ts';
import { splitStateKey, stateKey } from '../matrix/pdu.ts';
import type { Reader, Transaction } from './database.ts';
import { layersToMerge, mergeLayers, packLayer, visitLayer } from './packed_state.ts';
import { allIn } from './rows.ts';

/** What changes in a state; undefined: the place gets empty. */
export type StateChanges = ReadonlyMap<StateKey, EventId | undefined>;

interface LayerRow {
  readonly id: number;
  readonly size: number;
}

/** A group and those below it, the nearest first, without their entries. */
function chainOf(db: Reader, group: number): Promise<LayerRow[]> {
  return db.all<LayerRow>(
    `WITH RECURSIVE chain (id, parent, size, distance) AS (
       SELECT id, parent, size, 0 FROM state_groups WHERE id = ?
       UNION ALL
       SELECT g.id, g.parent, g.size, chain.distance + 1 FROM chain JOIN state_groups g ON g.id = chain.parent
     )
     SELECT id, size FROM chain ORDER BY distance`,
    group,
  );
}

async function entriesOf(db: Reader, group: number): Promise<Uint8Array> {
  return (await db.get<{ entries: Uint8Array }>('SELECT entries FROM state_groups WHERE id = ?', group))!
    .entries;
}

/** The whole state that a group stands for: rows of events by rows of places. */
export async function stateOfGroup(db: Reader, group: number): Promise<Map<number, number>> {
  const chain = await chainOf(db, group);
  assert(chain.length > 0, 'a state group that is named is stored');
  const layers: Uint8Array[] = [];
  for (const { id } of chain) layers.push(await entriesOf(db, id));
  return mergeLayers(layers, true);
}

/** A group alone: what it lays over its parent at some places, by their rows; 0: it empties the place. */
export async function layerEntries(
  db: Reader,
  group: number,
  places: ReadonlySet<number>,
): Promise<{ readonly parent: number | null; readonly events: ReadonlyMap<number, number> }> {
  const row = await db.get<{ parent: number | null; entries: Uint8Array }>(
    'SELECT parent, entries FROM state_groups WHERE id = ?',
    group,
  );
  assert(row !== undefined, 'a state group that is named is stored');
  const events = new Map<number, number>();
  visitLayer(row.entries, (place, event) => {
    if (places.has(place)) events.set(place, event);
    return events.size === places.size;
  });
  return { parent: row.parent, events };
}

/** The row of a place; undefined where no room's state ever had it. */
export async function placeRow(db: Reader, type: string, key: string): Promise<number | undefined> {
  const row = await db.get<{ id: number }>(
    'SELECT id FROM places WHERE type = ? AND state_key = ?',
    type,
    key,
  );
  return row?.id;
}

/** Places by their rows. */
export async function placesByRow(db: Reader, rows: readonly number[]): Promise<Map<number, StateKey>> {
  const found = await allIn<{ id: number; type: string; state_key: string }>(
    db,
    rows,
    (list) => `SELECT id, type, state_key FROM places WHERE id IN (${list})`,
  );
  return new Map(found.map((row) => [row.id, stateKey(row.type, row.state_key)]));
}

/** Ids of events by their rows. */
export async function eventIdsByRow(db: Reader, rows: readonly number[]): Promise<Map<number, EventId>> {
  const found = await allIn<{ id: number; event_id: string }>(
    db,
    rows,
    (list) => `SELECT id, event_id FROM events WHERE id IN (${list})`,
  );
  return new Map(found.map((row) => [row.id, row.event_id as EventId]));
}

/** The row of a place, which is made where it is new. */
async function ensurePlace(tx: Transaction, place: StateKey): Promise<number> {
  const { type, key } = splitStateKey(place);
  const known = await placeRow(tx, type, key);
  if (known !== undefined) return known;
  return (await tx.get<{ id: number }>(
    'INSERT INTO places (type, state_key) VALUES (?, ?) RETURNING id',
    type,
    key,
  ))!.id;
}

async function eventRow(tx: Transaction, id: EventId): Promise<number> {
  const row = await tx.get<{ id: number }>('SELECT id FROM events WHERE event_id = ?', id);
  assert(row !== undefined, 'an event of a state is stored before the state is');
  return row.id;
}

/**
 * Stores a group: `changes` laid over `parent`, or complete where that is null.
 * @returns the group's id
 */
export async function putGroup(
  tx: Transaction,
  room: number,
  group: { readonly parent: number | null; readonly changes: StateChanges },
): Promise<number> {
  const changes = new Map<number, number>();
  for (const [place, event] of group.changes)
    changes.set(await ensurePlace(tx, place), event === undefined ? 0 : await eventRow(tx, event));
  return putLayer(tx, room, { parent: group.parent, changes });
}

/** `putGroup`, by rows. */
export async function putLayer(
  tx: Transaction,
  room: number,
  group: { readonly parent: number | null; readonly changes: ReadonlyMap<number, number> },
): Promise<number> {
  const chain = group.parent === null ? [] : await chainOf(tx, group.parent);
  assert(group.parent === null || chain.length > 0, 'the parent of a state group is stored');
  const merged = layersToMerge(group.changes.size, chain);
  const parent = chain[merged]?.id ?? null;
  const layers = [packLayer(group.changes)];
  for (const { id } of chain.slice(0, merged)) layers.push(await entriesOf(tx, id));
  const entries = mergeLayers(layers, parent === null);
  return (await tx.get<{ id: number }>(
    'INSERT INTO state_groups (room, parent, size, entries) VALUES (?, ?, ?, ?) RETURNING id',
    room,
    parent,
    entries.size,
    packLayer(entries),
  ))!.id;
}

/** Changes current_state, and records the change at a delivery position. */
export async function changeCurrentState(
  tx: Transaction,
  room: number,
  position: number,
  changes: StateChanges,
): Promise<void> {
  for (const [key, id] of changes) {
    const place = await ensurePlace(tx, key);
    const event = id === undefined ? null : await eventRow(tx, id);
    if (event === null) {
      await tx.run('DELETE FROM current_state WHERE room = ? AND place = ?', room, place);
    } else {
      await tx.run(
        `INSERT INTO current_state (room, place, event) VALUES (?, ?, ?)
         ON CONFLICT (room, place) DO UPDATE SET event = excluded.event`,
        room,
        place,
        event,
      );
    }
    await tx.run(
      'INSERT INTO current_state_changes (room, position, place, event) VALUES (?, ?, ?, ?)',
      room,
      position,
      place,
      event,
    );
  }
}

/** The event that holds a place of a room's current state, as it is stored; undefined: none does. */
export async function currentStateEvent(
  db: Reader,
  room: RoomId,
  type: string,
  key: string,
): Promise<Event | undefined> {
  const row = await db.get<{ id: EventId; json: string }>(
    `SELECT e.event_id AS id, e.json FROM current_state c
       JOIN rooms r ON r.id = c.room JOIN places p ON p.id = c.place JOIN events e ON e.id = c.event
     WHERE r.room_id = ? AND p.type = ? AND p.state_key = ?`,
    ...[room, type, key],
  );
  return row && { id: row.id, room, pdu: parseJson(row.json) as unknown as Pdu };
}

/** The events that hold places of one type at a delivery position, by what current_state was then. */
export async function stateOfTypeAt(
  db: Reader,
  room: number,
  type: string,
  position: number,
): Promise<EventId[]> {
  const rows = await db.all<{ id: string }>(
    `SELECT e.event_id AS id
     FROM current_state_changes c JOIN places p ON p.id = c.place JOIN events e ON e.id = c.event
     WHERE c.room = ? AND p.type = ? AND c.position = (
       SELECT MAX(position) FROM current_state_changes
       WHERE room = c.room AND place = c.place AND position <= ?
     ) ORDER BY p.state_key`,
    room,
    type,
    position,
  );
  return rows.map((row) => row.id as EventId);
}
