import type { DeviceId, ServerName, UserId } from '../matrix/ids.ts';
import type { JsonObject } from '../matrix/json.ts';
import type { Reader, Transaction } from './database.ts';

// Copies of what other servers tell of their users' devices and signing keys.

/** Whether a copy has to be fetched, and whether local users have been told that. */
export type Staleness = 'current' | 'untold' | 'told';
const STALENESS: readonly Staleness[] = ['current', 'untold', 'told'];

/** What is kept of a user's keys; JSON. */
export interface KeyCopy {
  readonly devices: ReadonlyMap<DeviceId, JsonObject>;
  readonly master: JsonObject | undefined;
  readonly selfSigning: JsonObject | undefined;
}

/** How a copy stands. */
export interface CopyState {
  /** The last link of the chain that is in it; undefined: it came without one. */
  readonly streamId: number | undefined;
  readonly staleness: Staleness;
  /** The position in the delivery stream at which it was changed or confirmed. */
  readonly position: number;
}

interface ListRow {
  readonly stream_id: number | null;
  readonly stale: number;
  readonly master_key: string | null;
  readonly self_signing_key: string | null;
  readonly position: number;
}

const listRow = (reader: Reader, user: UserId): Promise<ListRow | undefined> =>
  reader.get<ListRow>(
    `SELECT stream_id, stale, master_key, self_signing_key, position FROM remote_device_lists
     WHERE user_id = ?`,
    user,
  );

/** How the copy of a user stands; undefined: there is none. */
export async function copyState(reader: Reader, user: UserId): Promise<CopyState | undefined> {
  const row = await listRow(reader, user);
  if (row === undefined) return undefined;
  return { streamId: row.stream_id ?? undefined, staleness: STALENESS[row.stale]!, position: row.position };
}

/** What is kept of a user, whether or not it is right; undefined: nothing. */
export async function keyCopy(reader: Reader, user: UserId): Promise<KeyCopy | undefined> {
  const list = await listRow(reader, user);
  if (list === undefined) return undefined;
  const rows = await reader.all<{ device: DeviceId; keys: string }>(
    'SELECT device_id AS device, keys FROM remote_devices WHERE user_id = ? ORDER BY device_id',
    user,
  );
  const key = (text: string | null): JsonObject | undefined =>
    text === null ? undefined : (JSON.parse(text) as JsonObject);
  return {
    devices: new Map(rows.map(({ device, keys }) => [device, JSON.parse(keys) as JsonObject])),
    master: key(list.master_key),
    selfSigning: key(list.self_signing_key),
  };
}

/** Puts a whole copy in the place of what is kept. */
export async function putKeyCopy(
  tx: Transaction,
  of: { readonly user: UserId; readonly server: ServerName },
  { devices, master, selfSigning }: KeyCopy,
  { streamId, staleness, position }: CopyState,
): Promise<void> {
  await tx.run(
    `INSERT INTO remote_device_lists (user_id, server_name, stream_id, stale, master_key, self_signing_key, position)
     VALUES (?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT (user_id) DO UPDATE SET stream_id = excluded.stream_id, stale = excluded.stale,
       master_key = excluded.master_key, self_signing_key = excluded.self_signing_key, position = excluded.position`,
    ...[of.user, of.server, streamId ?? null, STALENESS.indexOf(staleness)],
    ...[textOf(master), textOf(selfSigning), position],
  );
  await tx.run('DELETE FROM remote_devices WHERE user_id = ?', of.user);
  for (const [device, keys] of devices) await putRemoteDevice(tx, of.user, device, keys);
}

const textOf = (key: JsonObject | undefined): string | null =>
  key === undefined ? null : JSON.stringify(key);

/** How a copy stands from now on. */
export async function putCopyState(
  tx: Transaction,
  user: UserId,
  { streamId, staleness, position }: CopyState,
): Promise<void> {
  await tx.run(
    'UPDATE remote_device_lists SET stream_id = ?, stale = ?, position = ? WHERE user_id = ?',
    ...[streamId ?? null, STALENESS.indexOf(staleness), position, user],
  );
}

