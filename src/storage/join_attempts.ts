import type { Reader, Transaction } from './database.ts';

/** @param begun Unix time in milliseconds */
export async function putJoinAttempt(tx: Transaction, room: string, begun: number): Promise<void> {
  await tx.run(
    'INSERT INTO join_attempts (room_id, begun) VALUES (?, ?) ON CONFLICT (room_id) DO UPDATE SET begun = excluded.begun',
    room,
    begun,
  );
}

export async function deleteJoinAttempt(tx: Transaction, room: string): Promise<void> {
  await tx.run('DELETE FROM join_attempts WHERE room_id = ?', room);
}

/** Whether a join was begun since `since` (Unix time in milliseconds) whose end is not known. */
export async function isJoinAttempted(reader: Reader, room: string, since: number): Promise<boolean> {
  const sql = 'SELECT 1 FROM join_attempts WHERE room_id = ? AND begun >= ?';
  return (await reader.get(sql, room, since)) !== undefined;
}
