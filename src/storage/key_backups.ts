import type { UserId } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

export interface KeyBackupRow {
  readonly id: number;
  readonly version: number;
  readonly algorithm: string;
  /** JSON text of an object. */
  readonly auth_data: string;
  readonly etag: number;
  readonly key_count: number;
  /** What its keys take together. */
  readonly size: number;
}

/** Where a key is in a backup. */
export interface KeyPlace {
  readonly room_id: string;
  readonly session_id: string;
}

/** What is known of a key without looking into it. */
export interface KeyStanding {
  /** 0 or 1. */
  readonly is_verified: number;
  readonly first_message_index: number;
  readonly forwarded_count: number;
}

export interface KeyRow extends KeyPlace, KeyStanding {
  /** JSON text of an object. */
  readonly session_data: string;
  /** Bytes that it takes, roughly. */
  readonly size: number;
}

/** The keys of a room in a backup, or one of them. */
export interface KeySelection {
  readonly room: string;
  readonly session?: string | undefined;
}

const BACKUP_COLUMNS = 'id, version, algorithm, auth_data, etag, key_count, size';
const KEY_COLUMNS =
  'room_id, session_id, is_verified, first_message_index, forwarded_count, session_data, size';

/** Begins an empty backup, which is the current one from then on. @param authData JSON text. @returns its version */
export async function addKeyBackup(
  tx: Transaction,
  user: UserId,
  algorithm: string,
  authData: string,
): Promise<number> {
  await tx.run(
    `INSERT INTO key_backup_versions (user_id, version) VALUES (?, 1)
     ON CONFLICT (user_id) DO UPDATE SET version = version + 1`,
    user,
  );
  const version = await lastBackupVersion(tx, user);
  await tx.run(
    'INSERT INTO key_backups (user_id, version, algorithm, auth_data) VALUES (?, ?, ?, ?)',
    user,
    version,
    algorithm,
    authData,
  );
  return version;
}

/** The highest version that there was, deleted or not; 0: there was none. */
export async function lastBackupVersion(reader: Reader, user: UserId): Promise<number> {
  const row = await reader.get<{ readonly version: number }>(
    'SELECT version FROM key_backup_versions WHERE user_id = ?',
    user,
  );
  return row?.version ?? 0;
}

/** The current backup of a user: the last that was not deleted. */
export function currentKeyBackup(reader: Reader, user: UserId): Promise<KeyBackupRow | undefined> {
  return reader.get<KeyBackupRow>(
    `SELECT ${BACKUP_COLUMNS} FROM key_backups WHERE user_id = ? AND deleted = 0 ORDER BY version DESC LIMIT 1`,
    user,
  );
}

export function findKeyBackup(
  reader: Reader,
  user: UserId,
  version: number,
): Promise<KeyBackupRow | undefined> {
  return reader.get<KeyBackupRow>(
    `SELECT ${BACKUP_COLUMNS} FROM key_backups WHERE user_id = ? AND version = ? AND deleted = 0`,
    user,
    version,
  );
}

export async function countKeyBackups(reader: Reader, user: UserId): Promise<number> {
  const row = await reader.get<{ readonly n: number }>(
    'SELECT COUNT(*) AS n FROM key_backups WHERE user_id = ? AND deleted = 0',
    user,
  );
  return row!.n;
}

export async function setBackupAuthData(tx: Transaction, backup: number, authData: string): Promise<void> {
  await tx.run('UPDATE key_backups SET auth_data = ? WHERE id = ?', authData, backup);
}

/** Deletes a backup; its keys follow: see `sweepKeyBackups`. */
export async function deleteKeyBackup(tx: Transaction, backup: number): Promise<void> {
  await tx.run('UPDATE key_backups SET deleted = 1 WHERE id = ?', backup);
}

/** Deletes all keys of a backup in the same way: an empty one takes its place. */
export async function emptyKeyBackup(tx: Transaction, backup: number): Promise<void> {
  await deleteKeyBackup(tx, backup);
  await tx.run(
    `INSERT INTO key_backups (user_id, version, algorithm, auth_data, etag)
     SELECT user_id, version, algorithm, auth_data, etag + 1 FROM key_backups WHERE id = ?`,
    backup,
  );
}

