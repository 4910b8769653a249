import { type EventId, parseEventId, type RoomId } from '../matrix/ids.ts';
import { own, parseJson } from '../matrix/json.ts';
import { type Pdu, prevEvents } from '../matrix/pdu.ts';
import type { Reader, Transaction } from './database.ts';
import { visitLayer } from './packed_state.ts';
import { PurgeError, type PurgePoint } from './purge.ts';
import { allIn } from './rows.ts';

/*
 * The steps of a purge beside a server that runs. Each is one short transaction, after which everything fits together; what
 * they leave is what `purgeRoom` leaves. First the timeline up to the point goes, where it is no state; what is state stays
 * as a mere state or auth event. Then go the changes of the current state that nobody can ask for any more, the states that no
 * event has, and last the state events that no state has.
 */

/** The parts of a purge, in their order. */
export type PurgeStage = 'timeline' | 'changes' | 'groups' | 'events' | 'done';

/** A purge as it is stored. */
export interface RoomPurge {
  readonly room: number;
  readonly roomId: RoomId;
  readonly position: number;
  readonly depth: number;
  readonly lastRow: number;
  readonly stage: PurgeStage;
  readonly done: number;
  readonly removed: number;
  readonly groups: number;
}

/** What one step has done. */
export interface PurgeStep {
  /** Where the next begins; undefined: the stage is over. */
  readonly done: number | undefined;
  readonly removed: readonly EventId[];
  /** Events that are mere state or auth events from now on. */
  readonly changed: readonly EventId[];
}

/** Rows that one step changes at most, and that it looks at among those of other rooms. */
const STEP = 250;
const MAX_LOOK = 20_000;
/** Rows that are read at once to find out what stays. */
const PAGE = 500;

const PURGES = `SELECT p.room, r.room_id AS "roomId", p.position, p.depth, p.last_row AS "lastRow", p.stage, p.done, p.removed, p.groups
  FROM purges p JOIN rooms r ON r.id = p.room`;

/** Has a server that runs purge a room. @throws PurgeError where the room or the point is not known, or one is under way */
export async function askForPurge(tx: Transaction, roomId: RoomId, before: PurgePoint): Promise<void> {
  const room = await tx.get<{ id: number }>('SELECT id FROM rooms WHERE room_id = ?', roomId);
  if (room === undefined) throw new PurgeError(`There is no room ${roomId} here.`);
  const columns = 'SELECT position, depth FROM events WHERE room = ? AND position IS NOT NULL';
  const cut =
    'event' in before
      ? await tx.get<{ position: number; depth: number }>(
          `${columns} AND event_id = ?`,
          room.id,
          before.event,
        )
      : await tx.get<{ position: number; depth: number }>(
          `${columns} AND origin_server_ts >= ? ORDER BY position LIMIT 1`,
          room.id,
          before.sentFrom,
        );
  if (cut === undefined)
    throw new PurgeError(
      'event' in before
        ? `${before.event} is no event of the room's timeline.`
        : 'The room has no event from then on, so that all of it would go.',
    );
  if (((await purgeOf(tx, roomId))?.stage ?? 'done') !== 'done')
    throw new PurgeError('A purge of that room is under way.');
  await tx.run(
    `INSERT OR REPLACE INTO purges (room, position, depth, last_row, stage, done, removed, groups)
     VALUES (?, ?, ?, (SELECT MAX(id) FROM events), 'timeline', 0, 0, 0)`,
    room.id,
    cut.position,
    cut.depth,
  );
}

export function purgeOf(db: Reader, room: RoomId): Promise<RoomPurge | undefined> {
  return db.get<RoomPurge>(`${PURGES} WHERE r.room_id = ?`, room);
}

/** A purge that is not done. */
export function nextPurge(db: Reader): Promise<RoomPurge | undefined> {
  return db.get<RoomPurge>(`${PURGES} WHERE p.stage <> 'done' ORDER BY p.room LIMIT 1`);
}

/** Ends a purge where it is: what has gone is gone, the rest stays. @returns whether there was one under way */
export async function endPurge(tx: Transaction, room: RoomId): Promise<boolean> {
  const sql = "DELETE FROM purges WHERE stage <> 'done' AND room = (SELECT id FROM rooms WHERE room_id = ?)";
  return (await tx.run(sql, room)) > 0;
}

