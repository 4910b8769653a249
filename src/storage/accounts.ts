import type { Millis } from '../base/time.ts';
import type { UserId } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

export interface AccountRow {
  readonly user: UserId;
  /** PHC string of argon2id; null where no password lets anybody in. */
  readonly passwordHash: string | null;
  /** Unix time in milliseconds. */
  readonly created: Millis;
  /** Whether it administers this server. */
  readonly admin: boolean;
  readonly locked: boolean;
  readonly suspended: boolean;
  /** When it was deactivated, for ever; Unix time in milliseconds. */
  readonly deactivated: Millis | null;
  /** The position of the stream at which the user asked for their events to be erased. */
  readonly erased: number | null;
}

interface Columns {
  readonly user_id: string;
  readonly password_hash: string | null;
  readonly created: number;
  readonly admin: number;
  readonly locked: number;
  readonly suspended: number;
  readonly deactivated: number | null;
  readonly erased: number | null;
}

const COLUMNS = 'user_id, password_hash, created, admin, locked, suspended, deactivated, erased';

const fromColumns = (row: Columns): AccountRow => ({
  user: row.user_id as UserId,
  passwordHash: row.password_hash,
  created: row.created,
  admin: row.admin === 1,
  locked: row.locked === 1,
  suspended: row.suspended === 1,
  deactivated: row.deactivated,
  erased: row.erased,
});

/** The account of a user id, deactivated or not. */
export async function findAccount(reader: Reader, user: UserId): Promise<AccountRow | undefined> {
  const row = await reader.get<Columns>(`SELECT ${COLUMNS} FROM users WHERE user_id = ?`, user);
  return row === undefined ? undefined : fromColumns(row);
}

/** Answers false, and changes nothing, where the user id is taken or ever was. */
export async function insertAccount(
  tx: Transaction,
  account: Pick<AccountRow, 'user' | 'passwordHash'> & { readonly admin?: boolean },
  now: Millis,
): Promise<boolean> {
  const changed = await tx.run(
    'INSERT INTO users (user_id, password_hash, created, admin) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING',
    account.user,
    account.passwordHash,
    now,
    account.admin === true ? 1 : 0,
  );
  return changed === 1;
}

/** @param hash null: no password lets anybody in */
export async function setPasswordHash(tx: Transaction, user: UserId, hash: string | null): Promise<void> {
  await tx.run('UPDATE users SET password_hash = ? WHERE user_id = ?', hash, user);
}

export type AccountFlag = 'admin' | 'locked' | 'suspended';

/** Answers whether there is such an account that is not deactivated. */
export async function setAccountFlag(
  tx: Transaction,
  user: UserId,
  flag: AccountFlag,
  value: boolean,
): Promise<boolean> {
  const changed = await tx.run(
    `UPDATE users SET ${flag} = ? WHERE user_id = ? AND deactivated IS NULL`,
    value ? 1 : 0,
    user,
  );
  return changed === 1;
}

/**
 * Marks an account as deactivated, for ever: nobody logs in as it and it administers nothing.
 * @param erased the position of the stream from which on its events are shown redacted to newcomers; null: they are not
 */
export async function markDeactivated(
  tx: Transaction,
  user: UserId,
  now: Millis,
  erased: number | null,
): Promise<void> {
  await tx.run(
    `UPDATE users SET password_hash = NULL, admin = 0, deactivated = COALESCE(deactivated, ?),
       erased = COALESCE(erased, ?) WHERE user_id = ?`,
    now,
    erased,
    user,
  );
}

/** Of these senders those whose events are erased, with the position of the stream at which that was asked for. */
export async function erasedAmong(
  reader: Reader,
  users: readonly string[],
): Promise<ReadonlyMap<string, number>> {
  const rows = await reader.all<{ user: string; erased: number }>(
    `SELECT user_id AS user, erased FROM users WHERE erased IS NOT NULL
     AND user_id IN (SELECT value FROM json_each(?))`,
    JSON.stringify(users),
  );
  return new Map(rows.map(({ user, erased }) => [user, erased]));
}

/** Notes which version of which document a user has accepted. */
export async function acceptTerms(
  tx: Transaction,
  user: UserId,
  versions: ReadonlyMap<string, string>,
  now: Millis,
): Promise<void> {
  for (const [policy, version] of versions)
    await tx.run(
      `INSERT INTO accepted_terms (user_id, policy, version, accepted) VALUES (?, ?, ?, ?)
       ON CONFLICT (user_id, policy) DO UPDATE SET version = excluded.version, accepted = excluded.accepted`,
      user,
      policy,
      version,
      now,
    );
}

/** Notes that a user is to leave all rooms. */
export async function addDeparture(tx: Transaction, user: UserId): Promise<void> {
  await tx.run('INSERT INTO departures (user_id) VALUES (?) ON CONFLICT DO NOTHING', user);
}

/** Who is still to leave rooms, by user id. */
export async function listDepartures(reader: Reader): Promise<UserId[]> {
  const rows = await reader.all<{ user: UserId }>('SELECT user_id AS user FROM departures ORDER BY user_id');
  return rows.map(({ user }) => user);
}

/** Notes that a user has left all rooms. */
export async function removeDeparture(tx: Transaction, user: UserId): Promise<void> {
  await tx.run('DELETE FROM departures WHERE user_id = ?', user);
}
