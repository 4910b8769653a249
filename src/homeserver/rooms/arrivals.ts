import { type Arrival, deleteArrival, isArrival, listArrivals, putArrival } from '../../storage/arrivals.ts';
import type { Database, Transaction } from '../../storage/database.ts';
import { membershipOf } from '../../storage/memberships.ts';

/** What follows when a local user has come into a room: done behind the join, also where the process ends in between. */
export class Arrivals {
  readonly #database: Database;
  readonly #follow: (arrival: Arrival) => Promise<void>;

  /** @param follow may be called twice for one arrival */
  constructor(database: Database, follow: (arrival: Arrival) => Promise<void>) {
    this.#database = database;
    this.#follow = follow;
  }

  /** Does what the last run has left. */
  async start(): Promise<void> {
    for (const arrival of await listArrivals(this.#database)) await this.finish(arrival);
  }

  /** As part of the transaction that stores the join. */
  note(tx: Transaction, arrival: Arrival): Promise<void> {
    return putArrival(tx, arrival);
  }

  /** Does what follows, where that was noted and not done yet. */
  async finish(arrival: Arrival): Promise<void> {
    if (!(await isArrival(this.#database, arrival))) return;
    const row = await membershipOf(this.#database, arrival.room, arrival.user);
    if (row?.membership === 'join') await this.#follow(arrival);
    await this.#database.transaction((tx) => deleteArrival(tx, arrival));
  }
}
