import type { Millis } from '../base/time.ts';
import type { DeviceId, UserId } from '../matrix/ids.ts';
import { noteConnection } from './connections.ts';
import type { Reader, Transaction } from './database.ts';

export interface DeviceRow {
  readonly device: DeviceId;
  readonly displayName: string | null;
  /** Unix time in milliseconds; null: not since this is noted. */
  readonly lastSeen: Millis | null;
  readonly lastSeenIp: string | null;
}

/** When, from where and with what a device called. */
export interface Sighting {
  /** Unix time in milliseconds. */
  readonly at: Millis;
  readonly ip: string | null;
  readonly agent: string | null;
}

const COLUMNS = `device_id AS device, display_name AS displayName, last_seen AS lastSeen,
  last_seen_ip AS lastSeenIp`;

export async function listDevices(reader: Reader, user: UserId): Promise<DeviceRow[]> {
  return reader.all<DeviceRow>(`SELECT ${COLUMNS} FROM devices WHERE user_id = ? ORDER BY device_id`, user);
}

export async function findDevice(
  reader: Reader,
  user: UserId,
  device: DeviceId,
): Promise<DeviceRow | undefined> {
  return reader.get<DeviceRow>(
    `SELECT ${COLUMNS} FROM devices WHERE user_id = ? AND device_id = ?`,
    user,
    device,
  );
}

/** Adds a device; one that is there already stays as it is, its name too. */
export async function addDevice(
  tx: Transaction,
  user: UserId,
  device: Pick<DeviceRow, 'device' | 'displayName'>,
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

/** Notes that a device has called. Answers nothing: a device that is gone is not noted. */
export async function seeDevice(
  tx: Transaction,
  user: UserId,
  device: DeviceId,
  sighting: Sighting,
): Promise<void> {
  const { at, ip, agent } = sighting;
  const changed = await tx.run(
    'UPDATE devices SET last_seen = ?, last_seen_ip = ?, last_seen_agent = ? WHERE user_id = ? AND device_id = ?',
    at,
    ip,
    agent,
    user,
    device,
  );
  if (changed > 0) await noteConnection(tx, user, device, sighting);
}
