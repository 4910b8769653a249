import type { Millis } from '../base/time.ts';
import type { UserId } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

/** What is good for a short time: login tokens for one login, OpenID tokens for asking who somebody is. */
export type ShortTokenTable = 'login_tokens' | 'openid_tokens';

/** Adds a token; of the user's older ones only the latest `most - 1` that have not expired stay. @param hash SHA-256 */
export async function addShortToken(
  tx: Transaction,
  table: ShortTokenTable,
  { hash, user, expires }: { readonly hash: Uint8Array; readonly user: UserId; readonly expires: Millis },
  most: number,
  now: Millis,
): Promise<void> {
  await tx.run(`DELETE FROM ${table} WHERE user_id = ? AND expires <= ?`, user, now);
  await tx.run(
    `DELETE FROM ${table} WHERE user_id = ? AND token_hash NOT IN
       (SELECT token_hash FROM ${table} WHERE user_id = ? ORDER BY expires DESC LIMIT ?)`,
    user,
    user,
    most - 1,
  );
  await tx.run(`INSERT INTO ${table} (token_hash, user_id, expires) VALUES (?, ?, ?)`, hash, user, expires);
}

/** Whose token it is, where it has not expired. */
export async function shortTokenOwner(
  reader: Reader,
  table: ShortTokenTable,
  hash: Uint8Array,
  now: Millis,
): Promise<UserId | undefined> {
  const row = await reader.get<{ user: UserId }>(
    `SELECT user_id AS user FROM ${table} WHERE token_hash = ? AND expires > ?`,
    hash,
    now,
  );
  return row?.user;
}

export async function deleteShortToken(
  tx: Transaction,
  table: ShortTokenTable,
  hash: Uint8Array,
): Promise<void> {
  await tx.run(`DELETE FROM ${table} WHERE token_hash = ?`, hash);
}

/** Deletes all short-lived tokens of a user. */
export async function deleteShortTokens(tx: Transaction, user: UserId): Promise<void> {
  await tx.run('DELETE FROM login_tokens WHERE user_id = ?', user);
  await tx.run('DELETE FROM openid_tokens WHERE user_id = ?', user);
}
