import type { ServerName } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

/** Content of an EDU that waits for its destination. */
export interface QueuedToDevice {
  readonly position: number;
  /** JSON text. */
  readonly json: string;
}

/** Puts a message at the end of a destination's queue. @param json the content of the EDU, JSON text */
export async function enqueueToDevice(tx: Transaction, destination: ServerName, json: string): Promise<void> {
  await tx.run(
    'INSERT INTO outbox_to_device (destination, json, bytes) VALUES (?, ?, ?)',
    ...[destination, json, Buffer.byteLength(json)],
  );
}

/** The head of a queue: at most so many messages and so many bytes, but one where there is any. */
export async function queuedToDevice(
  db: Reader,
  destination: ServerName,
  { limit, maxBytes }: { readonly limit: number; readonly maxBytes: number },
): Promise<readonly QueuedToDevice[]> {
  const sizes = await db.all<{ position: number; bytes: number }>(
    'SELECT position, bytes FROM outbox_to_device WHERE destination = ? ORDER BY position LIMIT ?',
    ...[destination, limit],
  );
  let bytes = 0;
  const end = sizes.findIndex((row, at) => {
    bytes += row.bytes;
    return at > 0 && bytes > maxBytes;
  });
  const last = sizes.at(end < 0 ? -1 : end - 1);
  if (last === undefined) return [];
  return db.all<QueuedToDevice>(
    'SELECT position, json FROM outbox_to_device WHERE destination = ? AND position <= ? ORDER BY position',
    ...[destination, last.position],
  );
}

/** Whether messages wait for a destination behind a position. */
export async function hasToDeviceBehind(
  db: Reader,
  destination: ServerName,
  position: number,
): Promise<boolean> {
  const row = await db.get(
    'SELECT 1 FROM outbox_to_device WHERE destination = ? AND position > ? LIMIT 1',
    ...[destination, position],
  );
  return row !== undefined;
}

/** Removes what a destination has taken. */
export async function dequeueToDevice(tx: Transaction, positions: readonly number[]): Promise<void> {
  for (const position of positions) await tx.run('DELETE FROM outbox_to_device WHERE position = ?', position);
}

/** Every destination that a message waits for, by name. */
export async function toDeviceDestinations(db: Reader): Promise<ServerName[]> {
  const rows = await db.all<{ destination: string }>(
    'SELECT DISTINCT destination FROM outbox_to_device ORDER BY destination',
  );
  return rows.map((row) => row.destination as ServerName);
}