/** Deletes all that a user has backed up, in the same way. */
export async function deleteAllKeyBackups(tx: Transaction, user: UserId): Promise<void> {
  await tx.run('UPDATE key_backups SET deleted = 1 WHERE user_id = ?', user);
  await tx.run('DELETE FROM key_backup_versions WHERE user_id = ?', user);
}

/** Whether keys of deleted backups are still there. */
export async function isSweepDue(reader: Reader): Promise<boolean> {
  return (await reader.get('SELECT 1 FROM key_backups WHERE deleted = 1 LIMIT 1')) !== undefined;
}

/** Deletes some keys of a deleted backup, and the backup with the last of them. */
export async function sweepKeyBackups(tx: Transaction, limit: number): Promise<void> {
  const sql = 'SELECT id FROM key_backups WHERE deleted = 1 ORDER BY id LIMIT 1';
  const backup = await tx.get<{ readonly id: number }>(sql);
  if (backup === undefined) return;
  const deleted = await tx.run(
    'DELETE FROM backed_up_keys WHERE rowid IN (SELECT rowid FROM backed_up_keys WHERE backup = ? LIMIT ?)',
    backup.id,
    limit,
  );
  if (deleted < limit) await tx.run('DELETE FROM key_backups WHERE id = ?', backup.id);
}

/** Counts a change of a backup's keys. @param keys how many there are more, or less. @param size as much more they take */
export async function countBackupChange(
  tx: Transaction,
  backup: number,
  change: { readonly keys: number; readonly size: number },
): Promise<void> {
  await tx.run(
    'UPDATE key_backups SET etag = etag + 1, key_count = key_count + ?, size = size + ? WHERE id = ?',
    change.keys,
    change.size,
    backup,
  );
}

export function findBackedUpKey(
  reader: Reader,
  backup: number,
  { room_id, session_id }: KeyPlace,
): Promise<KeyRow | undefined> {
  return reader.get(
    `SELECT ${KEY_COLUMNS} FROM backed_up_keys
     WHERE backup = ? AND room_id = ? AND session_id = ?`,
    backup,
    room_id,
    session_id,
  );
}

/** Stores a key, in the place of the one that was there. */
export async function putBackedUpKey(tx: Transaction, backup: number, key: KeyRow): Promise<void> {
  await tx.run(
    `INSERT INTO backed_up_keys (backup, ${KEY_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT (backup, room_id, session_id) DO UPDATE SET is_verified = excluded.is_verified,
       first_message_index = excluded.first_message_index, forwarded_count = excluded.forwarded_count,
       session_data = excluded.session_data, size = excluded.size`,
    backup,
    key.room_id,
    key.session_id,
    key.is_verified,
    key.first_message_index,
    key.forwarded_count,
    key.session_data,
    key.size,
  );
}

/** The next keys of a backup, or of a room in it, by room and session. @param after the last that was had; undefined: none */
export function backedUpKeys(
  reader: Reader,
  backup: number,
  room: string | undefined,
  after: KeyPlace | undefined,
  limit: number,
): Promise<KeyRow[]> {
  const { room_id, session_id } = after ?? { room_id: room ?? '', session_id: '' };
  return reader.all<KeyRow>(
    `SELECT ${KEY_COLUMNS} FROM backed_up_keys
     WHERE backup = ? AND (room_id, session_id) > (?, ?) ${room === undefined ? '' : 'AND room_id = ?'}
     ORDER BY room_id, session_id LIMIT ?`,
    backup,
    room_id,
    session_id,
    ...(room === undefined ? [] : [room]),
    limit,
  );
}

/** @returns how many were there, and what they took */
export async function deleteBackedUpKeys(
  tx: Transaction,
  backup: number,
  { room, session }: KeySelection,
): Promise<{ readonly keys: number; readonly size: number }> {
  const selected = `backup = ? AND room_id = ?${session === undefined ? '' : ' AND session_id = ?'}`;
  const values = [backup, room, ...(session === undefined ? [] : [session])];
  const deleted = await tx.get<{ readonly keys: number; readonly size: number }>(
    `SELECT COUNT(*) AS keys, COALESCE(SUM(size), 0) AS size FROM backed_up_keys WHERE ${selected}`,
    ...values,
  );
  await tx.run(`DELETE FROM backed_up_keys WHERE ${selected}`, ...values);
  return deleted!;
}
