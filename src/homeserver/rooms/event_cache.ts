import type { EventId } from '../../matrix/ids.ts';
import type { ResolvedEvent } from '../../matrix/state_resolution.ts';
import type { Reader } from '../../storage/database.ts';
import { eventsById, type RejectedBy, type StoredEvent } from '../../storage/events.ts';
import { LastUsed } from './last_used.ts';

/** An event that is stored or about to be. */
export interface FoundEvent extends ResolvedEvent {
  readonly rejectedBy: RejectedBy | null;
}

/** How many characters of JSON the events have that are kept, so that large ones do not fill the memory. */
const MAX_CHARACTERS = 8_000_000;

/** Committed events by id, those used last kept in memory. */
export class EventCache {
  readonly #db: Reader;
  readonly #events = new LastUsed<EventId, StoredEvent>(MAX_CHARACTERS, ({ characters }) => characters);
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
      else found.set(id, cached);
    }
    if (missing.length === 0) return found;
    const before = this.#dropped;
    for (const stored of await eventsById(this.#db, missing)) {
      found.set(stored.event.id, stored);
      if (this.#dropped === before) this.#events.keep(stored.event.id, stored);
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
    for (const id of ids) this.#events.drop(id);
  }
}
