import type { Millis } from '../base/time.ts';
import type { DeviceId, UserId } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

/** What makes a pusher, of one user, another one than others. */
export interface PusherName {
  readonly appId: string;
  readonly pushkey: string;
}

export interface PusherRow extends PusherName {
  readonly id: number;
  readonly user: UserId;
  /** JSON text of an object. */
  readonly content: string;
  /** Unix time. */
  readonly pushkeyTs: Millis;
  /** The gateway has been told of everything up to here in the delivery stream. */
  readonly position: number;
  /** The count that it was told last. */
  readonly badge: number;
  readonly failures: number;
  /** Unix time. */
  readonly retryAt: Millis;
}

const SELECT = `SELECT id, user_id AS "user", app_id AS "appId", pushkey, content, pushkey_ts AS "pushkeyTs", position,
  badge, failures, retry_at AS "retryAt" FROM pushers`;

export function pushersOf(reader: Reader, user: UserId): Promise<PusherRow[]> {
  return reader.all<PusherRow>(`${SELECT} WHERE user_id = ? ORDER BY id`, user);
}

export function findPusher(reader: Reader, id: number): Promise<PusherRow | undefined> {
  return reader.get<PusherRow>(`${SELECT} WHERE id = ?`, id);
}

/** The pushers of all users, whose are whose. */
export function allPushers(reader: Reader): Promise<{ readonly id: number; readonly user: UserId }[]> {
  return reader.all('SELECT id, user_id AS "user" FROM pushers ORDER BY id');
}

/** Sets a pusher; one that is there goes on where it is, at once where it was waiting. */
export async function putPusher(
  tx: Transaction,
  pusher: Pick<PusherRow, 'user' | 'appId' | 'pushkey' | 'content' | 'pushkeyTs' | 'position' | 'badge'> & {
    readonly device: DeviceId;
  },
): Promise<void> {
  const { user, device, appId, pushkey, content, pushkeyTs, position, badge } = pusher;
  await tx.run(
    `INSERT INTO pushers (user_id, device_id, app_id, pushkey, content, pushkey_ts, position, badge, failures, retry_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 0)
     ON CONFLICT (user_id, app_id, pushkey) DO UPDATE SET
       device_id = excluded.device_id, content = excluded.content, pushkey_ts = excluded.pushkey_ts, failures = 0, retry_at = 0`,
    ...[user, device, appId, pushkey, content, pushkeyTs, position, badge],
  );
}

export async function deletePusher(tx: Transaction, user: UserId, name: PusherName): Promise<void> {
  await tx.run(
    'DELETE FROM pushers WHERE user_id = ? AND app_id = ? AND pushkey = ?',
    ...[user, name.appId, name.pushkey],
  );
}

/** Removes the pushers of that name of all users but one. */
export async function deletePushersOfOthers(tx: Transaction, user: UserId, name: PusherName): Promise<void> {
  await tx.run(
    'DELETE FROM pushers WHERE user_id <> ? AND app_id = ? AND pushkey = ?',
    ...[user, name.appId, name.pushkey],
  );
}

/** Notes how far a pusher has come. One that was set anew meanwhile keeps its own failures. */
export async function movePusher(
  tx: Transaction,
  { id, pushkeyTs }: Pick<PusherRow, 'id' | 'pushkeyTs'>,
  to: Pick<PusherRow, 'position' | 'badge' | 'failures' | 'retryAt'>,
): Promise<void> {
  await tx.run('UPDATE pushers SET position = ?, badge = ? WHERE id = ?', to.position, to.badge, id);
  await tx.run(
    'UPDATE pushers SET failures = ?, retry_at = ? WHERE id = ? AND pushkey_ts = ?',
    ...[to.failures, to.retryAt, id, pushkeyTs],
  );
}
