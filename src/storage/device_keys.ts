import type { Millis } from '../base/time.ts';
import type { DeviceId, UserId } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

const DAY_MS: Millis = 24 * 60 * 60 * 1000;

const dayOf = (now: Millis): number => Math.floor(now / DAY_MS);

/** A key and whose it is. */
export interface DeviceKeyRow {
  /** 64 hexadecimal digits in lower case. */
  readonly key: string;
  readonly user: UserId;
  readonly device: DeviceId;
  /** The beginning of the day on which it was in use last; Unix time in milliseconds. */
  readonly lastSeen: Millis;
}

const COLUMNS = `noise_key AS key, user_id AS user, device_id AS device, last_seen_day * ${DAY_MS} AS lastSeen`;

/** Whose device has that key. */
export async function findDeviceKey(reader: Reader, key: string): Promise<DeviceKeyRow | undefined> {
  return reader.get<DeviceKeyRow>(`SELECT ${COLUMNS} FROM device_keys WHERE noise_key = ?`, key);
}

/** The keys of the devices of a user. They go with their devices. */
export async function deviceKeys(reader: Reader, user: UserId): Promise<DeviceKeyRow[]> {
  return reader.all<DeviceKeyRow>(
    `SELECT ${COLUMNS} FROM device_keys WHERE user_id = ? ORDER BY device_id`,
    user,
  );
}

/** Makes this the key of that device and of no other. The device has no other key: see `unbindDevice`. */
export async function bindDeviceKey(
  tx: Transaction,
  key: string,
  user: UserId,
  device: DeviceId,
  now: Millis,
): Promise<void> {
  await tx.run(
    `INSERT INTO device_keys (noise_key, user_id, device_id, since, last_seen_day) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT (noise_key) DO UPDATE SET user_id = excluded.user_id, device_id = excluded.device_id,
       since = excluded.since, last_seen_day = excluded.last_seen_day`,
    key,
    user,
    device,
    now,
    dayOf(now),
  );
}

/** Takes the key from a device. Answers the key that it had. */
export async function unbindDevice(
  tx: Transaction,
  user: UserId,
  device: DeviceId,
): Promise<string | undefined> {
  const row = await tx.get<{ key: string }>(
    'SELECT noise_key AS key FROM device_keys WHERE user_id = ? AND device_id = ?',
    user,
    device,
  );
  if (row === undefined) return undefined;
  await tx.run('DELETE FROM device_keys WHERE noise_key = ?', row.key);
  return row.key;
}

/** Whether `seeDeviceKey` has nothing to write: once a day is enough. */
export const isSeenToday = ({ lastSeen }: DeviceKeyRow, now: Millis): boolean =>
  lastSeen === dayOf(now) * DAY_MS;

/** Notes that the key is in use today. Answers whether it is anybody's. */
export async function seeDeviceKey(tx: Transaction, key: string, now: Millis): Promise<boolean> {
  const changed = await tx.run(
    'UPDATE device_keys SET last_seen_day = ? WHERE noise_key = ?',
    dayOf(now),
    key,
  );
  return changed === 1;
}
