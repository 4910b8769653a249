import type { Clock } from '../base/time.ts';
import { forbidden, invalidParam, notFound } from '../matrix/error.ts';
import type { EventId, RoomId, UserId } from '../matrix/ids.ts';
import { findAccountData } from '../storage/account_data.ts';
import type { Database, Reader, Transaction } from '../storage/database.ts';
import { membershipOf } from '../storage/memberships.ts';
import { MAIN_TIMELINE } from '../storage/push_notifications.ts';
import {
  countReceipts,
  dropOldestThreadReceipt,
  putReceipt,
  type ReceiptRow,
  type ReceiptType,
  receiptEvent,
} from '../storage/receipts.ts';
import { type EventRow, roomRow, timelineEvent } from '../storage/sync.ts';
import type { AccountData } from './account_data.ts';
import type { Notifier } from './notifier.ts';
import type { EphemeralOutbox } from './ports.ts';
import type { Notifications } from './push/notifications.ts';
import { type Rate, RateLimit } from './rate_limit.ts';
import { contentOf } from './sync/membership.ts';
import { threadRoot } from './threads.ts';

/** Client-server API, "Threaded read receipts": the thread of what is in none. */
const MAIN = 'main';

// Ours.
const RECEIPTS: Rate = { burst: 100, intervalMs: 200 };
/** Of one user in one room: threads whose newest receipt is kept, for each type. */
const MAX_RECEIPTS = 1_000;
/** Characters of a thread's id that another server may send. */
const MAX_THREAD_LENGTH = 255;

export interface Markers {
  readonly fullyRead?: EventId | undefined;
  readonly read?: EventId | undefined;
  readonly readPrivate?: EventId | undefined;
  /** 'main' or the root of a thread; undefined: the receipts have none. */
  readonly threadId?: string | undefined;
}

/** A receipt as another server tells it, its room and user apart. */
export interface ReceivedReceipt {
  readonly user: UserId;
  readonly event: EventId;
  readonly ts: number;
  readonly threadId: string | undefined;
}

/** Receipts and the fully read marker (client-server API, "Receipts", "Read and unread markers"). */
export class Receipts {
  readonly #database: Database;
  readonly #clock: Clock;
  readonly #notifier: Pick<Notifier, 'published'>;
  readonly #accountData: AccountData;
  readonly #outbox: EphemeralOutbox;
  readonly #notifications: Pick<Notifications, 'read'> | undefined;
  readonly #limit: RateLimit;

  constructor(of: {
    readonly database: Database;
    readonly clock: Clock;
    readonly notifier: Pick<Notifier, 'published'>;
    readonly accountData: AccountData;
    readonly outbox: EphemeralOutbox;
    readonly notifications?: Pick<Notifications, 'read'>;
  }) {
    this.#database = of.database;
    this.#clock = of.clock;
    this.#notifier = of.notifier;
    this.#accountData = of.accountData;
    this.#outbox = of.outbox;
    this.#notifications = of.notifications;
    this.#limit = new RateLimit(of.clock, RECEIPTS);
  }

