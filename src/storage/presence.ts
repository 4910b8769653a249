import type { UserId } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';
import { nextPosition } from './stream.ts';

export type PresenceState = 'online' | 'unavailable' | 'offline';

export interface PresenceRow {
  readonly user_id: UserId;
  readonly presence: PresenceState;
  readonly status_msg: string | null;
  /** Unix time in milliseconds; null: not known. */
  readonly last_active: number | null;
  /** 0 or 1. */
  readonly currently_active: number;
}

const COLUMNS = 'p.user_id, p.presence, p.status_msg, p.last_active, p.currently_active';

export function findPresence(reader: Reader, user: UserId): Promise<PresenceRow | undefined> {
  return reader.get<PresenceRow>(`SELECT ${COLUMNS} FROM presence p WHERE p.user_id = ?`, user);
}

/** Stores what is told of a user from now on. @returns the position in the stream at which that is told */
export async function putPresence(tx: Transaction, row: PresenceRow): Promise<number> {
  const position = await nextPosition(tx);
  await tx.run(
    `INSERT INTO presence (user_id, presence, status_msg, last_active, currently_active, position)
     VALUES (?, ?, ?, ?, ?, ?)
     ON CONFLICT (user_id) DO UPDATE SET presence = excluded.presence, status_msg = excluded.status_msg,
       last_active = excluded.last_active, currently_active = excluded.currently_active, position = excluded.position`,
    ...[row.user_id, row.presence, row.status_msg, row.last_active, row.currently_active, position],
  );
  return position;
}

/** Everybody who is not offline, by id. */
export function presentUsers(reader: Reader): Promise<PresenceRow[]> {
  return reader.all<PresenceRow>(
    `SELECT ${COLUMNS} FROM presence p WHERE p.presence <> 'offline' ORDER BY p.user_id`,
  );
}

/** Whether two users are joined to one room. */
const SHARES_ROOM = `EXISTS (
  SELECT 1 FROM memberships m JOIN memberships o ON o.room = m.room AND o.user_id = p.user_id AND o.membership = 'join'
  WHERE m.user_id = ? AND m.membership = 'join')`;

/** What changed in `after` < position <= `upTo` of those who share a room with a user, apart from themself. */
export function presenceChanges(
  reader: Reader,
  viewer: string,
  range: { readonly after: number; readonly upTo: number },
): Promise<PresenceRow[]> {
  return reader.all<PresenceRow>(
    `SELECT ${COLUMNS} FROM presence p
     WHERE p.position > ? AND p.position <= ? AND p.user_id <> ? AND ${SHARES_ROOM} ORDER BY p.position`,
    ...[range.after, range.upTo, viewer, viewer],
  );
}

/** Those joined to a room, since a position, whatever they are: what somebody who has just met them, perhaps again, is told. */
export function presenceInRoom(
  reader: Reader,
  room: string,
  range: { readonly joinedAfter: number; readonly upTo: number },
): Promise<PresenceRow[]> {
  return reader.all<PresenceRow>(
    `SELECT ${COLUMNS} FROM memberships m JOIN presence p ON p.user_id = m.user_id
     WHERE m.room = ? AND m.membership = 'join' AND m.position > ? AND m.position <= ? AND p.position <= ?
     ORDER BY p.user_id`,
    ...[room, range.joinedAfter, range.upTo, range.upTo],
  );
}

/** Whether two users are joined to a room together. */
export async function shareRoom(reader: Reader, one: string, other: string): Promise<boolean> {
  const row = await reader.get(
    `SELECT 1 FROM memberships m JOIN memberships o ON o.room = m.room AND o.user_id = ? AND o.membership = 'join'
     WHERE m.user_id = ? AND m.membership = 'join' LIMIT 1`,
    ...[other, one],
  );
  return row !== undefined;
}
