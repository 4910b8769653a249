import type { Outbox } from '../homeserver/ports.ts';
import type { ServerName } from '../matrix/ids.ts';
import type { Event } from '../matrix/pdu.ts';
import type { Transaction } from '../storage/database.ts';
import { enqueuePdu } from '../storage/outbox.ts';
import { pduJson } from './pdu_json.ts';

/** The queues in the database: an event is in them from the moment that the transaction which persists it commits. */
export class LocalOutbox implements Outbox {
  readonly #wake: (destinations: Iterable<ServerName>) => void;

  /** @param wake told, after the commit, which destinations have something new */
  constructor(wake: (destinations: Iterable<ServerName>) => void) {
    this.#wake = wake;
  }

  async enqueue(tx: Transaction, event: Event, destinations: ReadonlySet<ServerName>): Promise<void> {
    if (destinations.size === 0) return;
    await enqueuePdu(tx, { eventId: event.id, json: JSON.stringify(pduJson(event.pdu)) }, destinations);
    tx.afterCommit(() => this.#wake(destinations));
  }
}
