import type { UserId } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';
import { nextPosition } from './stream.ts';

/** Notes that a user's devices or cross-signing keys have changed. @returns the position at which that is told */
export async function putDeviceListChange(tx: Transaction, user: UserId): Promise<number> {
  const position = await nextPosition(tx);
  await tx.run(
    `INSERT INTO device_lists (user_id, position) VALUES (?, ?)
     ON CONFLICT (user_id) DO UPDATE SET position = excluded.position`,
    ...[user, position],
  );
  return position;
}

/** Notes a change of a user's keys that `viewer` alone gets to see. @returns the position at which that is told */
export async function putPrivateChange(tx: Transaction, viewer: UserId, user: UserId): Promise<number> {
  const position = await nextPosition(tx);
  await tx.run(
    `INSERT INTO private_device_lists (viewer, user_id, position) VALUES (?, ?, ?)
     ON CONFLICT (viewer, user_id) DO UPDATE SET position = excluded.position`,
    ...[viewer, user, position],
  );
  return position;
}

/** A range of positions: `after` < position <= `upTo`. */
export interface PositionRange {
  readonly after: number;
  readonly upTo: number;
}

/** Whose keys changed last within a range, of the viewer themself and those who share a room with them. */
export async function changedDeviceLists(
  reader: Reader,
  viewer: string,
  { after, upTo }: PositionRange,
): Promise<string[]> {
  const rows = await reader.all<{ user: string }>(
    `SELECT l.user_id AS user FROM device_lists l
     WHERE l.position > ? AND l.position <= ? AND (l.user_id = ? OR EXISTS (
       SELECT 1 FROM memberships m JOIN memberships o ON o.room = m.room AND o.user_id = l.user_id AND o.membership = 'join'
       WHERE m.user_id = ? AND m.membership = 'join'))
     UNION SELECT p.user_id FROM private_device_lists p
     WHERE p.viewer = ? AND p.position > ? AND p.position <= ?`,
    ...[after, upTo, viewer, viewer, viewer, after, upTo],
  );
  return rows.map(({ user }) => user);
}

/** What a member was at one position; null: nothing, their entry having gone. */
export interface MemberChange {
  readonly user: string;
  readonly membership: string | null;
}

const MEMBERSHIP = "json_extract(e.json, '$.content.membership') AS membership";

/** How the members of a room changed within a range, oldest first, and at most so many of them. */
export function memberChanges(
  reader: Reader,
  room: number,
  { after, upTo }: PositionRange,
  limit: number,
): Promise<MemberChange[]> {
  return reader.all<MemberChange>(
    `SELECT p.state_key AS user, ${MEMBERSHIP} FROM current_state_changes c
     JOIN places p ON p.id = c.place AND p.type = 'm.room.member' LEFT JOIN events e ON e.id = c.event
     WHERE c.room = ? AND c.position > ? AND c.position <= ? ORDER BY c.position LIMIT ?`,
    ...[room, after, upTo, limit],
  );
}

/** What those are in a room now whose member event changed last behind a position. */
export function changedMembers(reader: Reader, room: string, after: number): Promise<MemberChange[]> {
  return reader.all<MemberChange>(
    'SELECT user_id AS user, membership FROM memberships WHERE room = ? AND position > ?',
    ...[room, after],
  );
}

/** What somebody was in a room at a position; undefined where nothing is known that far back. */
export async function membershipAt(
  reader: Reader,
  room: number,
  user: string,
  position: number,
): Promise<MemberChange | undefined> {
  return reader.get<MemberChange>(
    `SELECT ? AS user, ${MEMBERSHIP} FROM current_state_changes c LEFT JOIN events e ON e.id = c.event
     WHERE c.room = ? AND c.position <= ?
       AND c.place = (SELECT id FROM places WHERE type = 'm.room.member' AND state_key = ?)
     ORDER BY c.position DESC LIMIT 1`,
    ...[user, room, position, user],
  );
}

/** Everybody who is joined to a room. */
export async function joinedTo(reader: Reader, room: string): Promise<string[]> {
  const rows = await reader.all<{ user: string }>(
    "SELECT user_id AS user FROM memberships WHERE room = ? AND membership = 'join'",
    room,
  );
  return rows.map(({ user }) => user);
}

/** Everybody who shares a room with a user. */
export async function sharers(reader: Reader, viewer: string): Promise<ReadonlySet<string>> {
  const rows = await reader.all<{ user: string }>(
    `SELECT DISTINCT o.user_id AS user FROM memberships m JOIN memberships o ON o.room = m.room AND o.membership = 'join'
     WHERE m.user_id = ? AND m.membership = 'join'`,
    viewer,
  );
  return new Set(rows.map(({ user }) => user));
}

/** The rooms that two users are joined to. */
export async function sharedRooms(reader: Reader, one: string, other: string): Promise<string[]> {
  const rows = await reader.all<{ room: string }>(
    `SELECT m.room FROM memberships m JOIN memberships o ON o.room = m.room AND o.user_id = ? AND o.membership = 'join'
     WHERE m.user_id = ? AND m.membership = 'join'`,
    ...[other, one],
  );
  return rows.map(({ room }) => room);
}
