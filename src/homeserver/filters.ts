import { createHash } from 'node:crypto';
import { MatrixError } from '../matrix/error.ts';
import type { UserId } from '../matrix/ids.ts';
import type { JsonObject } from '../matrix/json.ts';
import type { Database } from '../storage/database.ts';
import { findFilter, storeFilter } from '../storage/filters.ts';
import { type Done, notNoted } from './once.ts';

/** Filters of one user; of more, the oldest go, and a client that still names one uploads it again. */
const MAX_FILTERS = 1_000;
/** Of JSON text. */
const MAX_FILTER_LENGTH = 64 * 1024;

/** Filters that clients upload once and name afterwards (client-server API, "Filtering"). */
export class Filters {
  readonly #database: Database;

  constructor({ database }: { readonly database: Database }) {
    this.#database = database;
  }

  /** Stores a filter and answers its id, the same for the same filter. @throws MatrixError M_TOO_LARGE */
  async put(user: UserId, filter: JsonObject, done: Done<string> = notNoted): Promise<string> {
    const json = JSON.stringify(filter);
    if (json.length > MAX_FILTER_LENGTH)
      throw new MatrixError(413, 'M_TOO_LARGE', 'The filter is too large.');
    const hash = createHash('sha256').update(json).digest();
    return this.#database.transaction(async (tx) => {
      const id = String(await storeFilter(tx, { user, hash, json }, MAX_FILTERS));
      await done(tx, id);
      return id;
    });
  }

  /** A filter that this user uploaded. */
  async get(user: UserId, id: string): Promise<JsonObject | undefined> {
    if (!/^[0-9]{1,15}$/.test(id)) return undefined;
    const json = await findFilter(this.#database, user, Number(id));
    return json === undefined ? undefined : (JSON.parse(json) as JsonObject);
  }
}
