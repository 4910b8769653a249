import type { EventId } from '../../matrix/ids.ts';
import type { ResolvedEvent } from '../../matrix/state_resolution.ts';
import type { Reader } from '../../storage/database.ts';
import { eventsById, type RejectedBy, type StoredEvent } from '../../storage/events.ts';

/** An event that is stored or about to be. */
export interface FoundEvent extends ResolvedEvent {
  readonly rejectedBy: RejectedBy | null;
}

/** How many events are kept. At a kilobyte or two each, some megabytes. */
const MAX_EVENTS = 4_000;

/** Committed events by id, those used last kept in memory. */
export class EventCache {
  readonly #db: Reader;
  /** In the order of use, the oldest first. */
  readonly #events = new Map<EventId, StoredEvent>();
  /** Counts what was dropped, so that a read that began before keeps nothing stale. */
  #dropped = 0;

  constructor(db: Reader) {
    this.#db = db;
  }

  /** Those of the events that are stored. */
  async load(ids: Iterable<EventId>): Promise<Map<EventId, StoredEvent>> {
    const found = new Map<EventId, StoredEvent>();
    const missing: EventId[] = [];
    for (const id of new Set(ids)) {
      const cached = this.#events.get(id);
      if (cached === undefined) missing.push(id);
      else {
        found.set(id, cached);
        this.#keep(cached);
      }
    }
    if (missing.length === 0) return found;
    const before = this.#dropped;
    for (const stored of await eventsById(this.#db, missing)) {
      found.set(stored.event.id, stored);
      if (this.#dropped === before) this.#keep(stored);
    }
    return found;
  }

  /** `load`, as resolution and authorisation want it. */
  async find(ids: Iterable<EventId>): Promise<Map<EventId, FoundEvent>> {
    const found = new Map<EventId, FoundEvent>();
    for (const [id, { event, status, rejectedBy }] of await this.load(ids)) {
      found.set(id, { event, rejected: status === 'rejected', rejectedBy });
    }
    return found;
  }

  /** One event, or undefined where it is not stored. */
  async get(id: EventId): Promise<StoredEvent | undefined> {
    return (await this.load([id])).get(id);
  }

  /** Forgets events that a commit has changed; called after that commit. */
  drop(ids: Iterable<EventId>): void {
    this.#dropped++;
    for (const id of ids) this.#events.delete(id);
  }

  #keep(stored: StoredEvent): void {
    this.#events.delete(stored.event.id);
    this.#events.set(stored.event.id, stored);
    if (this.#events.size <= MAX_EVENTS) return;
    const [oldest] = this.#events.keys();
    this.#events.delete(oldest!);
  }
}
