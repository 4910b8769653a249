import type { Millis } from '../../base/time.ts';
import { limitExceeded } from '../../matrix/error.ts';
import type { ServerName } from '../../matrix/ids.ts';

/** Files of other servers that are fetched at a time. */
const MAX_FETCHES = 64;
/** Of those, of one server: one that answers slowly does not keep the others' files away. */
const MAX_FETCHES_OF_SERVER = 8;
const RETRY_AFTER_MS: Millis = 5_000;

/** Bounds how many files of other servers are fetched at a time. */
export class RemoteSlots {
  readonly #taken = new Map<ServerName, number>();
  #total = 0;

  /** @throws MatrixError M_LIMIT_EXCEEDED where too many are being fetched; else what `fetch` throws */
  async run<T>(server: ServerName, fetch: () => Promise<T>): Promise<T> {
    const taken = this.#taken.get(server) ?? 0;
    if (this.#total >= MAX_FETCHES || taken >= MAX_FETCHES_OF_SERVER)
      throw limitExceeded('Too many files of other servers are being fetched.', RETRY_AFTER_MS);
    this.#total++;
    this.#taken.set(server, taken + 1);
    try {
      return await fetch();
    } finally {
      this.#total--;
      const left = this.#taken.get(server)! - 1;
      if (left > 0) this.#taken.set(server, left);
      else this.#taken.delete(server);
    }
  }
}