/** Notes how far a purge has come. */
export async function notePurge(
  tx: Transaction,
  { room }: RoomPurge,
  to: {
    readonly stage: PurgeStage;
    readonly done: number;
    readonly removed: number;
    readonly groups: number;
  },
): Promise<void> {
  await tx.run(
    'UPDATE purges SET stage = ?, done = ?, removed = removed + ?, groups = groups + ? WHERE room = ?',
    ...[to.stage, to.done, to.removed, to.groups, room],
  );
}

interface LeavingRow {
  readonly id: number;
  readonly event_id: EventId;
  readonly state_key: string | null;
  readonly json: string;
  readonly departed: number;
}

/** Takes out of the timeline what is before the point, of the rows from `purge.done` on. */
export async function purgeTimeline(tx: Transaction, purge: RoomPurge): Promise<PurgeStep> {
  const { room, position, depth, done, lastRow } = purge;
  // What comes of it once more is late: it is no end of the room.
  if (done === 0)
    await tx.run('UPDATE rooms SET joined_depth = MAX(joined_depth, ?) WHERE id = ?', depth, room);
  const end = Math.min(done + MAX_LOOK, lastRow);
  // Who has left may still see the state as it was then.
  const leaving = await tx.all<LeavingRow>(
    `SELECT e.id, e.event_id, e.state_key, e.json, EXISTS (
       SELECT 1 FROM memberships m JOIN users u ON u.user_id = m.user_id
       WHERE m.room = ? AND m.event_id = e.event_id AND m.membership IN ('leave', 'ban') AND m.user_id = e.state_key
     ) AS departed
     FROM events e NOT INDEXED WHERE e.id > ? AND e.id <= ? AND e.room = ?
       AND (e.position < ? OR (e.position IS NULL AND e.depth < ?))
       AND NOT EXISTS (SELECT 1 FROM forward_extremities x WHERE x.room = e.room AND x.event = e.id)
     ORDER BY e.id LIMIT ?`,
    ...[purge.roomId, done, end, room, position, depth, STEP],
  );
  const removed = leaving.filter((event) => event.state_key === null);
  const changed = leaving.filter((event) => event.state_key !== null);
  for (const event of removed) await removeEvent(tx, event);
  for (const { id, departed, json } of changed) {
    await tx.run(
      `UPDATE events SET position = NULL, status = CASE status WHEN 'rejected' THEN 'rejected' ELSE 'outlier' END,
         state_before = CASE WHEN ? THEN state_before END, state_after = CASE WHEN ? THEN state_after END WHERE id = ?`,
      ...[departed, departed, id],
    );
    // Nobody asks what a mere state event follows on.
    for (const prev of new Set(prevEvents(parseJson(json) as unknown as Pdu)))
      await tx.run('DELETE FROM unknown_prev WHERE prev = ? AND event = ?', prev, id);
  }
  return {
    done: leaving.length === STEP ? leaving.at(-1)!.id : end < lastRow ? end : undefined,
    removed: removed.map((event) => event.event_id),
    changed: changed.map((event) => event.event_id),
  };
}

/** Removes an event, with its edges; those that come after it then follow on one that is not known here. */
async function removeEvent(
  tx: Transaction,
  { id, event_id: eventId, json }: Pick<LeavingRow, 'id' | 'event_id' | 'json'>,
): Promise<void> {
  const pdu = parseJson(json) as unknown as Pdu;
  await tx.run(
    `INSERT OR IGNORE INTO unknown_prev (prev, event)
     SELECT ?, p.event FROM event_prev p JOIN events e ON e.id = p.event WHERE p.prev = ? AND e.status <> 'outlier'`,
    ...[eventId, id],
  );
  await tx.run('DELETE FROM event_prev WHERE prev = ?', id);
  for (const prev of new Set(prevEvents(pdu))) {
    await tx.run(
      'DELETE FROM event_prev WHERE prev = (SELECT id FROM events WHERE event_id = ?) AND event = ?',
      prev,
      id,
    );
    await tx.run('DELETE FROM unknown_prev WHERE prev = ? AND event = ?', prev, id);
  }
  await tx.run('DELETE FROM backward_extremities WHERE event = ?', id);
  await tx.run('DELETE FROM event_auth WHERE event = ?', id);
  for (const redacts of [pdu.redacts, own(pdu.content, 'redacts')]) {
    if (typeof redacts === 'string' && parseEventId(redacts).ok)
      await tx.run('DELETE FROM redactions WHERE redacts = ? AND redaction = ?', redacts, id);
  }
  await tx.run('DELETE FROM events WHERE id = ?', id);
}

