import type { Reader, Transaction } from './database.ts';

/** A join that was sent to another server, which may have accepted it. */
export interface JoinAttempt {
  readonly room: string;
  readonly user: string;
  /** The server that it was sent to. */
  readonly via: string;
  readonly roomVersion: string;
  /** The PDU, JSON text. */
  readonly event: string;
}

/** Keeps the last join of a room. @param begun Unix time in milliseconds */
export async function putJoinAttempt(tx: Transaction, attempt: JoinAttempt, begun: number): Promise<void> {
  await tx.run(
    `INSERT INTO join_attempts (room_id, begun, user_id, via, room_version, event) VALUES (?, ?, ?, ?, ?, ?)
     ON CONFLICT (room_id) DO UPDATE SET begun = excluded.begun, user_id = excluded.user_id, via = excluded.via,
       room_version = excluded.room_version, event = excluded.event`,
    attempt.room,
    begun,
    attempt.user,
    attempt.via,
    attempt.roomVersion,
    attempt.event,
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

/** The version of the room that a join was begun of whose end is not known. */
export async function joinAttemptVersion(reader: Reader, room: string): Promise<string | undefined> {
  const sql = 'SELECT room_version AS version FROM join_attempts WHERE room_id = ?';
  return (await reader.get<{ version: string | null }>(sql, room))?.version ?? undefined;
}

/** The join of that user that was begun since `since` and whose end is not known. */
export async function joinAttemptOf(
  reader: Reader,
  room: string,
  user: string,
  since: number,
): Promise<JoinAttempt | undefined> {
  return reader.get<JoinAttempt>(
    `SELECT room_id AS room, user_id AS user, via, room_version AS roomVersion, event FROM join_attempts
     WHERE room_id = ? AND user_id = ? AND begun >= ? AND event IS NOT NULL`,
    room,
    user,
    since,
  );
}