  /**
   * Moves a local user's markers to events of a room; one that names an event before the present one stays.
   * @throws MatrixError M_FORBIDDEN where they are not in the room, M_NOT_FOUND where an event is not,
   * M_INVALID_PARAM where the thread is not the event's, M_LIMIT_EXCEEDED
   */
  async mark(user: UserId, room: RoomId, markers: Markers): Promise<void> {
    this.#limit.take(user);
    const { fullyRead, read, readPrivate, threadId } = markers;
    if (threadId !== undefined && (threadId === '' || fullyRead !== undefined))
      throw invalidParam('thread_id is empty, or the marker has no threads.');
    if ((await membershipOf(this.#database, room, user))?.membership !== 'join')
      throw forbidden('You are not in this room.');
    const named = [fullyRead, read, readPrivate].filter((event) => event !== undefined);
    const events = new Map<EventId, EventRow>();
    for (const id of new Set(named)) events.set(id, await this.#event(room, id, threadId));

    const ts = this.#clock.wall();
    const thread = threadId ?? '';
    await this.#database.transaction(async (tx) => {
      const positions: (number | undefined)[] = [];
      if (fullyRead !== undefined)
        positions.push(await this.#moveFullyRead(tx, user, room, events.get(fullyRead)!));
      for (const [type, event] of [
        ['m.read', read],
        ['m.read.private', readPrivate],
      ] as const) {
        if (event === undefined) continue;
        const moved = await moveReceipt(tx, room, { user_id: user, type, thread, event_id: event, ts });
        positions.push(moved);
        const upTo = events.get(event)!.position;
        if (moved !== undefined && upTo !== null)
          await this.#notifications?.read(tx, { user, room, upTo, thread: threadIn(threadId), at: moved });
        if (moved !== undefined && type === 'm.read')
          await this.#outbox.receipt(tx, room, { user, event, ts, threadId });
      }
      this.#publish(tx, positions, room, user, read === undefined);
    });
  }

  /** What another server says that its user has read; what is not to be believed is left out. */
  async received(room: RoomId, { user, event, ts, threadId }: ReceivedReceipt): Promise<void> {
    if (threadId !== undefined && (threadId === '' || threadId.length > MAX_THREAD_LENGTH)) return;
    if ((await membershipOf(this.#database, room, user))?.membership !== 'join') return;
    const receipt = { user_id: user, type: 'm.read', thread: threadId ?? '', event_id: event, ts } as const;
    await this.#database.transaction(async (tx) => {
      this.#publish(tx, [await moveReceipt(tx, room, receipt)], room, user, false);
    });
  }

  #publish(
    tx: Transaction,
    positions: readonly (number | undefined)[],
    room: RoomId,
    user: UserId,
    isPrivate: boolean,
  ): void {
    const position = positions.findLast((each) => each !== undefined);
    if (position === undefined) return;
    tx.afterCommit(() => this.#notifier.published(position, isPrivate ? [] : [room], [user]));
  }

  async #moveFullyRead(
    tx: Transaction,
    user: UserId,
    room: RoomId,
    event: EventRow,
  ): Promise<number | undefined> {
    const text = await findAccountData(tx, { user, room, type: 'm.fully_read' });
    const before = text === undefined ? undefined : (JSON.parse(text) as { event_id: string }).event_id;
    if (before !== undefined && (await isBehind(tx, room, event.event_id, before))) return undefined;
    return this.#accountData.putFullyRead(tx, user, room, event.event_id);
  }

  async #event(room: RoomId, id: EventId, threadId: string | undefined): Promise<EventRow> {
    const found = await roomRow(this.#database, room);
    const row = found && (await timelineEvent(this.#database, found.id, id));
    if (found === undefined || row === undefined) throw notFound('There is no such event in this room.');
    if (threadId !== undefined && !(await isInThread(this.#database, found.id, row, threadId)))
      throw invalidParam('The event is not part of that thread.');
    return row;
  }
}

/** What a receipt's thread is among those of notifications; undefined: all of them. */
const threadIn = (threadId: string | undefined): string | undefined =>
  threadId === MAIN ? MAIN_TIMELINE : threadId;

/** Stores a receipt unless the user has one of that thread at the same event or behind it. */
async function moveReceipt(tx: Transaction, room: RoomId, receipt: ReceiptRow): Promise<number | undefined> {
  const before = await receiptEvent(tx, room, receipt);
  if (before !== undefined && (await isBehind(tx, room, receipt.event_id, before))) return undefined;
  if (before === undefined && (await countReceipts(tx, room, receipt.user_id)) >= MAX_RECEIPTS)
    await dropOldestThreadReceipt(tx, room, receipt.user_id);
  return putReceipt(tx, room, receipt);
}

/** Whether an event is the other one, or came before it; of what is not known here it is taken that it is new. */
async function isBehind(reader: Reader, room: RoomId, event: string, other: string): Promise<boolean> {
  if (event === other) return true;
  const row = (await roomRow(reader, room))?.id;
  if (row === undefined) return false;
  const [one, two] = [await timelineEvent(reader, row, event), await timelineEvent(reader, row, other)];
  if (one === undefined || two === undefined) return false;
  if (one.position === null || two.position === null)
    return one.position === null && (two.position !== null || one.depth < two.depth);
  return one.position < two.position;
}

/** Client-server API, "Threaded read receipts": which events are in a thread, and which in the main timeline. */
async function isInThread(reader: Reader, room: number, event: EventRow, threadId: string): Promise<boolean> {
  const root = await threadRoot(reader, room, contentOf(event.json));
  return threadId === MAIN ? root === undefined : root === threadId || event.event_id === threadId;
}

/** What a receipt's type is in a path; undefined: there is no such type. */
export function markersOf(type: string, event: EventId, threadId: string | undefined): Markers | undefined {
  if (type === 'm.fully_read') return { fullyRead: event, threadId };
  if (type === ('m.read' satisfies ReceiptType)) return { read: event, threadId };
  return type === ('m.read.private' satisfies ReceiptType) ? { readPrivate: event, threadId } : undefined;
}
