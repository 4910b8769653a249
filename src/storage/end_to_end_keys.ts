import type { DeviceId, UserId } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

/** A device's identity keys. */
export interface IdentityKeysRow {
  readonly device: DeviceId;
  readonly displayName: string | null;
  /** JSON text of the object as it was uploaded. */
  readonly keys: string;
}

/** The devices of a user that have keys, by id. */
export function identityKeysOfUser(reader: Reader, user: UserId): Promise<IdentityKeysRow[]> {
  return reader.all<IdentityKeysRow>(
    `SELECT i.device_id AS device, d.display_name AS displayName, i.keys FROM identity_keys i
     JOIN devices d ON d.user_id = i.user_id AND d.device_id = i.device_id
     WHERE i.user_id = ? ORDER BY i.device_id`,
    user,
  );
}

/** JSON text; undefined where the device has none. */
export async function identityKeys(
  reader: Reader,
  user: UserId,
  device: DeviceId,
): Promise<string | undefined> {
  const row = await reader.get<{ keys: string }>(
    'SELECT keys FROM identity_keys WHERE user_id = ? AND device_id = ?',
    user,
    device,
  );
  return row?.keys;
}

export async function putIdentityKeys(
  tx: Transaction,
  user: UserId,
  device: DeviceId,
  keys: string,
): Promise<void> {
  await tx.run(
    `INSERT INTO identity_keys (user_id, device_id, keys) VALUES (?, ?, ?)
     ON CONFLICT (user_id, device_id) DO UPDATE SET keys = excluded.keys`,
    ...[user, device, keys],
  );
}

/** Which of a user's devices a key is of. */
export interface KeyPlace {
  readonly user: UserId;
  readonly device: DeviceId;
  readonly algorithm: string;
}

/** A one-time or fallback key, JSON text. */
export interface KeyRow {
  readonly keyId: string;
  readonly key: string;
}

/** What is known of a one-time key of that id. */
export function findOneTimeKey(
  reader: Reader,
  { user, device, algorithm }: KeyPlace,
  keyId: string,
): Promise<{ readonly id: number; readonly isGiven: 0 | 1; readonly hash: Uint8Array } | undefined> {
  return reader.get(
    `SELECT id, key IS NULL AS isGiven, hash FROM one_time_keys
     WHERE user_id = ? AND device_id = ? AND algorithm = ? AND key_id = ?`,
    ...[user, device, algorithm, keyId],
  );
}

/** Adds a key behind all others; one of the same id goes. */
export async function addOneTimeKey(
  tx: Transaction,
  { user, device, algorithm }: KeyPlace,
  { keyId, key }: KeyRow,
  hash: Uint8Array,
): Promise<void> {
  await tx.run(
    'DELETE FROM one_time_keys WHERE user_id = ? AND device_id = ? AND algorithm = ? AND key_id = ?',
    ...[user, device, algorithm, keyId],
  );
  await tx.run(
    'INSERT INTO one_time_keys (user_id, device_id, algorithm, key_id, key, hash) VALUES (?, ?, ?, ?, ?, ?)',
    ...[user, device, algorithm, keyId, key, hash],
  );
}

/** How many keys are left of each algorithm of which there are any, by its name. */
export function countOneTimeKeys(
  reader: Reader,
  user: UserId,
  device: DeviceId,
): Promise<{ readonly algorithm: string; readonly count: number }[]> {
  return reader.all(
    `SELECT algorithm, COUNT(*) AS count FROM one_time_keys
     WHERE user_id = ? AND device_id = ? AND key IS NOT NULL GROUP BY algorithm ORDER BY algorithm`,
    ...[user, device],
  );
}

/** Takes out the oldest key that is left. @param remembered how many keys that were given away the device's rows keep */
export async function takeOneTimeKey(
  tx: Transaction,
  { user, device, algorithm }: KeyPlace,
  remembered: number,
): Promise<KeyRow | undefined> {
  const row = await tx.get<KeyRow & { readonly id: number }>(
    `SELECT id, key_id AS keyId, key FROM one_time_keys
     WHERE user_id = ? AND device_id = ? AND algorithm = ? AND key IS NOT NULL ORDER BY id LIMIT 1`,
    ...[user, device, algorithm],
  );
  if (row === undefined) return undefined;
  await tx.run('UPDATE one_time_keys SET key = NULL WHERE id = ?', row.id);
  await tx.run(
    `DELETE FROM one_time_keys WHERE user_id = ? AND device_id = ? AND key IS NULL AND id <= (
       SELECT id FROM one_time_keys WHERE user_id = ? AND device_id = ? AND key IS NULL
       ORDER BY id DESC LIMIT 1 OFFSET ?)`,
    ...[user, device, user, device, remembered],
  );
  return row;
}

/** Sets the fallback key of an algorithm, unused; one that is there already stays what it is. */
export async function putFallbackKey(
  tx: Transaction,
  { user, device, algorithm }: KeyPlace,
  { keyId, key }: KeyRow,
): Promise<void> {
  await tx.run(
    `INSERT INTO fallback_keys (user_id, device_id, algorithm, key_id, key, used) VALUES (?, ?, ?, ?, ?, 0)
     ON CONFLICT (user_id, device_id, algorithm) DO UPDATE
       SET key_id = excluded.key_id, key = excluded.key, used = 0
       WHERE fallback_keys.key_id <> excluded.key_id OR fallback_keys.key <> excluded.key`,
    ...[user, device, algorithm, keyId, key],
  );
}

/** The algorithms of a device's fallback keys, by name. */
export async function fallbackAlgorithms(
  reader: Reader,
  user: UserId,
  device: DeviceId,
  which: 'unused' | 'all',
): Promise<string[]> {
  const rows = await reader.all<{ algorithm: string }>(
    `SELECT algorithm FROM fallback_keys WHERE user_id = ? AND device_id = ? AND used <= ? ORDER BY algorithm`,
    ...[user, device, which === 'unused' ? 0 : 1],
  );
  return rows.map(({ algorithm }) => algorithm);
}

/** The fallback key, marked as used. */
export async function useFallbackKey(
  tx: Transaction,
  { user, device, algorithm }: KeyPlace,
): Promise<(KeyRow & { readonly isFirstUse: boolean }) | undefined> {
  const row = await tx.get<KeyRow & { readonly used: number }>(
    'SELECT key_id AS keyId, key, used FROM fallback_keys WHERE user_id = ? AND device_id = ? AND algorithm = ?',
    ...[user, device, algorithm],
  );
  if (row === undefined) return undefined;
  if (row.used === 0)
    await tx.run(
      'UPDATE fallback_keys SET used = 1 WHERE user_id = ? AND device_id = ? AND algorithm = ?',
      ...[user, device, algorithm],
    );
  return { keyId: row.keyId, key: row.key, isFirstUse: row.used === 0 };
}

/** Notes at which position a device lost a key. */
export async function putKeyClaim(
  tx: Transaction,
  user: UserId,
  device: DeviceId,
  position: number,
): Promise<void> {
  await tx.run(
    `INSERT INTO key_claims (user_id, device_id, position) VALUES (?, ?, ?)
     ON CONFLICT (user_id, device_id) DO UPDATE SET position = excluded.position`,
    ...[user, device, position],
  );
}

/** Whether a device has lost a key behind a position. */
export async function hasKeyClaim(
  reader: Reader,
  user: UserId,
  device: DeviceId,
  after: number,
): Promise<boolean> {
  const row = await reader.get(
    'SELECT 1 FROM key_claims WHERE user_id = ? AND device_id = ? AND position > ?',
    ...[user, device, after],
  );
  return row !== undefined;
}
