import type { Millis } from '../base/time.ts';
import type { RoomAlias, RoomId, ServerName, UserId } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

/** An alias of this server. */
export interface AliasRow {
  readonly alias: RoomAlias;
  readonly room: RoomId;
  readonly creator: UserId;
}

export function findAlias(db: Reader, alias: RoomAlias): Promise<AliasRow | undefined> {
  return db.get<AliasRow>('SELECT alias, room, creator FROM room_aliases WHERE alias = ?', alias);
}

/** Records an alias. @returns whether it was free */
export async function putAlias(tx: Transaction, entry: AliasRow, now: Millis): Promise<boolean> {
  const written = await tx.run(
    'INSERT INTO room_aliases (alias, room, creator, created) VALUES (?, ?, ?, ?) ON CONFLICT (alias) DO NOTHING',
    entry.alias,
    entry.room,
    entry.creator,
    now,
  );
  return written === 1;
}

/** @returns whether there was such an alias */
export async function deleteAlias(tx: Transaction, alias: RoomAlias): Promise<boolean> {
  return (await tx.run('DELETE FROM room_aliases WHERE alias = ?', alias)) === 1;
}

/** This server's aliases of a room, in order. */
export async function aliasesOf(db: Reader, room: RoomId): Promise<RoomAlias[]> {
  const rows = await db.all<{ alias: RoomAlias }>(
    'SELECT alias FROM room_aliases WHERE room = ? ORDER BY alias',
    room,
  );
  return rows.map(({ alias }) => alias);
}

/** Has the aliases of one room lead to another, and lists that one in the directory where the first was listed. */
export async function moveDirectoryEntries(tx: Transaction, from: RoomId, to: RoomId): Promise<void> {
  await tx.run('UPDATE room_aliases SET room = ? WHERE room = ?', to, from);
  await tx.run('INSERT INTO published_rooms (room) SELECT ? FROM published_rooms WHERE room = ?', to, from);
  await tx.run('DELETE FROM published_rooms WHERE room = ?', from);
}

/** Takes everything about a room out of the directory. */
export async function deleteDirectoryEntries(tx: Transaction, room: RoomId): Promise<void> {
  await tx.run('DELETE FROM room_aliases WHERE room = ?', room);
  await tx.run('DELETE FROM published_rooms WHERE room = ?', room);
}

export async function isPublished(db: Reader, room: RoomId): Promise<boolean> {
  return (await db.get('SELECT 1 AS found FROM published_rooms WHERE room = ?', room)) !== undefined;
}

export async function setPublished(tx: Transaction, room: RoomId, isPublic: boolean): Promise<void> {
  await tx.run(
    isPublic
      ? 'INSERT INTO published_rooms (room) VALUES (?) ON CONFLICT DO NOTHING'
      : 'DELETE FROM published_rooms WHERE room = ?',
    room,
  );
}

/** A room of the directory that this server is in. */
export interface PublishedRow {
  readonly room: RoomId;
  readonly joined: number;
}

/** The published rooms that a server is in, the largest first. */
export function publishedRooms(db: Reader, server: ServerName, limit: number): Promise<PublishedRow[]> {
  return db.all<PublishedRow>(
    `SELECT p.room AS room, COUNT(*) AS joined
     FROM published_rooms p JOIN memberships m ON m.room = p.room AND m.membership = 'join'
     GROUP BY p.room HAVING MAX(CASE WHEN m.server_name = ? THEN 1 ELSE 0 END) = 1 ORDER BY joined DESC, p.room LIMIT ?`,
    server,
    limit,
  );
}
