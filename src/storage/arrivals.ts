import type { RoomId, UserId } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

/** A local user who has come into a room. */
export interface Arrival {
  readonly user: UserId;
  readonly room: RoomId;
}

export async function putArrival(tx: Transaction, { user, room }: Arrival): Promise<void> {
  await tx.run('INSERT INTO arrivals (user_id, room_id) VALUES (?, ?) ON CONFLICT DO NOTHING', user, room);
}

export async function deleteArrival(tx: Transaction, { user, room }: Arrival): Promise<void> {
  await tx.run('DELETE FROM arrivals WHERE user_id = ? AND room_id = ?', user, room);
}

export async function isArrival(reader: Reader, { user, room }: Arrival): Promise<boolean> {
  const sql = 'SELECT 1 FROM arrivals WHERE user_id = ? AND room_id = ?';
  return (await reader.get(sql, user, room)) !== undefined;
}

export function listArrivals(reader: Reader): Promise<Arrival[]> {
  return reader.all<Arrival>('SELECT user_id AS user, room_id AS room FROM arrivals ORDER BY 1, 2');
}
