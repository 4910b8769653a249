import type { ServerName } from '../matrix/ids.ts';
import type { Database, Transaction } from '../storage/database.ts';
import {
  deleteNotaryKeys,
  keysOf,
  putKey,
  putKeyDocument,
  putNotaryKey,
  type StoredDocument,
  type StoredKey,
  unconfirmKeys,
} from '../storage/server_keys.ts';
import { BoundedMap } from './bounded.ts';

const MAX_CACHED_SERVERS = 10_000;

/** Whether some of these the server has told itself. */
export const isKnown = (keys: readonly StoredKey[]): boolean =>
  keys.some(({ notary }) => notary === undefined);

/** The keys of other servers that are stored, and who has told them. */
export class KnownKeys {
  readonly #database: Database;
  readonly #keys = new BoundedMap<ServerName, readonly StoredKey[]>(MAX_CACHED_SERVERS);
  #stores = 0;

  constructor(database: Database) {
    this.#database = database;
  }

  async of(server: ServerName): Promise<readonly StoredKey[]> {
    const cached = this.#keys.get(server);
    if (cached !== undefined) return cached;
    const stores = this.#stores;
    const keys = await keysOf(this.#database, server);
    // What was read before something was stored is not worth keeping.
    if (stores === this.#stores) this.#keys.set(server, keys);
    return keys;
  }

  /**
   * Keeps what the server itself has said, in the place of what others have said of it.
   * @param confirms these are all that the key API confirms, so that what it told before counts no more
   */
  store(
    server: ServerName,
    keys: readonly StoredKey[],
    { confirms = false, document }: { readonly confirms?: boolean; readonly document?: StoredDocument } = {},
  ): Promise<void> {
    return this.#change(server, async (tx) => {
      if (confirms) await unconfirmKeys(tx, server);
      await deleteNotaryKeys(tx, server);
      for (const key of keys) await putKey(tx, server, key);
      if (document !== undefined) await putKeyDocument(tx, server, document);
    });
  }

  /** Keeps what a notary has said, unless the server has spoken for itself meanwhile. */
  storeOfNotary(server: ServerName, keys: readonly StoredKey[], notary: ServerName): Promise<void> {
    return this.#change(server, async (tx) => {
      if (isKnown(await keysOf(tx, server))) return;
      for (const key of keys) await putNotaryKey(tx, server, key, notary);
    });
  }

  async #change(server: ServerName, write: (tx: Transaction) => Promise<void>): Promise<void> {
    await this.#database.transaction(async (tx) => {
      await write(tx);
      tx.afterCommit(() => {
        this.#stores++;
        this.#keys.delete(server);
      });
    });
  }
}