export async function putSigningKeys(
  tx: Transaction,
  user: UserId,
  { master, selfSigning }: Pick<KeyCopy, 'master' | 'selfSigning'>,
): Promise<void> {
  await tx.run(
    'UPDATE remote_device_lists SET master_key = ?, self_signing_key = ? WHERE user_id = ?',
    ...[textOf(master), textOf(selfSigning), user],
  );
}

export async function putRemoteDevice(
  tx: Transaction,
  user: UserId,
  device: DeviceId,
  keys: JsonObject,
): Promise<void> {
  await tx.run(
    `INSERT INTO remote_devices (user_id, device_id, keys) VALUES (?, ?, ?)
     ON CONFLICT (user_id, device_id) DO UPDATE SET keys = excluded.keys`,
    ...[user, device, JSON.stringify(keys)],
  );
}

export async function deleteRemoteDevice(tx: Transaction, user: UserId, device: DeviceId): Promise<void> {
  await tx.run('DELETE FROM remote_devices WHERE user_id = ? AND device_id = ?', user, device);
}

export async function countRemoteDevices(reader: Reader, user: UserId): Promise<number> {
  const row = await reader.get<{ devices: number }>(
    'SELECT COUNT(*) AS devices FROM remote_devices WHERE user_id = ?',
    user,
  );
  return row!.devices;
}

/**
 * Whether a user of another server has shared a room with some local user all along since a position, as far as can be seen
 * by what they are there: who has changed their name since counts as new.
 */
export async function sharesRoomSince(
  reader: Reader,
  user: UserId,
  here: ServerName,
  position: number,
): Promise<boolean> {
  const row = await reader.get(
    `SELECT 1 FROM memberships m JOIN memberships l
       ON l.room = m.room AND l.membership = 'join' AND l.server_name = ? AND l.position <= ?
     WHERE m.user_id = ? AND m.membership = 'join' AND m.position <= ? LIMIT 1`,
    ...[here, position, user, position],
  );
  return row !== undefined;
}

/** Whether a user of another server shares a room with some local user. */
export const sharesRoom = (reader: Reader, user: UserId, here: ServerName): Promise<boolean> =>
  sharesRoomSince(reader, user, here, Number.MAX_SAFE_INTEGER);

/** Servers of users whose copies have to be fetched, by name. */
export async function serversWithStaleCopies(reader: Reader): Promise<ServerName[]> {
  const rows = await reader.all<{ server: ServerName }>(
    'SELECT DISTINCT server_name AS server FROM remote_device_lists WHERE stale > 0 ORDER BY server_name',
  );
  return rows.map(({ server }) => server);
}

/** Users of a server whose copies have to be fetched, by id. */
export async function staleCopies(
  reader: Reader,
  server: ServerName,
  { after, limit }: { readonly after: string; readonly limit: number },
): Promise<UserId[]> {
  const rows = await reader.all<{ user: UserId }>(
    `SELECT user_id AS user FROM remote_device_lists WHERE server_name = ? AND stale > 0 AND user_id > ?
     ORDER BY user_id LIMIT ?`,
    ...[server, after, limit],
  );
  return rows.map(({ user }) => user);
}

/** Users of a server whose copies have to be fetched and of whom local users have not been told that; from now on they have. */
export async function tellStaleCopies(tx: Transaction, server: ServerName): Promise<UserId[]> {
  const rows = await tx.all<{ user: UserId }>(
    'SELECT user_id AS user FROM remote_device_lists WHERE server_name = ? AND stale = 1 ORDER BY user_id',
    server,
  );
  await tx.run('UPDATE remote_device_lists SET stale = 2 WHERE server_name = ? AND stale = 1', server);
  return rows.map(({ user }) => user);
}

export async function deleteCopy(tx: Transaction, user: UserId): Promise<void> {
  await tx.run('DELETE FROM remote_device_lists WHERE user_id = ?', user);
}

/** Forgets users who share no room with any local user. */
export async function deleteUnsharedCopies(tx: Transaction, here: ServerName): Promise<void> {
  await tx.run(
    `DELETE FROM remote_device_lists WHERE NOT EXISTS (
       SELECT 1 FROM memberships m JOIN memberships l
         ON l.room = m.room AND l.membership = 'join' AND l.server_name = ?
       WHERE m.user_id = remote_device_lists.user_id AND m.membership = 'join')`,
    here,
  );
}
