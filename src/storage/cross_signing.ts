import type { DeviceId, UserId } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

/** What a cross-signing key is for. */
export type KeyUsage = 'master' | 'self_signing' | 'user_signing';

export interface CrossSigningRow {
  readonly usage: KeyUsage;
  /** Unpadded base64. */
  readonly publicKey: string;
  /** JSON text of the object as it was uploaded. */
  readonly key: string;
}

export function crossSigningKeys(reader: Reader, user: UserId): Promise<CrossSigningRow[]> {
  return reader.all<CrossSigningRow>(
    'SELECT usage, public_key AS publicKey, key FROM cross_signing_keys WHERE user_id = ?',
    user,
  );
}

/** Sets a key. What the one before has signed, and the signatures that it had, are worth nothing any more and go. */
export async function putCrossSigningKey(
  tx: Transaction,
  user: UserId,
  { usage, publicKey, key }: CrossSigningRow,
): Promise<void> {
  await dropCrossSigningKey(tx, user, usage);
  await tx.run(
    'INSERT INTO cross_signing_keys (user_id, usage, public_key, key) VALUES (?, ?, ?, ?)',
    ...[user, usage, publicKey, key],
  );
}

/** Removes a key with what it has signed and the signatures that it had. */
export async function dropCrossSigningKey(tx: Transaction, user: UserId, usage: KeyUsage): Promise<void> {
  const row = await tx.get<{ public: string }>(
    'SELECT public_key AS public FROM cross_signing_keys WHERE user_id = ? AND usage = ?',
    ...[user, usage],
  );
  if (row === undefined) return;
  await tx.run('DELETE FROM cross_signing_keys WHERE user_id = ? AND usage = ?', user, usage);
  await tx.run('DELETE FROM key_signatures WHERE user_id = ? AND key_id = ?', user, row.public);
  await tx.run(
    'DELETE FROM key_signatures WHERE signer = ? AND signer_key = ?',
    user,
    `ed25519:${row.public}`,
  );
}

/** Removes everything that a user has to do with cross-signing but what others have signed. @returns whether there was a key */
export async function dropCrossSigning(tx: Transaction, user: UserId): Promise<boolean> {
  const keys = await tx.run('DELETE FROM cross_signing_keys WHERE user_id = ?', user);
  await tx.run('DELETE FROM key_signatures WHERE signer = ?', user);
  await tx.run('DELETE FROM private_device_lists WHERE viewer = ?', user);
  return keys > 0;
}

/** Whether a cross-signing key of a user has this public key, which a device's id must not be. */
export async function isCrossSigningKey(reader: Reader, user: UserId, text: string): Promise<boolean> {
  const row = await reader.get(
    'SELECT 1 FROM cross_signing_keys WHERE user_id = ? AND public_key = ?',
    ...[user, text],
  );
  return row !== undefined;
}

/** A signature of a key that came after it. */
export interface SignatureRow {
  /** A device's id, or a master key's public key. */
  readonly keyId: string;
  readonly signer: UserId;
  /** With the algorithm. */
  readonly signerKey: string;
  readonly signature: string;
}

/** The signatures of a user's keys by one signer. */
export function signaturesBy(reader: Reader, user: UserId, signer: UserId): Promise<SignatureRow[]> {
  return reader.all<SignatureRow>(
    `SELECT key_id AS keyId, signer, signer_key AS signerKey, signature FROM key_signatures
     WHERE user_id = ? AND signer = ? ORDER BY key_id, signer_key`,
    ...[user, signer],
  );
}

/** Adds a signature, or takes one's place. @returns whether that changed anything */
export async function putSignature(tx: Transaction, user: UserId, row: SignatureRow): Promise<boolean> {
  const changed = await tx.run(
    `INSERT INTO key_signatures (user_id, key_id, signer, signer_key, signature) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT (user_id, key_id, signer, signer_key) DO UPDATE SET signature = excluded.signature
       WHERE key_signatures.signature <> excluded.signature`,
    ...[user, row.keyId, row.signer, row.signerKey, row.signature],
  );
  return changed > 0;
}

/** Forgets the signatures of a device's keys. */
export async function dropSignaturesOf(tx: Transaction, user: UserId, device: DeviceId): Promise<void> {
  await tx.run('DELETE FROM key_signatures WHERE user_id = ? AND key_id = ?', user, device);
}

/** Forgets the signatures of a device's keys, and those that it has made. */
export async function dropDeviceSignatures(tx: Transaction, user: UserId, device: DeviceId): Promise<void> {
  await dropSignaturesOf(tx, user, device);
  await tx.run('DELETE FROM key_signatures WHERE signer = ? AND signer_key = ?', user, `ed25519:${device}`);
}
