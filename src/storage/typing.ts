import type { RoomId, UserId } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';
import { nextPosition } from './stream.ts';

/** Stores who types in a room. @returns the position in the stream at which that is told */
export async function putTyping(tx: Transaction, room: RoomId, users: readonly UserId[]): Promise<number> {
  const position = await nextPosition(tx);
  await tx.run(
    `INSERT INTO typing (room, users, position) VALUES (?, ?, ?)
     ON CONFLICT (room) DO UPDATE SET users = excluded.users, position = excluded.position`,
    ...[room, JSON.stringify(users), position],
  );
  return position;
}

/** Who types in a room, where that changed in `after` < position <= `upTo`. */
export async function typingChange(
  reader: Reader,
  room: string,
  range: { readonly after: number; readonly upTo: number },
): Promise<string[] | undefined> {
  const row = await reader.get<{ users: string }>(
    'SELECT users FROM typing WHERE room = ? AND position > ? AND position <= ?',
    ...[room, range.after, range.upTo],
  );
  return row === undefined ? undefined : (JSON.parse(row.users) as string[]);
}

/** Rooms in which somebody types. */
export async function roomsWithTyping(reader: Reader): Promise<RoomId[]> {
  const rows = await reader.all<{ room: RoomId }>(
    "SELECT room FROM typing WHERE users <> '[]' ORDER BY room",
  );
  return rows.map(({ room }) => room);
}
