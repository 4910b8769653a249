import type { Millis } from '../base/time.ts';
import type { DeviceId, UserId } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

/** An access token, and the refresh token that was issued with it. Hashes are SHA-256. */
export interface TokenPair {
  readonly hash: Uint8Array;
  /** Unix time in milliseconds from which on it is not valid; null: it does not expire. */
  readonly expires: Millis | null;
  /** Of the refresh token; null where there is none. */
  readonly refreshHash: Uint8Array | null;
}

/** A pair, whose it is, and how that device and account are. */
export interface TokenOwner extends TokenPair {
  readonly user: UserId;
  readonly device: DeviceId;
  /** The pair that this one takes the place of as soon as either half is used; null: it has. */
  readonly replaces: Uint8Array | null;
  readonly locked: 0 | 1;
  readonly suspended: 0 | 1;
}

const SELECT = `SELECT t.token_hash AS hash, t.expires, t.refresh_hash AS refreshHash, t.replaces,
    t.user_id AS user, t.device_id AS device, u.locked, u.suspended
  FROM access_tokens t JOIN users u ON u.user_id = t.user_id`;

/** Whose token it is. @param hash of the access token */
export function accessTokenOwner(reader: Reader, hash: Uint8Array): Promise<TokenOwner | undefined> {
  return reader.get<TokenOwner>(`${SELECT} WHERE t.token_hash = ?`, hash);
}

/** Whose token it is. @param hash of the refresh token */
export function refreshTokenOwner(reader: Reader, hash: Uint8Array): Promise<TokenOwner | undefined> {
  return reader.get<TokenOwner>(`${SELECT} WHERE t.refresh_hash = ?`, hash);
}

/** Makes this the only pair of the device. */
export async function setTokens(
  tx: Transaction,
  user: UserId,
  device: DeviceId,
  pair: TokenPair,
  now: Millis,
): Promise<void> {
  await removeTokens(tx, user, device);
  await insertPair(tx, user, device, pair, null, now);
}

export async function removeTokens(tx: Transaction, user: UserId, device: DeviceId): Promise<void> {
  await tx.run('DELETE FROM access_tokens WHERE user_id = ? AND device_id = ?', user, device);
}

/** Adds the pair that is to follow `old`, in the place of any that was to follow it before. */
export async function addSuccessor(
  tx: Transaction,
  old: TokenOwner,
  pair: TokenPair,
  now: Millis,
): Promise<void> {
  await tx.run('DELETE FROM access_tokens WHERE replaces = ? AND user_id = ?', old.hash, old.user);
  await insertPair(tx, old.user, old.device, pair, old.hash, now);
}

/** Notes that a pair is in use, so that the one before it is not valid any more. */
export async function settle(tx: Transaction, { hash, user, device }: TokenOwner): Promise<void> {
  await tx.run(
    'DELETE FROM access_tokens WHERE user_id = ? AND device_id = ? AND token_hash = (SELECT replaces FROM access_tokens WHERE token_hash = ?)',
    user,
    device,
    hash,
  );
  await tx.run('UPDATE access_tokens SET replaces = NULL WHERE token_hash = ?', hash);
}

async function insertPair(
  tx: Transaction,
  user: UserId,
  device: DeviceId,
  { hash, expires, refreshHash }: TokenPair,
  replaces: Uint8Array | null,
  now: Millis,
): Promise<void> {
  await tx.run(
    `INSERT INTO access_tokens (token_hash, user_id, device_id, created, expires, refresh_hash, replaces)
     VALUES (?, ?, ?, ?, ?, ?, ?)`,
    hash,
    user,
    device,
    now,
    expires,
    refreshHash,
    replaces,
  );
}
