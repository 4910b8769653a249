import type { Millis } from '../base/time.ts';
import type { KeyId, ServerName } from '../matrix/ids.ts';
import type { JsonObject } from '../matrix/json.ts';
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
  /** The server that has told it, where that is not the key's owner. */
  readonly notary?: ServerName;
}

/** Documents that are kept; past it those go first that end first. Anybody can have any number of servers asked. */
const MAX_DOCUMENTS = 10_000;

/** A key document as its server has signed it. */
export interface StoredDocument {
  /** Its valid_until_ts: Unix time in milliseconds. */
  readonly validUntil: Millis;
  readonly document: JsonObject;
}

interface KeyRow {
  readonly key_id: string;
  readonly public_key: string;
  readonly valid_until: number;
  readonly retired: number;
  readonly confirmed_until: number;
  readonly notary: string | null;
}

export async function keysOf(db: Reader, server: ServerName): Promise<StoredKey[]> {
  const rows = await db.all<KeyRow>(
    'SELECT key_id, public_key, valid_until, retired, confirmed_until, notary FROM server_keys WHERE server_name = ? ORDER BY key_id',
    server,
  );
  return rows.map((row) => ({
    keyId: row.key_id as KeyId,
    publicKey: row.public_key,
    validUntil: row.valid_until,
    retired: row.retired === 1,
    confirmedUntil: row.confirmed_until,
    ...(row.notary !== null && { notary: row.notary as ServerName }),
  }));
}

/** Stores a key that its owner has told, in the place of what was known under its id; a confirmation of the same key is kept. */
export async function putKey(tx: Transaction, server: ServerName, key: StoredKey): Promise<void> {
  await tx.run(
    `INSERT INTO server_keys (server_name, key_id, public_key, valid_until, retired, confirmed_until)
     VALUES (?, ?, ?, ?, ?, ?)
     ON CONFLICT (server_name, key_id) DO UPDATE SET
       confirmed_until = CASE
         WHEN server_keys.public_key = excluded.public_key AND server_keys.confirmed_until > excluded.confirmed_until
         THEN server_keys.confirmed_until ELSE excluded.confirmed_until END,
       public_key = excluded.public_key, valid_until = excluded.valid_until, retired = excluded.retired,
       notary = NULL`,
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

/** Stores a key that another server than its owner has told, unless its owner has told one under that id. */
export async function putNotaryKey(
  tx: Transaction,
  server: ServerName,
  { keyId, publicKey, validUntil, retired }: StoredKey,
  notary: ServerName,
): Promise<void> {
  await tx.run(
    `INSERT INTO server_keys (server_name, key_id, public_key, valid_until, retired, notary)
     VALUES (?, ?, ?, ?, ?, ?)
     ON CONFLICT (server_name, key_id) DO UPDATE SET
       public_key = excluded.public_key, valid_until = excluded.valid_until, retired = excluded.retired,
       notary = excluded.notary
     WHERE server_keys.notary IS NOT NULL`,
    ...[server, keyId, publicKey, validUntil, retired ? 1 : 0, notary],
  );
}

/** The owner of the keys has spoken: what others have said of them counts no more. */
export async function deleteNotaryKeys(tx: Transaction, server: ServerName): Promise<void> {
  await tx.run('DELETE FROM server_keys WHERE server_name = ? AND notary IS NOT NULL', server);
}

export async function keyDocumentOf(db: Reader, server: ServerName): Promise<StoredDocument | undefined> {
  const row = await db.get<{ readonly valid_until: number; readonly json: string }>(
    'SELECT valid_until, json FROM key_documents WHERE server_name = ?',
    server,
  );
  return row && { validUntil: row.valid_until, document: JSON.parse(row.json) as JsonObject };
}

export async function putKeyDocument(
  tx: Transaction,
  server: ServerName,
  { validUntil, document }: StoredDocument,
): Promise<void> {
  await tx.run(
    `INSERT INTO key_documents (server_name, valid_until, json) VALUES (?, ?, ?)
     ON CONFLICT (server_name) DO UPDATE SET valid_until = excluded.valid_until, json = excluded.json`,
    ...[server, validUntil, JSON.stringify(document)],
  );
  await tx.run(
    `DELETE FROM key_documents WHERE server_name IN
       (SELECT server_name FROM key_documents ORDER BY valid_until DESC LIMIT -1 OFFSET ?)`,
    MAX_DOCUMENTS,
  );
}
