import type { Millis } from '../base/time.ts';
import type { RoomId, UserId } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

/** In the place of a thread's root: what is in no thread. */
export const MAIN_TIMELINE = '';

/** An event that notifies users, all of them in the same way. */
export interface NewNotification {
  readonly users: readonly UserId[];
  /** The event's in the delivery stream. */
  readonly position: number;
  /** Which of the ways it is in which this event notifies users. */
  readonly part: number;
  readonly room: RoomId;
  /** The root of the event's thread, or MAIN_TIMELINE. */
  readonly thread: string;
  readonly isHighlight: boolean;
  /** JSON text of a list. */
  readonly actions: string;
  /** Unix time. */
  readonly received: Millis;
}

/** A notification as one user has it. */
export interface NotificationRow {
  readonly position: number;
  readonly room: RoomId;
  readonly thread: string;
  readonly highlight: 0 | 1;
  readonly actions: string;
  readonly received: Millis;
  readonly unread: 0 | 1;
}

/** How much of a thread a user has not read. */
export interface UnreadCount {
  readonly thread: string;
  readonly notifications: number;
  readonly highlights: number;
}

/** Up to where a user has read a room. */
export interface ReadUpTo {
  readonly user: UserId;
  readonly room: RoomId;
  /** The last position that counts as read. */
  readonly upTo: number;
  /** Undefined: all threads and the main timeline. */
  readonly thread: string | undefined;
  /** Where clients are told. */
  readonly at: number;
}

/** Of `notified n`: whether a user is among those notified. Takes the user's id as JSON text. */
const IS_NOTIFIED = 'instr(n.users, ?) > 0';
const asJson = (user: string): string => JSON.stringify(user);

/** What a new notification makes of `unread`. @param rows those of users who have nothing unread */
const counted = (rows: string): string =>
  `INSERT INTO unread (room, thread, user_id, read_up_to, notifications, highlights, changed)
   ${rows}
   ON CONFLICT (room, thread, user_id) DO UPDATE SET
     notifications = notifications + 1, highlights = highlights + excluded.highlights, changed = excluded.changed`;
const COUNT_ONE = counted('VALUES (?, ?, ?, ?, 1, ?, ?)');
const COUNT_MANY = counted('SELECT ?, ?, value, ?, 1, ?, ? FROM json_each(?) WHERE true');

