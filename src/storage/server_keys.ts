import type { Millis } from '../base/time.ts';
import type { KeyId, ServerName } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

/** A signing key of another server, as the table `server_keys` keeps it. */
export interface StoredKey {
  readonly keyId: KeyId;
  /** Unpadded base64. */
  readonly publicKey: string;
  /** Unix time in milliseconds up to which an event may carry this key's signature. */
  readonly validUntil: Millis;
  /** From `old_verify_keys`: good for events only. */
  readonly retired: boolean;
  /** Unix time in milliseconds up to which the key API over HTTPS has confirmed the key; 0: never. */
  readonly confirmedUntil: Millis;
}

interface KeyRow {
  readonly key_id: string;
  readonly public_key: string;
  readonly valid_until: number;
  readonly retired: number;
  readonly confirmed_until: number;
}

export async function keysOf(db: Reader, server: ServerName): Promise<StoredKey[]> {
  const rows = await db.all<KeyRow>(
    'SELECT key_id, public_key, valid_until, retired, confirmed_until FROM server_keys WHERE server_name = ? ORDER BY key_id',
    server,
  );
  return rows.map((row) => ({
    keyId: row.key_id as KeyId,
    publicKey: row.public_key,
    validUntil: row.valid_until,
    retired: row.retired === 1,
    confirmedUntil: row.confirmed_until,
  }));
}

/** Stores a key, in the place of what was known under its id; a confirmation of the same key is kept. */
export async function putKey(tx: Transaction, server: ServerName, key: StoredKey): Promise<void> {
  await tx.run(
    `INSERT INTO server_keys (server_name, key_id, public_key, valid_until, retired, confirmed_until)
     VALUES (?, ?, ?, ?, ?, ?)
     ON CONFLICT (server_name, key_id) DO UPDATE SET
       confirmed_until = CASE
         WHEN server_keys.public_key = excluded.public_key AND server_keys.confirmed_until > excluded.confirmed_until
         THEN server_keys.confirmed_until ELSE excluded.confirmed_until END,
       public_key = excluded.public_key, valid_until = excluded.valid_until, retired = excluded.retired`,
    server,
    key.keyId,
    key.publicKey,
    key.validUntil,
    key.retired ? 1 : 0,
    key.confirmedUntil,
  );
}

/** The key API names all keys that are in use: before its answer is stored, what it confirmed earlier counts no more. */
export async function unconfirmKeys(tx: Transaction, server: ServerName): Promise<void> {
  await tx.run('UPDATE server_keys SET confirmed_until = 0 WHERE server_name = ?', server);
}
