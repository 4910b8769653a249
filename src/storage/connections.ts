import type { Millis } from '../base/time.ts';
import type { DeviceId, UserId } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';
import type { Sighting } from './devices.ts';

/** One way in which a device has called; it goes with the device. */
export interface Connection extends Sighting {
  readonly device: DeviceId;
}

/** Ways of one device that are kept, and for how long, so that nobody's moves are on record for ever. */
const MAX_CONNECTIONS = 10;
const KEPT_MS: Millis = 28 * 24 * 60 * 60_000;

/** Notes how a device, which is there, has called. */
export async function noteConnection(
  tx: Transaction,
  user: UserId,
  device: DeviceId,
  { at, ip, agent }: Sighting,
): Promise<void> {
  await tx.run(
    `INSERT INTO connections (user_id, device_id, ip, agent, last_seen) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT (user_id, device_id, ip, agent) DO UPDATE SET last_seen = excluded.last_seen`,
    user,
    device,
    ip ?? '',
    agent ?? '',
    at,
  );
  await tx.run(
    `DELETE FROM connections WHERE user_id = ? AND device_id = ? AND (last_seen < ? OR (ip, agent) NOT IN
       (SELECT ip, agent FROM connections WHERE user_id = ? AND device_id = ? ORDER BY last_seen DESC, ip, agent LIMIT ?))`,
    user,
    device,
    at - KEPT_MS,
    user,
    device,
    MAX_CONNECTIONS,
  );
}

/** How the devices of a user have called, of each the newest first. */
export async function connectionsOf(reader: Reader, user: UserId): Promise<Connection[]> {
  return reader.all<Connection>(
    `SELECT device_id AS device, NULLIF(ip, '') AS ip, NULLIF(agent, '') AS agent, last_seen AS at FROM connections
     WHERE user_id = ? ORDER BY device_id, last_seen DESC, ip, agent`,
    user,
  );
}
