import type { Millis } from '../base/time.ts';
import type { DeviceId, ServerName, UserId } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

/** How long a server that has asked for a user's keys is told of changes, whether or not it is known to share a room. */
const ASKER_KEPT_MS: Millis = 24 * 60 * 60 * 1000;
/** Users of whom one server is. */
const MAX_ASKED = 1_000;
/** In the place of a device: the user's signing keys. */
const SIGNING_KEYS = '';

/** That a destination is to be told of a device of a local user, or of the user's signing keys. */
export interface QueuedDeviceUpdate {
  readonly position: number;
  readonly user: UserId;
  /** Undefined: the signing keys, which are no link of the chain. */
  readonly device: DeviceId | undefined;
  readonly streamId: number;
  /** The link before it; undefined: it is the first. */
  readonly prevId: number | undefined;
  /** Unix time. */
  readonly queued: Millis;
}

/**
 * Adds a link to the chain of a user's device updates, whether or not anybody is told.
 * @returns the link before it; undefined: it is the first
 */
export async function extendDeviceChain(
  tx: Transaction,
  user: UserId,
  streamId: number,
): Promise<number | undefined> {
  const before = await tx.get<{ stream_id: number }>(
    'SELECT stream_id FROM device_list_streams WHERE user_id = ?',
    user,
  );
  await tx.run(
    `INSERT INTO device_list_streams (user_id, stream_id) VALUES (?, ?)
     ON CONFLICT (user_id) DO UPDATE SET stream_id = excluded.stream_id`,
    ...[user, streamId],
  );
  return before?.stream_id;
}

/** The last link of the chain of a user's device updates; 0 where there is none. */
export async function lastDeviceLink(reader: Reader, user: UserId): Promise<number> {
  const row = await reader.get<{ stream_id: number }>(
    'SELECT stream_id FROM device_list_streams WHERE user_id = ?',
    user,
  );
  return row?.stream_id ?? 0;
}

/** Whether a local user is in a room with somebody of a server. */
export async function sharesRoomWithServer(
  reader: Reader,
  user: UserId,
  server: ServerName,
): Promise<boolean> {
  const row = await reader.get(
    `SELECT 1 FROM memberships m JOIN memberships o
       ON o.room = m.room AND o.membership = 'join' AND o.server_name = ?
     WHERE m.user_id = ? AND m.membership = 'join' LIMIT 1`,
    ...[server, user],
  );
  return row !== undefined;
}

/** Notes that a server has asked for a user's keys, and forgets what was too long ago, or too much of that server. */
export async function putAsker(
  tx: Transaction,
  user: UserId,
  server: ServerName,
  now: Millis,
): Promise<void> {
  await tx.run(
    `INSERT INTO device_list_askers (user_id, server_name, asked) VALUES (?, ?, ?)
     ON CONFLICT (user_id, server_name) DO UPDATE SET asked = excluded.asked`,
    ...[user, server, now],
  );
  await tx.run('DELETE FROM device_list_askers WHERE asked < ?', now - ASKER_KEPT_MS);
  await tx.run(
    `DELETE FROM device_list_askers WHERE server_name = ? AND asked < (
       SELECT asked FROM device_list_askers WHERE server_name = ? ORDER BY asked DESC LIMIT 1 OFFSET ?)`,
    ...[server, server, MAX_ASKED - 1],
  );
}

/** Servers that have asked for a user's keys not too long ago. */
export async function askers(reader: Reader, user: UserId, now: Millis): Promise<ServerName[]> {
  const rows = await reader.all<{ server: ServerName }>(
    'SELECT server_name AS server FROM device_list_askers WHERE user_id = ? AND asked >= ? ORDER BY server_name',
    ...[user, now - ASKER_KEPT_MS],
  );
  return rows.map(({ server }) => server);
}

/** Queues an update for each destination, behind what waits there. */
export async function enqueueDeviceUpdate(
  tx: Transaction,
  { user, device, streamId, prevId, queued }: Omit<QueuedDeviceUpdate, 'position'>,
  destinations: Iterable<ServerName>,
): Promise<void> {
  for (const destination of destinations)
    await tx.run(
      `INSERT INTO outbox_device_lists (destination, user_id, device_id, stream_id, prev_id, queued)
       VALUES (?, ?, ?, ?, ?, ?)`,
      ...[destination, user, device ?? SIGNING_KEYS, streamId, prevId ?? null, queued],
    );
}

/** The head of a queue, oldest first. */
export async function queuedDeviceUpdates(
  db: Reader,
  destination: ServerName,
  limit: number,
): Promise<readonly QueuedDeviceUpdate[]> {
  const rows = await db.all<{
    readonly position: number;
    readonly user_id: string;
    readonly device_id: string;
    readonly stream_id: number;
    readonly prev_id: number | null;
    readonly queued: number;
  }>(
    `SELECT position, user_id, device_id, stream_id, prev_id, queued FROM outbox_device_lists
     WHERE destination = ? ORDER BY position LIMIT ?`,
    ...[destination, limit],
  );
  return rows.map((row) => ({
    position: row.position,
    user: row.user_id as UserId,
    device: row.device_id === SIGNING_KEYS ? undefined : (row.device_id as DeviceId),
    streamId: row.stream_id,
    prevId: row.prev_id ?? undefined,
    queued: row.queued,
  }));
}

/**
 * Removes updates that others have taken the place of, while nothing is under way to their destination. What follows one in
 * the chain then follows the one before it.
 */
export async function dropDeviceUpdates(
  tx: Transaction,
  destination: ServerName,
  updates: readonly QueuedDeviceUpdate[],
): Promise<void> {
  for (const { position, user, device, streamId } of updates) {
    if (device !== undefined)
      await tx.run(
        `UPDATE outbox_device_lists
         SET prev_id = (SELECT prev_id FROM outbox_device_lists WHERE position = ?)
         WHERE destination = ? AND user_id = ? AND device_id <> ? AND prev_id = ?`,
        ...[position, destination, user, SIGNING_KEYS, streamId],
      );
    await tx.run('DELETE FROM outbox_device_lists WHERE position = ?', position);
  }
}

/** Removes what a destination has taken. */
export async function dequeueDeviceUpdates(tx: Transaction, positions: readonly number[]): Promise<void> {
  for (const position of positions)
    await tx.run('DELETE FROM outbox_device_lists WHERE position = ?', position);
}

/** Every destination that an update waits for, by name. */
export async function deviceListDestinations(db: Reader): Promise<ServerName[]> {
  const rows = await db.all<{ destination: string }>(
    'SELECT DISTINCT destination FROM outbox_device_lists ORDER BY destination',
  );
  return rows.map((row) => row.destination as ServerName);
}
