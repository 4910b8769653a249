import { base64url } from '../../base/bytes.ts';
import type { Clock, Millis } from '../../base/time.ts';
import { sha256 } from '../../crypto/sha256.ts';
import type { EventId, ServerName } from '../../matrix/ids.ts';
import type { Event, Pdu } from '../../matrix/pdu.ts';
import type { Database, Transaction } from '../../storage/database.ts';
import type { EventStatus } from '../../storage/events.ts';
import {
  countKept,
  dropKept,
  type KeptEvent,
  type KeptState,
  keepPlace,
  keptById,
  placedIds,
  putKept,
  putNotice,
} from '../../storage/provisional.ts';
import { findRoom } from '../../storage/rooms.ts';
import { nextPosition } from '../../storage/stream.ts';
import type { Notifier } from '../notifier.ts';
import type { Notifications } from '../push/notifications.ts';
import type { RoomWriter } from './room_writer.ts';
import { authoriseBy } from './verdict.ts';

// Events whose signature has not come yet
// ---------------------------------------
// They are in a table of their own and in no part of the room: not its extremities, not its state, not what is served to
// other servers. Clients are shown them at a place in the delivery stream. When such an event becomes part of the room,
// which is done as for any other, the same transaction gives it the place at which clients have it already: so nobody is
// told of it twice. When it comes to nothing, clients are told of a redaction that no other server knows.

/** An event to keep. */
export interface ToKeep {
  readonly event: Event;
  readonly origin: ServerName;
  readonly state: Exclude<KeptState, 'refetching'>;
  readonly key: KeptEvent['key'];
}

export class ProvisionalEvents {
  readonly #database: Database;
  readonly #clock: Pick<Clock, 'wall'>;
  readonly #notifier: Pick<Notifier, 'published'>;
  readonly #writer: RoomWriter;
  readonly #notifications: Pick<Notifications, 'shown' | 'withdrawn'> | undefined;

  constructor(options: {
    readonly database: Database;
    readonly clock: Pick<Clock, 'wall'>;
    readonly notifier: Pick<Notifier, 'published'>;
    readonly writer: RoomWriter;
    readonly notifications?: Pick<Notifications, 'shown' | 'withdrawn'>;
  }) {
    this.#database = options.database;
    this.#clock = options.clock;
    this.#notifier = options.notifier;
    this.#writer = options.writer;
    this.#notifications = options.notifications;
  }

  /** Whether the room as it is now would let the sender send this, so that clients may be shown it. */
  isAllowed(event: Event): Promise<boolean> {
    return this.#writer.locked(event.room, async () => {
      const draft = await this.#writer.open(event.room);
      return draft !== undefined && (await authoriseBy(draft, event, draft.current)).ok;
    });
  }

  /**
   * Keeps an event; durable when this resolves. One that is kept or stored already stays as it is. Clients are shown it
   * where it waits for its signature.
   * @param most how many events of a server are kept
   * @returns whether it is kept, or stored; false: there are too many, or the room is not known here
   */
  async keep({ event, origin, state, key }: ToKeep, most: number): Promise<boolean> {
    const received = this.#clock.wall();
    return this.#database.transaction(async (tx) => {
      if ((await placedIds(tx, [event.id])).size > 0 || (await keptById(tx, [event.id])).length > 0)
        return true;
      const room = await findRoom(tx, event.room);
      if (room === undefined || room.currentGroup === null || (await countKept(tx, origin)) >= most)
        return false;
      const position = state === 'provisional' ? await nextPosition(tx) : null;
      const at = { received, position, stateGroup: room.currentGroup, room: room.row };
      await putKept(tx, { event, origin, state, key, ...at });
      if (position !== null) await this.#notifications?.shown(tx, { event, position }, received);
      if (position !== null) tx.afterCommit(() => this.#notifier.published(position, [event.room], []));
      return true;
    });
  }

  /** Forgets an event that has come to nothing, and tells clients that were shown it. */
  async retract(id: EventId, reason: 'rejected' | 'quarantined'): Promise<void> {
    const now = this.#clock.wall();
    await this.#database.transaction(async (tx) => {
      const [kept] = await keptById(tx, [id]);
      if (kept === undefined) return;
      await dropKept(tx, id);
      if (kept.position === null) return;
      const position = await tellOfEnd(tx, kept, reason, now);
      await this.#notifications?.withdrawn(tx, kept.event.room, kept.position, position);
      tx.afterCommit(() => this.#notifier.published(position, [kept.event.room], []));
    });
  }
}

/** What has become of kept events. */
export interface Settled {
  /** The last position that was taken, or null. */
  readonly position: number | null;
  /** Those that clients have been shown before. */
  readonly shown: ReadonlySet<EventId>;
  /** Those that have come to nothing: where clients were shown them, and where they are told of it. */
  readonly ended: readonly { readonly position: number; readonly at: number }[];
}

/**
 * Takes events that have just been stored in their room from among those that were kept, in the same transaction.
 */
export async function settleProvisional(
  tx: Transaction,
  entries: readonly { readonly event: Event; readonly status: EventStatus }[],
  now: Millis,
): Promise<Settled> {
  const ids = entries.flatMap(({ event, status }) => (status === 'outlier' ? [] : [event.id]));
  const kept = new Map((await keptById(tx, ids)).map((one) => [one.event.id, one]));
  const shown = new Set<EventId>();
  const ended: { position: number; at: number }[] = [];
  for (const { event, status } of entries) {
    const one = kept.get(event.id);
    if (one === undefined || status === 'outlier') continue;
    await dropKept(tx, event.id);
    if (one.position === null) continue;
    if (status === 'timeline') {
      shown.add(event.id);
      await keepPlace(tx, event.id, one.position);
    } else ended.push({ position: one.position, at: await tellOfEnd(tx, one, 'rejected', now) });
  }
  return { position: ended.at(-1)?.at ?? null, shown, ended };
}

/** @returns the position at which clients are told */
async function tellOfEnd(
  tx: Transaction,
  { event, room, stateGroup }: KeptEvent,
  reason: 'rejected' | 'quarantined',
  now: Millis,
): Promise<number> {
  const position = await nextPosition(tx);
  const pdu: Pdu = {
    ...event.pdu,
    type: 'm.room.redaction',
    content: { redacts: event.id },
    origin_server_ts: now,
    prev_events: [],
    auth_events: [],
    // It is nowhere in the room.
    depth: 0,
    signatures: {},
  };
  const id = `$${base64url(sha256(`org.ravine.retracted ${event.id}`))}` as EventId;
  await putNotice(tx, { event: { ...event, id, pdu }, reason, room, position, stateGroup });
  return position;
}
