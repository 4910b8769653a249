import type Connection from 'better-sqlite3';
import type { EventId, RoomId } from '../matrix/ids.ts';
import { alone } from './alone.ts';
import { visitLayer } from './packed_state.ts';

/** From where on a room's history stays: an event, or the first that was sent at an instant or later. */
export type PurgePoint = { readonly event: EventId } | { readonly sentFrom: number };

/** What a purge came to, or would come to. */
export interface Purged {
  /** Events that have left. */
  readonly removed: number;
  /** Events before the point that stay because state that still matters, or its authorisation, names them. */
  readonly kept: number;
  /** Events from the point on. */
  readonly left: number;
  /** State groups that have left. */
  readonly groups: number;
}

/** A room cannot be purged so; an operator has to decide. */
export class PurgeError extends Error {
  override name = 'PurgeError';
}

/** Somebody else has the database open. */
export class InUseError extends PurgeError {
  override name = 'InUseError';
}

interface Cut {
  readonly room: number;
  readonly position: number;
  readonly depth: number;
}

/**
 * Takes a room's history before a point out of a database that no server has open, in one transaction. What the states
 * of the events that are left consist of stays, and what authorises it, but not as part of the timeline. Edges to what
 * has gone become edges to events that are not known here.
 * @param dryRun works out what would happen, and changes nothing
 * @throws PurgeError where the room or the point is not known, InUseError where the database is in use
 */
export function purgeRoom(
  path: string,
  room: RoomId,
  before: PurgePoint,
  { dryRun = false, shrink = false }: { readonly dryRun?: boolean; readonly shrink?: boolean } = {},
): Purged {
  return alone(
    path,
    (sentence) => new InUseError(sentence),
    (connection) => {
      connection.pragma('temp_store = FILE');
      connection.exec('BEGIN IMMEDIATE');
      let purged: Purged;
      try {
        purged = new Purge(connection, cutOf(connection, room, before)).run();
        connection.exec(dryRun ? 'ROLLBACK' : 'COMMIT');
      } catch (error) {
        if (connection.inTransaction) connection.exec('ROLLBACK');
        throw error;
      }
      if (shrink && !dryRun) connection.exec('VACUUM');
      return purged;
    },
  );
}

function cutOf(connection: Connection.Database, room: RoomId, before: PurgePoint): Cut {
  const row = connection
    .prepare<[string], { id: number }>('SELECT id FROM rooms WHERE room_id = ?')
    .get(room);
  if (row === undefined) throw new PurgeError(`There is no room ${room} here.`);
  const columns = 'SELECT room, position, depth FROM events WHERE room = ? AND position IS NOT NULL';
  // The instants are their senders' word: an old one on a new event must not take everything away.
  const cut =
    'event' in before
      ? connection.prepare<[number, string], Cut>(`${columns} AND event_id = ?`).get(row.id, before.event)
      : connection
          .prepare<[number, number], Cut>(`${columns} AND origin_server_ts >= ? ORDER BY position LIMIT 1`)
          .get(row.id, before.sentFrom);
  if (cut !== undefined) return cut;
  throw new PurgeError(
    'event' in before
      ? `${before.event} is no event of the room's timeline.`
      : 'The room has no event from then on, so that all of it would go.',
  );
}

class Purge {
  readonly #connection: Connection.Database;
  readonly #cut: Cut;

  constructor(connection: Connection.Database, cut: Cut) {
    this.#connection = connection;
    this.#cut = cut;
  }

