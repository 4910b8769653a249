import type { Millis } from '../base/time.ts';
import type { Database, Reader, Transaction } from './database.ts';
import type { Sealing, SecretPlace } from './sealing.ts';

/** What a key is for. "signing": ed25519, for events and requests; "noise": x25519, for pipes. */
export type KeyPurpose = 'signing' | 'noise';

/** One of this server's secret keys. */
export interface OwnKey {
  readonly keyId: string;
  /** 32 bytes. Never logged. */
  readonly secret: Uint8Array;
}

/** A key with the time at which it was made. */
export interface DatedKey extends OwnKey {
  /** Unix time in milliseconds. */
  readonly created: Millis;
}

/** A signing key that this server used to have. */
export interface RetiredKey {
  readonly keyId: string;
  /** Unpadded base64. */
  readonly publicKey: string;
  /** Unix time in milliseconds. */
  readonly expired: Millis;
}

/** Retired keys that are published at most, the newest. Others take up to 64 keys in one document. */
const MAX_RETIRED = 32;

/**
 * The newest key for a purpose; made by `create`, and durable before it is answered, where there is none yet.
 * @param now Unix time in milliseconds
 */
export function ownKey(
  database: Database,
  sealing: Sealing,
  purpose: KeyPurpose,
  create: () => OwnKey,
  now: Millis,
): Promise<OwnKey> {
  return database.transaction(async (tx) => {
    const key = await currentKey(tx, sealing, purpose);
    if (key !== undefined) return key;
    const created = create();
    await putOwnKey(tx, sealing, purpose, { ...created, created: now });
    return created;
  });
}

/** The key that is in use; undefined before the first start. */
export const currentKey = (
  db: Reader,
  sealing: Sealing,
  purpose: KeyPurpose,
): Promise<DatedKey | undefined> => newest(db, sealing, purpose);

/** The key that the next start changes to; undefined where it changes nothing. */
export const nextKey = (db: Reader, sealing: Sealing, purpose: KeyPurpose): Promise<DatedKey | undefined> =>
  newest(db, sealing, nextOf(purpose));

/** Puts a key in the place of the one in use at the next start. */
export async function putNextKey(
  tx: Transaction,
  sealing: Sealing,
  purpose: KeyPurpose,
  key: DatedKey,
): Promise<void> {
  await dropNextKey(tx, purpose);
  await putOwnKey(tx, sealing, nextOf(purpose), key);
}

/** Leaves the key in use where it is. Returns whether another was to come. */
export async function dropNextKey(tx: Transaction, purpose: KeyPurpose): Promise<boolean> {
  tx.erasesSecrets();
  return (await tx.run('DELETE FROM own_keys WHERE purpose = ?', nextOf(purpose))) > 0;
}

/**
 * Takes the next key into use and removes those before it. Sessions of the pipe go, since in them the peers would not
 * learn of it. Returns whether there was one.
 */
export async function promoteNextKey(
  tx: Transaction,
  sealing: Sealing,
  purpose: KeyPurpose,
): Promise<boolean> {
  const next = await nextKey(tx, sealing, purpose);
  if (next === undefined) return false;
  tx.erasesSecrets();
  await tx.run('DELETE FROM own_keys WHERE purpose IN (?, ?)', purpose, nextOf(purpose));
  await putOwnKey(tx, sealing, purpose, next);
  await tx.run('DELETE FROM pipe_sessions');
  return true;
}

export async function retireKey(tx: Transaction, key: RetiredKey): Promise<void> {
  await tx.run(
    'INSERT INTO own_retired_keys (key_id, public_key, expired) VALUES (?, ?, ?) ON CONFLICT DO NOTHING',
    key.keyId,
    key.publicKey,
    key.expired,
  );
}

/** The signing keys that this server used to have, the newest first. */
export async function retiredKeys(db: Reader): Promise<RetiredKey[]> {
  const rows = await db.all<{ key_id: string; public_key: string; expired: number }>(
    'SELECT key_id, public_key, expired FROM own_retired_keys ORDER BY expired DESC, key_id LIMIT ?',
    MAX_RETIRED,
  );
  return rows.map((row) => ({ keyId: row.key_id, publicKey: row.public_key, expired: row.expired }));
}

/** The value of a fact, which is written the first time that it is asked for. */
export function serverFact(tx: Transaction, name: string, value: string): Promise<string> {
  return tx
    .run('INSERT INTO server_facts (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING', name, value)
    .then(() => writtenFact(tx, name))
    .then((written) => written ?? value);
}

/** The value of a fact, or undefined where it has not been written yet. */
export async function writtenFact(db: Reader, name: string): Promise<string | undefined> {
  return (await db.get<{ value: string }>('SELECT value FROM server_facts WHERE name = ?', name))?.value;
}

const nextOf = (purpose: KeyPurpose): string => `${purpose}_next`;

const placeOf = (purpose: string, keyId: string): SecretPlace => ['own_keys', 'secret', purpose, keyId];

async function newest(db: Reader, sealing: Sealing, purpose: string): Promise<DatedKey | undefined> {
  const row = await db.get<{ key_id: string; secret: Uint8Array; created: number }>(
    'SELECT key_id, secret, created FROM own_keys WHERE purpose = ? ORDER BY created DESC, key_id DESC LIMIT 1',
    purpose,
  );
  return (
    row && {
      keyId: row.key_id,
      secret: sealing.open(placeOf(purpose, row.key_id), row.secret),
      created: row.created,
    }
  );
}

async function putOwnKey(tx: Transaction, sealing: Sealing, purpose: string, key: DatedKey): Promise<void> {
  await tx.run(
    'INSERT INTO own_keys (purpose, key_id, secret, created) VALUES (?, ?, ?, ?)',
    purpose,
    key.keyId,
    sealing.seal(placeOf(purpose, key.keyId), key.secret),
    key.created,
  );
}
