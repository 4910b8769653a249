import type { Millis } from '../base/time.ts';
import type { DeviceId, ServerName, UserId } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';
import { nextPosition } from './stream.ts';

// The inbox of a device. At most so much of it is told at a time, in one answer of /sync: only that has a position in the stream.
// What comes behind it waits without one, and gets one in the transaction that deletes what was acknowledged. So an answer
// always tells everything up to its one position, however much waits.

// The specification's.
/** Messages of a device that are told at a time. */
export const MAX_TOLD = 100;

// Ours.
/** The size from which on no further message is told: over a slow link a smaller answer is there sooner. */
const MAX_TOLD_BYTES = 256 * 1024;
/** What one inbox holds: a device that calls at all empties it long before. */
export const MAX_INBOX_MESSAGES = 50_000;
export const MAX_INBOX_BYTES = 128 * 1024 * 1024;
/** An inbox that holds so many takes no more of a server that so many of them are from, so that none keeps the others out. */
export const MAX_INBOX_SHARE = 5_000;
/** How long a client's transaction id is remembered. */
const TRANSACTION_KEPT_MS: Millis = 7 * 24 * 60 * 60 * 1000;
/** How long, and how many, ids of messages of one server are remembered. */
const RECEIVED_KEPT_MS: Millis = 30 * 24 * 60 * 60 * 1000;
export const MAX_RECEIVED = 20_000;

interface InboxUse {
  readonly messages: number;
  readonly bytes: number;
  readonly told: number;
  readonly toldBytes: number;
}

async function inboxUse(reader: Reader, user: UserId, device: DeviceId): Promise<InboxUse> {
  const row = await reader.get<InboxUse>(
    `SELECT messages, bytes, told, told_bytes AS toldBytes FROM to_device_inboxes
     WHERE user_id = ? AND device_id = ?`,
    ...[user, device],
  );
  return row ?? { messages: 0, bytes: 0, told: 0, toldBytes: 0 };
}

async function putInboxUse(
  tx: Transaction,
  user: UserId,
  device: DeviceId,
  { messages, bytes, told, toldBytes }: InboxUse,
): Promise<void> {
  await tx.run(
    `INSERT INTO to_device_inboxes (user_id, device_id, messages, bytes, told, told_bytes) VALUES (?, ?, ?, ?, ?, ?)
     ON CONFLICT (user_id, device_id) DO UPDATE SET messages = excluded.messages, bytes = excluded.bytes,
       told = excluded.told, told_bytes = excluded.told_bytes`,
    ...[user, device, messages, bytes, told, toldBytes],
  );
}

/** Whether a message may be told beside those that are. */
const hasPlace = (told: number, toldBytes: number, bytes: number): boolean =>
  told === 0 || (told < MAX_TOLD && toldBytes + bytes <= MAX_TOLD_BYTES);

/**
 * Puts a message at the end of an inbox. The device is there.
 * @param message.server the sender's
 * @param message.json the event, JSON text
 * @returns its position; 'waits': others come before it; 'full': there is no place, and it was not put in
 */
export async function addToInbox(
  tx: Transaction,
  user: UserId,
  device: DeviceId,
  { server, json }: { readonly server: ServerName; readonly json: string },
): Promise<number | 'waits' | 'full'> {
  const bytes = Buffer.byteLength(json);
  const use = await inboxUse(tx, user, device);
  if (use.messages >= MAX_INBOX_MESSAGES || use.bytes + bytes > MAX_INBOX_BYTES) return 'full';
  if (use.messages >= MAX_INBOX_SHARE && (await shareOf(tx, user, device, server)) >= MAX_INBOX_SHARE)
    return 'full';
  const isTold = use.told === use.messages && hasPlace(use.told, use.toldBytes, bytes);
  const position = isTold ? await nextPosition(tx) : null;
  await tx.run(
    `INSERT INTO to_device_messages (user_id, device_id, server_name, json, bytes, position)
     VALUES (?, ?, ?, ?, ?, ?)`,
    ...[user, device, server, json, bytes, position],
  );
  await putInboxUse(tx, user, device, {
    messages: use.messages + 1,
    bytes: use.bytes + bytes,
    told: use.told + (isTold ? 1 : 0),
    toldBytes: use.toldBytes + (isTold ? bytes : 0),
  });
  return position ?? 'waits';
}

async function shareOf(reader: Reader, user: UserId, device: DeviceId, server: ServerName): Promise<number> {
  const row = await reader.get<{ messages: number }>(
    `SELECT COUNT(*) AS messages FROM (SELECT 1 FROM to_device_messages
       WHERE user_id = ? AND device_id = ? AND server_name = ? LIMIT ?)`,
    ...[user, device, server, MAX_INBOX_SHARE],
  );
  return row!.messages;
}

/** Whether an inbox holds anything that was told up to a position. */
export async function hasTold(
  reader: Reader,
  user: UserId,
  device: DeviceId,
  upTo: number,
): Promise<boolean> {
  const row = await reader.get(
    'SELECT 1 FROM to_device_messages WHERE user_id = ? AND device_id = ? AND position <= ? LIMIT 1',
    ...[user, device, upTo],
  );
  return row !== undefined;
}