  run(): Purged {
    this.#chooseLeaving();
    this.#forgetChanges();
    this.#chooseGroups();
    this.#chooseKept();
    const kept = this.#demote();
    this.#removeEdges();
    const groups = this.#run(
      'DELETE FROM state_groups WHERE room = @room AND id NOT IN (SELECT id FROM kept_groups)',
    );
    const removed = this.#run('DELETE FROM events WHERE id IN (SELECT id FROM leaving)');
    // What comes of it once more is late: it is no end of the room.
    this.#run('UPDATE rooms SET joined_depth = MAX(joined_depth, @depth) WHERE id = @room');
    const left = this.#count(
      "SELECT COUNT(*) AS n FROM events WHERE room = @room AND status <> 'outlier' AND state_after IS NOT NULL",
    );
    this.#connection.exec(
      'DROP TABLE leaving; DROP TABLE departures; DROP TABLE kept_groups; DROP TABLE kept_events',
    );
    return { removed, kept, left, groups };
  }

  #run(sql: string): number {
    return this.#connection.prepare<[Cut]>(sql).run(this.#cut).changes;
  }

  #count(sql: string): number {
    return this.#connection.prepare<[Cut], { n: number }>(sql).get(this.#cut)!.n;
  }

  #chooseLeaving(): void {
    this.#connection.exec('CREATE TEMP TABLE leaving (id INTEGER PRIMARY KEY)');
    this.#run(
      `INSERT INTO leaving SELECT id FROM events WHERE room = @room
         AND (position < @position OR (position IS NULL AND depth < @depth))
         AND id NOT IN (SELECT event FROM forward_extremities WHERE room = @room)`,
    );
    // Who has left may still see the state as it was then.
    this.#connection.exec('CREATE TEMP TABLE departures (id INTEGER PRIMARY KEY)');
    this.#run(
      `INSERT INTO departures SELECT e.id FROM memberships m JOIN rooms r ON r.room_id = m.room
         JOIN users u ON u.user_id = m.user_id JOIN events e ON e.event_id = m.event_id
       WHERE r.id = @room AND m.membership IN ('leave', 'ban')`,
    );
  }

  /** Of what current_state was before the point, only how it ended up stays, and how those who left came and went. */
  #forgetChanges(): void {
    this.#run(
      `DELETE FROM current_state_changes WHERE room = @room AND position < @position
         AND position < (
           SELECT MAX(l.position) FROM current_state_changes l
           WHERE l.room = @room AND l.place = current_state_changes.place AND l.position < @position
         )
         AND place NOT IN (
           SELECT p.id FROM memberships m JOIN rooms r ON r.room_id = m.room
             JOIN places p ON p.type = 'm.room.member' AND p.state_key = m.user_id
           WHERE r.id = @room AND m.membership <> 'join'
         )`,
    );
  }

  /** The state groups of what is left, and those that they lie over. */
  #chooseGroups(): void {
    this.#connection.exec('CREATE TEMP TABLE kept_groups (id INTEGER PRIMARY KEY)');
    this.#run(
      `INSERT INTO kept_groups
       WITH RECURSIVE needed (id) AS (
         SELECT current_group FROM rooms WHERE id = @room
         UNION SELECT state_before FROM events
           WHERE room = @room AND (id NOT IN (SELECT id FROM leaving) OR id IN (SELECT id FROM departures))
         UNION SELECT state_after FROM events
           WHERE room = @room AND (id NOT IN (SELECT id FROM leaving) OR id IN (SELECT id FROM departures))
         UNION SELECT g.parent FROM needed JOIN state_groups g ON g.id = needed.id
       ) SELECT id FROM needed WHERE id IS NOT NULL`,
    );
  }

  /** The events that the states are made of, those that other tables name, and what all of them are authorised by. */
  #chooseKept(): void {
    const connection = this.#connection;
    connection.exec('CREATE TEMP TABLE kept_events (id INTEGER PRIMARY KEY)');
    const keep = connection.prepare<[number]>('INSERT OR IGNORE INTO kept_events VALUES (?)');
    const next = connection.prepare<[number], { id: number; entries: Uint8Array }>(
      `SELECT g.id, g.entries FROM kept_groups k JOIN state_groups g ON g.id = k.id
       WHERE k.id > ? ORDER BY k.id LIMIT 1`,
    );
    for (let group = next.get(0); group !== undefined; group = next.get(group.id)) {
      visitLayer(group.entries, (_, event) => {
        if (event !== 0) keep.run(event);
        return false;
      });
    }
    this.#run(
      `INSERT OR IGNORE INTO kept_events
       SELECT event FROM current_state_changes WHERE room = @room AND event IS NOT NULL
       UNION SELECT event FROM current_state WHERE room = @room
       UNION SELECT id FROM departures
       UNION SELECT e.id FROM memberships m JOIN rooms r ON r.room_id = m.room JOIN events e ON e.event_id = m.event_id
         WHERE r.id = @room
       UNION SELECT a.id FROM events e, json_each(e.json, '$.auth_events') j
         JOIN events a ON a.event_id = CASE j.type WHEN 'array' THEN json_extract(j.value, '$[0]') ELSE j.value END
         WHERE e.room = @room AND e.id NOT IN (SELECT id FROM leaving)`,
    );
    connection.exec(
      `INSERT OR IGNORE INTO kept_events
       WITH RECURSIVE behind (id) AS (
         SELECT id FROM kept_events
         UNION SELECT a.auth FROM behind JOIN event_auth a ON a.event = behind.id
       ) SELECT id FROM behind`,
    );
  }

  /** Takes what is kept of the events before the point out of the timeline. */
  #demote(): number {
    const kept = this.#run(
      `UPDATE events SET position = NULL,
         status = CASE status WHEN 'rejected' THEN 'rejected' ELSE 'outlier' END,
         state_before = CASE WHEN id IN (SELECT id FROM departures) THEN state_before END,
         state_after = CASE WHEN id IN (SELECT id FROM departures) THEN state_after END
       WHERE room = @room AND id IN (SELECT id FROM leaving) AND id IN (SELECT id FROM kept_events)`,
    );
    this.#connection.exec('DELETE FROM leaving WHERE id IN (SELECT id FROM kept_events)');
    return kept;
  }

  #removeEdges(): void {
    this.#connection.exec(
      `INSERT OR IGNORE INTO unknown_prev (prev, event)
       SELECT o.event_id, p.event FROM leaving l JOIN events o ON o.id = l.id JOIN event_prev p ON p.prev = l.id
         JOIN events e ON e.id = p.event
       WHERE e.status <> 'outlier' AND p.event NOT IN (SELECT id FROM leaving)`,
    );
    for (const sql of [
      'DELETE FROM event_prev WHERE prev IN (SELECT id FROM leaving)',
      'DELETE FROM event_prev WHERE event IN (SELECT id FROM leaving)',
      'DELETE FROM unknown_prev WHERE event IN (SELECT id FROM leaving)',
      'DELETE FROM backward_extremities WHERE event IN (SELECT id FROM leaving)',
      'DELETE FROM event_auth WHERE event IN (SELECT id FROM leaving)',
      'DELETE FROM redactions WHERE redaction IN (SELECT id FROM leaving)',
      'DELETE FROM event_relations WHERE event IN (SELECT id FROM leaving)',
      'DELETE FROM event_search WHERE rowid IN (SELECT id FROM leaving)',
    ])
      this.#connection.exec(sql);
  }
}
