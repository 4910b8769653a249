import type { Clock } from '../../base/time.ts';
import type { RoomId, ServerName } from '../../matrix/ids.ts';
import type { Event } from '../../matrix/pdu.ts';
import type { RoomVersion } from '../../matrix/room_version.ts';
import type { Database, Transaction } from '../../storage/database.ts';
import type { Notifier } from '../notifier.ts';
import type { Outbox } from '../ports.ts';
import type { Notifications } from '../push/notifications.ts';
import { writeDraft } from './commit.ts';
import { EventCache } from './event_cache.ts';
import { settleProvisional } from './provisional.ts';
import { RoomDraft } from './room_draft.ts';
import { RoomLocks } from './room_locks.ts';
import { StateStore } from './state_store.ts';

/** What has happened in the rooms since the start. */
export interface RoomCounters {
  /** Events after which a room had more than one forward extremity. */
  forks: number;
  /** State resolutions over states that differed. */
  resolutions: number;
  soft_failed: number;
  rejected: number;
}

/** The one way in which rooms are written: a draft under the room's lock, then one transaction. */
export class RoomWriter {
  readonly events: EventCache;
  readonly states: StateStore;
  readonly #database: Database;
  readonly #clock: Clock;
  readonly #serverName: ServerName;
  readonly #outbox: Outbox;
  readonly #notifier: Pick<Notifier, 'published'>;
  readonly #notifications: Pick<Notifications, 'committed'> | undefined;
  readonly #locks = new RoomLocks();
  readonly #counters = { forks: 0, soft_failed: 0, rejected: 0 };

  constructor(options: {
    readonly database: Database;
    readonly clock: Clock;
    readonly serverName: ServerName;
    readonly outbox: Outbox;
    readonly notifier: Pick<Notifier, 'published'>;
    /** Left out: events notify nobody. */
    readonly notifications?: Pick<Notifications, 'committed'> | undefined;
  }) {
    this.#database = options.database;
    this.#clock = options.clock;
    this.#serverName = options.serverName;
    this.#outbox = options.outbox;
    this.#notifier = options.notifier;
    this.#notifications = options.notifications;
    this.events = new EventCache(options.database);
    this.states = new StateStore(options.database, this.events);
  }

  get counters(): RoomCounters {
    return { ...this.#counters, resolutions: this.states.resolutions };
  }

  /** Runs `task` while nothing else reads the room to write it. Not reentrant. */
  locked<T>(room: RoomId, task: () => Promise<T>): Promise<T> {
    return this.#locks.run(room, task);
  }

  /** The room as it is stored, or undefined where this server never was in it. The caller holds the lock. */
  open(room: RoomId): Promise<RoomDraft | undefined> {
    return RoomDraft.open({ db: this.#database, events: this.events, states: this.states }, room);
  }

  /** A room that is not stored yet. The caller holds the lock. */
  begin(create: Event, version: RoomVersion): RoomDraft {
    return RoomDraft.begin({ db: this.#database, events: this.events, states: this.states }, create, version);
  }

  /**
   * Stores what a draft adds; afterwards tells those who wait. The caller holds the lock.
   * @param also runs in the same transaction
   */
  async commit(draft: RoomDraft, also?: (tx: Transaction) => Promise<void>): Promise<void> {
    const services = { states: this.states, outbox: this.#outbox, serverName: this.#serverName };
    await this.#database.transaction(async (tx) => {
      const now = this.#clock.wall();
      const committed = await writeDraft(tx, draft, services, now);
      const settled = await settleProvisional(tx, draft.entries, now);
      committed.position = settled.position ?? committed.position;
      await this.#notifications?.committed(tx, draft, { committed, settled, now });
      await also?.(tx);
      tx.afterCommit(() => {
        this.states.settle(committed.written);
        this.events.drop(committed.changed);
        this.#count(draft);
        if (committed.position !== null) {
          this.#notifier.published(committed.position, [draft.room], committed.users);
        }
      });
    });
  }

  #count(draft: RoomDraft): void {
    for (const { status } of draft.entries) {
      if (status === 'soft_failed' || status === 'rejected') this.#counters[status]++;
    }
    if (draft.extremities.length > 1) this.#counters.forks++;
  }
}