/**
 * Deletes what a device has, and lets what waits behind it be told.
 * @returns the position from which on that is told; undefined where nothing waits
 */
export async function emptyInbox(
  tx: Transaction,
  user: UserId,
  device: DeviceId,
  upTo: number,
): Promise<number | undefined> {
  const place = [user, device] as const;
  const had = await tx.get<{ messages: number; bytes: number }>(
    `SELECT COUNT(*) AS messages, COALESCE(SUM(bytes), 0) AS bytes FROM to_device_messages
     WHERE user_id = ? AND device_id = ? AND position <= ?`,
    ...[...place, upTo],
  );
  await tx.run(
    'DELETE FROM to_device_messages WHERE user_id = ? AND device_id = ? AND position <= ?',
    ...[...place, upTo],
  );
  const before = await inboxUse(tx, user, device);
  const [messages, bytes] = [before.messages - had!.messages, before.bytes - had!.bytes];
  let [told, toldBytes] = [before.told - had!.messages, before.toldBytes - had!.bytes];
  let last: number | undefined;
  if (messages > told) {
    const waiting = await tx.all<{ id: number; bytes: number }>(
      `SELECT id, bytes FROM to_device_messages WHERE user_id = ? AND device_id = ? AND position IS NULL
       ORDER BY id LIMIT ?`,
      ...[...place, MAX_TOLD],
    );
    for (const next of waiting) {
      if (!hasPlace(told, toldBytes, next.bytes)) break;
      told++;
      toldBytes += next.bytes;
      last = next.id;
    }
  }
  await putInboxUse(tx, user, device, { messages, bytes, told, toldBytes });
  if (last === undefined) return undefined;
  const position = await nextPosition(tx);
  await tx.run(
    `UPDATE to_device_messages SET position = ?
     WHERE user_id = ? AND device_id = ? AND position IS NULL AND id <= ?`,
    ...[position, ...place, last],
  );
  return position;
}

/** What is told in `after` < position <= `upTo`, in the order in which it came: JSON texts of events. */
export async function inboxMessages(
  reader: Reader,
  user: UserId,
  device: DeviceId,
  { after, upTo }: { readonly after: number; readonly upTo: number },
): Promise<string[]> {
  const rows = await reader.all<{ json: string }>(
    `SELECT json FROM to_device_messages
     WHERE user_id = ? AND device_id = ? AND position > ? AND position <= ? ORDER BY id`,
    ...[user, device, after, upTo],
  );
  return rows.map(({ json }) => json);
}

/** What identifies a repeated PUT (client-server API, "Transaction identifiers"). */
export interface ToDeviceTransaction {
  readonly user: UserId;
  readonly device: DeviceId;
  readonly type: string;
  readonly txnId: string;
}

/** Whether a device has sent under that id. */
export async function isSent(reader: Reader, transaction: ToDeviceTransaction): Promise<boolean> {
  const { user, device, type, txnId } = transaction;
  const row = await reader.get(
    'SELECT 1 FROM to_device_transactions WHERE user_id = ? AND device_id = ? AND type = ? AND txn_id = ?',
    ...[user, device, type, txnId],
  );
  return row !== undefined;
}

/** Remembers that a device has sent under that id, and forgets its old ones. */
export async function putSent(
  tx: Transaction,
  { user, device, type, txnId }: ToDeviceTransaction,
  now: Millis,
): Promise<void> {
  await tx.run(
    'DELETE FROM to_device_transactions WHERE user_id = ? AND device_id = ? AND created < ?',
    ...[user, device, now - TRANSACTION_KEPT_MS],
  );
  await tx.run(
    'INSERT INTO to_device_transactions (user_id, device_id, type, txn_id, created) VALUES (?, ?, ?, ?, ?)',
    ...[user, device, type, txnId, now],
  );
}

/** Remembers that a message of another server has come. @returns false: it has come before, as far as is remembered */
export async function takeOnce(
  tx: Transaction,
  origin: ServerName,
  messageId: string,
  now: Millis,
): Promise<boolean> {
  const added = await tx.run(
    `INSERT INTO received_to_device (origin, message_id, received) VALUES (?, ?, ?)
     ON CONFLICT (origin, message_id) DO NOTHING`,
    ...[origin, messageId, now],
  );
  return added === 1;
}

/** Forgets ids of messages of another server that are too many, and of all that are too old. */
export async function forgetReceived(tx: Transaction, origin: ServerName, now: Millis): Promise<void> {
  await tx.run(
    `DELETE FROM received_to_device WHERE origin = ? AND id <= (
       SELECT id FROM received_to_device WHERE origin = ? ORDER BY id DESC LIMIT 1 OFFSET ?)`,
    ...[origin, origin, MAX_RECEIVED],
  );
  await tx.run('DELETE FROM received_to_device WHERE received < ?', now - RECEIVED_KEPT_MS);
}