/** Of what current_state was before the point, only how it ended up stays, and how those who left came and went. */
export async function purgeChanges(tx: Transaction, purge: RoomPurge): Promise<PurgeStep> {
  const { room, position, done } = purge;
  const rows = await tx.all<{ position: number; place: number }>(
    `SELECT c.position, c.place FROM current_state_changes c
     WHERE c.room = ? AND c.position > ? AND c.position < (
       SELECT MAX(l.position) FROM current_state_changes l
       WHERE l.room = c.room AND l.place = c.place AND l.position < ?
     ) AND NOT EXISTS (
       SELECT 1 FROM places p JOIN memberships m ON m.room = ? AND m.user_id = p.state_key
       WHERE p.id = c.place AND p.type = 'm.room.member' AND m.membership <> 'join'
     ) ORDER BY c.position LIMIT ?`,
    ...[room, done, position, purge.roomId, STEP],
  );
  for (const row of rows) {
    await tx.run(
      'DELETE FROM current_state_changes WHERE room = ? AND position = ? AND place = ?',
      ...[room, row.position, row.place],
    );
  }
  const last = rows.length < STEP ? undefined : rows.at(-1)!.position;
  // One position may have more.
  return { done: last === undefined ? undefined : last - 1, removed: [], changed: [] };
}

/**
 * The state groups of a room that neither an event of it nor its current state has, nor one of these lies over.
 * @param turn awaited between the pages that are read
 */
export async function unusedGroups(
  db: Reader,
  { room }: RoomPurge,
  turn: () => Promise<void>,
): Promise<readonly number[]> {
  const used = new Set<number>();
  const current = await db.get<{ id: number | null }>(
    'SELECT current_group AS id FROM rooms WHERE id = ?',
    room,
  );
  if (current?.id != null) used.add(current.id);
  await pages<{ id: number; before: number | null; after: number | null }>(
    (after) =>
      db.all(
        `SELECT id, state_before AS "before", state_after AS "after" FROM events NOT INDEXED
         WHERE room = ? AND id > ? ORDER BY id LIMIT ?`,
        ...[room, after, PAGE],
      ),
    turn,
    ({ before, after }) => {
      if (before !== null) used.add(before);
      if (after !== null) used.add(after);
    },
  );
  const parents = new Map<number, number | null>();
  await pages<{ id: number; parent: number | null }>(
    (after) =>
      db.all(
        'SELECT id, parent FROM state_groups WHERE room = ? AND id > ? ORDER BY id LIMIT ?',
        ...[room, after, PAGE],
      ),
    turn,
    ({ id, parent }) => parents.set(id, parent),
  );
  for (const id of [...used]) {
    for (let parent = parents.get(id); parent != null && !used.has(parent); parent = parents.get(parent))
      used.add(parent);
  }
  return [...parents.keys()].filter((id) => !used.has(id));
}

export async function removeGroups(tx: Transaction, groups: readonly number[]): Promise<void> {
  for (const id of groups) await tx.run('DELETE FROM state_groups WHERE id = ?', id);
}

/** What is needed of a room's state events, as far as it has been found out. */
export class NeededEvents {
  readonly #db: Reader;
  readonly #purge: RoomPurge;
  readonly #needed = new Set<number>();
  #lastEvent = 0;
  #lastGroup = 0;

  constructor(db: Reader, purge: RoomPurge) {
    this.#db = db;
    this.#purge = purge;
  }

  has(row: number): boolean {
    return this.#needed.has(row);
  }

