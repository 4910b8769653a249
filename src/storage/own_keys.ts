import type { Database, Transaction } from './database.ts';

/** One of this server's secret keys. */
export interface OwnKey {
  readonly keyId: string;
  /** 32 bytes. Never logged. */
  readonly secret: Uint8Array;
}

/**
 * The newest key for a purpose; made by `create`, and durable before it is answered, where there is none yet.
 * @param now Unix time in milliseconds
 */
export function ownKey(
  database: Database,
  purpose: 'signing' | 'noise',
  create: () => OwnKey,
  now: number,
): Promise<OwnKey> {
  return database.transaction(async (tx) => {
    const row = await tx.get<{ key_id: string; secret: Uint8Array }>(
      'SELECT key_id, secret FROM own_keys WHERE purpose = ? ORDER BY created DESC, key_id DESC LIMIT 1',
      purpose,
    );
    if (row !== undefined) return { keyId: row.key_id, secret: new Uint8Array(row.secret) };
    const key = create();
    await tx.run(
      'INSERT INTO own_keys (purpose, key_id, secret, created) VALUES (?, ?, ?, ?)',
      purpose,
      key.keyId,
      key.secret,
      now,
    );
    return key;
  });
}

/** The value of a fact, which is written the first time that it is asked for. */
export function serverFact(tx: Transaction, name: string, value: string): Promise<string> {
  return tx
    .run('INSERT INTO server_facts (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING', name, value)
    .then(() => tx.get<{ value: string }>('SELECT value FROM server_facts WHERE name = ?', name))
    .then((row) => row?.value ?? value);
}