export async function putNotification(tx: Transaction, one: NewNotification): Promise<void> {
  const { position, room, thread, received } = one;
  const highlight = one.isHighlight ? 1 : 0;
  const users = JSON.stringify(one.users);
  await tx.run(
    `INSERT INTO notified (room, position, part, thread, highlight, actions, users, received)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
    ...[room, position, one.part, thread, highlight, one.actions, users, received],
  );
  const [only] = one.users;
  const values = [position - 1, highlight, position] as const;
  if (one.users.length === 1) await tx.run(COUNT_ONE, room, thread, only!, ...values);
  else await tx.run(COUNT_MANY, room, thread, ...values, users);
}

/** Notes that a user has read all of one thread of a room, up to its end. @returns whether that changes their counts */
export async function readThread(
  tx: Transaction,
  { user, room, thread, upTo }: Pick<ReadUpTo, 'user' | 'room' | 'upTo'> & { readonly thread: string },
): Promise<boolean> {
  const changed = await tx.run(
    `UPDATE unread SET notifications = 0, highlights = 0, read_up_to = ?, changed = ?
     WHERE room = ? AND thread = ? AND user_id = ? AND notifications > 0`,
    ...[upTo, upTo, room, thread, user],
  );
  return changed > 0;
}

/** Notes that a user has read a room up to a position. @returns whether that changes their counts */
export async function readNotifications(tx: Transaction, read: ReadUpTo): Promise<boolean> {
  const { user, room, upTo, thread: only, at } = read;
  const before = await tx.all<UnreadCount>(
    `SELECT thread, notifications, highlights FROM unread
     WHERE user_id = ? AND room = ? AND read_up_to < ? AND notifications > 0 AND thread = COALESCE(?, thread)`,
    ...[user, room, upTo, only ?? null],
  );
  if (before.length === 0) return false;
  const left = new Map(
    (await unreadBehind(tx, user, room, upTo)).map((count) => [count.thread, count] as const),
  );
  let isChanged = false;
  for (const { thread, notifications, highlights } of before) {
    const now = left.get(thread);
    // Some of what is counted may be so old that its row is gone.
    const rest = Math.min(now?.notifications ?? 0, notifications);
    if (rest === notifications) continue;
    isChanged = true;
    await tx.run(
      `UPDATE unread SET read_up_to = ?, notifications = ?, highlights = ?, changed = ?
       WHERE room = ? AND thread = ? AND user_id = ?`,
      ...[upTo, rest, Math.min(now?.highlights ?? 0, highlights), at, room, thread, user],
    );
  }
  return isChanged;
}

/** What has notified a user of a room behind a position. */
function unreadBehind(tx: Reader, user: UserId, room: RoomId, position: number): Promise<UnreadCount[]> {
  return tx.all<UnreadCount>(
    `SELECT n.thread, COUNT(*) AS notifications, SUM(n.highlight) AS highlights FROM notified n
     WHERE n.room = ? AND n.position > ? AND ${IS_NOTIFIED} GROUP BY n.thread`,
    ...[room, position, asJson(user)],
  );
}

/** Whether what a user has not read of a room has changed after a position. */
export async function hasChangedUnread(
  reader: Reader,
  user: string,
  room: string,
  after: number,
): Promise<boolean> {
  const row = await reader.get(
    'SELECT 1 AS found FROM unread WHERE user_id = ? AND room = ? AND changed > ? LIMIT 1',
    ...[user, room, after],
  );
  return row !== undefined;
}

/** Removes what counts for one user in a room. @returns whether anything did */
export async function deleteUnread(tx: Transaction, user: UserId, room: RoomId): Promise<boolean> {
  return (await tx.run('DELETE FROM unread WHERE user_id = ? AND room = ?', user, room)) > 0;
}

/**
 * Removes what one event has notified users of.
 * @param at where clients are told
 * @returns whose counts that changes
 */
export async function deleteNotificationsOf(
  tx: Transaction,
  { room, position, at }: { readonly room: RoomId; readonly position: number; readonly at: number },
): Promise<UserId[]> {
  const parts = await tx.all<{ thread: string; highlight: number; users: string }>(
    'SELECT thread, highlight, users FROM notified WHERE room = ? AND position = ?',
    ...[room, position],
  );
  const changed: UserId[] = [];
  for (const { thread, highlight, users } of parts) {
    const those = await tx.all<{ user: UserId }>(
      `UPDATE unread SET notifications = notifications - 1, highlights = highlights - ?, changed = ?
       WHERE room = ? AND thread = ? AND read_up_to < ? AND user_id IN (SELECT value FROM json_each(?))
       RETURNING user_id AS user`,
      ...[highlight, at, room, thread, position, users],
    );
    changed.push(...those.map(({ user }) => user));
  }
  if (parts.length > 0) await tx.run('DELETE FROM notified WHERE room = ? AND position = ?', room, position);
  return changed;
}

/** What a user has not read of a room, by thread. */
export function unreadCounts(reader: Reader, user: string, room: string): Promise<UnreadCount[]> {
  return reader.all<UnreadCount>(
    `SELECT thread, notifications, highlights FROM unread
     WHERE user_id = ? AND room = ? AND notifications > 0 ORDER BY thread`,
    ...[user, room],
  );
}

/** How much a user has not read in all rooms. */
export async function unreadOf(reader: Reader, user: UserId): Promise<number> {
  const row = await reader.get<{ unread: number }>(
    'SELECT COALESCE(SUM(notifications), 0) AS unread FROM unread WHERE user_id = ?',
    user,
  );
  return row!.unread;
}

const COLUMNS = 'n.position, n.room, n.thread, n.highlight, n.actions, n.received';

/** A user's notifications before a position, newest first, of rooms that they are in or invited to. */
export function notificationsBefore(
  reader: Reader,
  user: UserId,
  before: number,
  { limit, highlights }: { readonly limit: number; readonly highlights: boolean },
): Promise<NotificationRow[]> {
  return reader.all<NotificationRow>(
    `SELECT ${COLUMNS}, COALESCE(u.read_up_to < n.position, 0) AS unread
     FROM memberships m JOIN notified n ON n.room = m.room
       LEFT JOIN unread u ON u.room = n.room AND u.thread = n.thread AND u.user_id = m.user_id
     WHERE m.user_id = ? AND m.membership IN ('join', 'invite') AND n.position < ? AND ${IS_NOTIFIED}
       ${highlights ? 'AND n.highlight = 1' : ''}
     ORDER BY n.position DESC LIMIT ?`,
    ...[user, before, asJson(user), limit],
  );
}

/** A user's oldest notification behind a position that has not been read. */
export function nextNotification(
  reader: Reader,
  user: UserId,
  after: number,
): Promise<NotificationRow | undefined> {
  return reader.get<NotificationRow>(
    `SELECT ${COLUMNS}, 1 AS unread
     FROM unread u JOIN notified n ON n.room = u.room AND n.position > MAX(u.read_up_to, ?) AND n.thread = u.thread
     WHERE u.user_id = ? AND u.notifications > 0 AND ${IS_NOTIFIED} ORDER BY n.position LIMIT 1`,
    ...[after, user, asJson(user)],
  );
}

/** The event at a position that has notified a user: of a room, or an invite to one that this server does not have. */
export async function notifiedEvent(
  reader: Reader,
  user: UserId,
  room: RoomId,
  position: number,
): Promise<{ readonly event_id: string; readonly json: string } | undefined> {
  return reader.get(
    `SELECT event_id, json FROM events WHERE position = ?
     UNION ALL SELECT event_id, json FROM provisional_events WHERE position = ?
     UNION ALL SELECT event_id, event_json FROM memberships
       WHERE user_id = ? AND room = ? AND position = ? AND event_json IS NOT NULL
     LIMIT 1`,
    ...[position, position, user, room, position],
  );
}

/** The first room behind another one, by id, that has notified anybody. */
export async function nextNotifying(reader: Reader, after: string): Promise<RoomId | undefined> {
  const row = await reader.get<{ room: RoomId | null }>(
    'SELECT MIN(room) AS room FROM notified WHERE room > ?',
    after,
  );
  return row?.room ?? undefined;
}

/**
 * Removes the oldest notifications of a room where they came before an instant, and what has nothing unread before them.
 * @returns whether there may be more
 */
export async function pruneNotifications(
  tx: Transaction,
  room: RoomId,
  { before, most }: { readonly before: Millis; readonly most: number },
): Promise<boolean> {
  const oldest = await tx.all<{ position: number; received: Millis }>(
    'SELECT position, received FROM notified WHERE room = ? ORDER BY position LIMIT ?',
    ...[room, most],
  );
  const last = oldest.findLast(({ received }) => received < before);
  if (last === undefined) return false;
  await tx.run('DELETE FROM notified WHERE room = ? AND position <= ?', room, last.position);
  await tx.run(
    'DELETE FROM unread WHERE room = ? AND notifications = 0 AND changed <= ?',
    ...[room, last.position],
  );
  return last === oldest.at(-1);
}

/** Removes what counts for a user anywhere. */
export async function deleteAllUnread(tx: Transaction, user: UserId): Promise<void> {
  await tx.run('DELETE FROM unread WHERE user_id = ?', user);
}
