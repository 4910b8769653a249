import type { UserId } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

export interface AccountRow {
  readonly user: UserId;
  /** PHC string of argon2id; null where no password lets anybody in. */
  readonly passwordHash: string | null;
}

export async function findAccount(reader: Reader, user: UserId): Promise<AccountRow | undefined> {
  const row = await reader.get<{ password_hash: string | null }>(
    'SELECT password_hash FROM users WHERE user_id = ?',
    user,
  );
  return row === undefined ? undefined : { user, passwordHash: row.password_hash };
}

/** Answers false, and changes nothing, where the user id is taken. */
export async function insertAccount(tx: Transaction, account: AccountRow, now: number): Promise<boolean> {
  const changed = await tx.run(
    'INSERT INTO users (user_id, password_hash, created) VALUES (?, ?, ?) ON CONFLICT DO NOTHING',
    account.user,
    account.passwordHash,
    now,
  );
  return changed === 1;
}

export async function setPasswordHash(tx: Transaction, user: UserId, hash: string): Promise<void> {
  await tx.run('UPDATE users SET password_hash = ? WHERE user_id = ?', hash, user);
}
