import type { DeviceId, UserId } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

export interface DeviceRow {
  readonly device: DeviceId;
  readonly displayName: string | null;
}

export async function listDevices(reader: Reader, user: UserId): Promise<DeviceRow[]> {
  return reader.all<DeviceRow>(
    'SELECT device_id AS device, display_name AS displayName FROM devices WHERE user_id = ? ORDER BY device_id',
    user,
  );
}

export async function findDevice(
  reader: Reader,
  user: UserId,
  device: DeviceId,
): Promise<DeviceRow | undefined> {
  return reader.get<DeviceRow>(
    'SELECT device_id AS device, display_name AS displayName FROM devices WHERE user_id = ? AND device_id = ?',
    user,
    device,
  );
}

/** Adds a device; one that is there already stays as it is, its name too. */
export async function addDevice(
  tx: Transaction,
  user: UserId,
  device: DeviceRow,
  now: number,
): Promise<void> {
  await tx.run(
    'INSERT INTO devices (user_id, device_id, display_name, created) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING',
    user,
    device.device,
    device.displayName,
    now,
  );
}

/** Answers whether there is such a device. */
export async function renameDevice(
  tx: Transaction,
  user: UserId,
  device: DeviceId,
  displayName: string,
): Promise<boolean> {
  const changed = await tx.run(
    'UPDATE devices SET display_name = ? WHERE user_id = ? AND device_id = ?',
    displayName,
    user,
    device,
  );
  return changed === 1;
}

/** Deletes a device with its access token and its key. */
export async function deleteDevice(tx: Transaction, user: UserId, device: DeviceId): Promise<void> {
  await tx.run('DELETE FROM devices WHERE user_id = ? AND device_id = ?', user, device);
}

/** Deletes all devices of a user, with their access tokens and keys; `except` stays. */
export async function deleteAllDevices(tx: Transaction, user: UserId, except?: DeviceId): Promise<void> {
  await tx.run(
    'DELETE FROM devices WHERE user_id = ? AND device_id IS DISTINCT FROM ?',
    user,
    except ?? null,
  );
}

/** Makes this the only access token of the device. @param hash SHA-256 of the token */
export async function setAccessToken(
  tx: Transaction,
  user: UserId,
  device: DeviceId,
  hash: Uint8Array,
  now: number,
): Promise<void> {
  await removeAccessToken(tx, user, device);
  await tx.run(
    'INSERT INTO access_tokens (token_hash, user_id, device_id, created) VALUES (?, ?, ?, ?)',
    hash,
    user,
    device,
    now,
  );
}

export async function removeAccessToken(tx: Transaction, user: UserId, device: DeviceId): Promise<void> {
  await tx.run('DELETE FROM access_tokens WHERE user_id = ? AND device_id = ?', user, device);
}

/** Whose token it is. @param hash SHA-256 of the token */
export async function accessTokenOwner(
  reader: Reader,
  hash: Uint8Array,
): Promise<{ user: UserId; device: DeviceId } | undefined> {
  return reader.get<{ user: UserId; device: DeviceId }>(
    'SELECT user_id AS user, device_id AS device FROM access_tokens WHERE token_hash = ?',
    hash,
  );
}