  /** Takes in what is new: states, and what events of the timeline are authorised by. `db` may be a transaction. */
  async extend(turn: () => Promise<void>, db: Reader = this.#db): Promise<void> {
    const { room, roomId, depth, lastRow } = this.#purge;
    const found: number[] = [];
    const first = this.#lastGroup === 0;
    await pages<{ id: number; entries: Uint8Array }>(
      (after) =>
        db.all(
          'SELECT id, entries FROM state_groups WHERE room = ? AND id > ? ORDER BY id LIMIT ?',
          ...[room, after, PAGE / 10],
        ),
      turn,
      ({ id, entries }) => {
        this.#lastGroup = id;
        visitLayer(entries, (_, event) => {
          if (event !== 0) found.push(event);
          return false;
        });
      },
      this.#lastGroup,
    );
    await pages<{ id: number; json: string }>(
      (after) =>
        db.all(
          `SELECT id, CASE WHEN position IS NULL AND depth < ? AND state_after IS NULL AND id <= ? THEN '[]'
             ELSE json_extract(json, '$.auth_events') END AS json
           FROM events NOT INDEXED WHERE room = ? AND id > ? ORDER BY id LIMIT ?`,
          ...[depth, lastRow, room, after, PAGE],
        ),
      turn,
      async ({ id, json }) => {
        this.#lastEvent = id;
        const ids = (JSON.parse(json) as (EventId | [EventId])[]).map((one) =>
          Array.isArray(one) ? one[0] : one,
        );
        const rows = await allIn<{ id: number }>(
          db,
          ids,
          (list) => `SELECT id FROM events WHERE event_id IN (${list})`,
        );
        found.push(...rows.map((row) => row.id));
      },
      this.#lastEvent,
    );
    if (first) {
      const rows = await db.all<{ id: number }>(
        `SELECT event AS id FROM current_state_changes WHERE room = ? AND event IS NOT NULL
         UNION SELECT event FROM current_state WHERE room = ? UNION SELECT event FROM forward_extremities WHERE room = ?
         UNION SELECT e.id FROM memberships m JOIN events e ON e.event_id = m.event_id WHERE m.room = ?`,
        ...[room, room, room, roomId],
      );
      found.push(...rows.map((row) => row.id));
    }
    await this.#addWithChains(db, found, turn);
  }

  async #addWithChains(db: Reader, events: readonly number[], turn: () => Promise<void>): Promise<void> {
    let next = [...new Set(events)].filter((row) => !this.#needed.has(row));
    while (next.length > 0) {
      for (const row of next) this.#needed.add(row);
      const behind = new Set<number>();
      for (let at = 0; at < next.length; at += PAGE) {
        const edges = await allIn<{ auth: number }>(
          db,
          next.slice(at, at + PAGE),
          (list) => `SELECT DISTINCT auth FROM event_auth WHERE event IN (${list})`,
        );
        for (const { auth } of edges) if (!this.#needed.has(auth)) behind.add(auth);
        await turn();
      }
      next = [...behind];
    }
  }
}

/**
 * Removes the state events that nothing needs, the newest first, so that each goes after what it authorises: of the rows up
 * to `purge.done`, or all where that is 0.
 */
export async function purgeEvents(
  tx: Transaction,
  purge: RoomPurge,
  needed: NeededEvents,
): Promise<PurgeStep> {
  const { room, depth, done, lastRow } = purge;
  await needed.extend(async () => undefined, tx);
  const end = done === 0 ? lastRow : done;
  const start = Math.max(0, end - MAX_LOOK);
  const candidates = await tx.all<Pick<LeavingRow, 'id' | 'event_id' | 'json'>>(
    `SELECT e.id, e.event_id, e.json FROM events e NOT INDEXED WHERE e.id > ? AND e.id <= ? AND e.room = ?
       AND e.position IS NULL AND e.depth < ? AND e.state_after IS NULL ORDER BY e.id DESC LIMIT ?`,
    ...[start, end, room, depth, STEP],
  );
  const removed = candidates.filter((event) => !needed.has(event.id));
  for (const event of removed) await removeEvent(tx, event);
  const next = candidates.length === STEP ? candidates.at(-1)!.id - 1 : start;
  return { done: next > 0 ? next : undefined, removed: removed.map((event) => event.event_id), changed: [] };
}

/** Reads rows a page after the other, by their ids. */
async function pages<Row extends { readonly id: number }>(
  read: (after: number) => Promise<Row[]>,
  turn: () => Promise<void>,
  visit: (row: Row) => unknown,
  start = 0,
): Promise<void> {
  for (let after = start; ; ) {
    const rows = await read(after);
    for (const row of rows) await visit(row);
    if (rows.length === 0) return;
    after = rows.at(-1)!.id;
    await turn();
  }
}
