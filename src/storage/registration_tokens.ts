import type { Reader, Transaction } from './database.ts';

export interface RegistrationTokenRow {
  /** SHA-256 of the token. */
  readonly hash: Uint8Array;
  /** How many more accounts it makes; null: any number. */
  readonly usesLeft: number | null;
  /** Unix time in milliseconds from which on it is not valid; null: never. */
  readonly expires: number | null;
}

export async function insertRegistrationToken(
  tx: Transaction,
  token: RegistrationTokenRow,
  now: number,
): Promise<void> {
  await tx.run(
    'INSERT INTO registration_tokens (token_hash, uses_left, created, expires) VALUES (?, ?, ?, ?)',
    token.hash,
    token.usesLeft,
    now,
    token.expires,
  );
}

const VALID = 'token_hash = ? AND (uses_left IS NULL OR uses_left > 0) AND (expires IS NULL OR expires > ?)';

export async function isRegistrationTokenValid(
  reader: Reader,
  hash: Uint8Array,
  now: number,
): Promise<boolean> {
  return (await reader.get(`SELECT 1 FROM registration_tokens WHERE ${VALID}`, hash, now)) !== undefined;
}

/** Takes one use off the token; answers false where it is not valid. */
export async function useRegistrationToken(tx: Transaction, hash: Uint8Array, now: number): Promise<boolean> {
  return (
    (await tx.run(`UPDATE registration_tokens SET uses_left = uses_left - 1 WHERE ${VALID}`, hash, now)) === 1
  );
}

/** Whether a token was ever issued, used up or not. */
export async function isAnyRegistrationTokenIssued(reader: Reader): Promise<boolean> {
  return (await reader.get('SELECT 1 FROM registration_tokens LIMIT 1')) !== undefined;
}

/** Every token that was issued and not deleted, used up ones too, the oldest first. */
export async function listRegistrationTokens(
  reader: Reader,
): Promise<(RegistrationTokenRow & { readonly created: number })[]> {
  return reader.all(
    `SELECT token_hash AS hash, uses_left AS usesLeft, expires, created FROM registration_tokens
     ORDER BY created, token_hash`,
  );
}

/** Answers whether there was such a token. */
export async function deleteRegistrationToken(tx: Transaction, hash: Uint8Array): Promise<boolean> {
  return (await tx.run('DELETE FROM registration_tokens WHERE token_hash = ?', hash)) === 1;
}
