import type { Clock, Millis } from '../base/time.ts';
import type { FederatedRooms } from '../homeserver/rooms/federated_rooms.ts';
import { MatrixError } from '../matrix/error.ts';
import type { EventId, RoomId, ServerName } from '../matrix/ids.ts';
import { type JsonValue, parseJson } from '../matrix/json.ts';
import type { Database, Transaction } from '../storage/database.ts';
import {
  expireInbox,
  type InboxPart,
  type InboxPdu,
  inboxOrigins,
  isInboxOverfull,
  nextInInbox,
  putInInbox,
  removeFromInbox,
  thinInbox,
  type WaitingPdu,
} from '../storage/inbox.ts';
import { isJoinAttempted } from '../storage/join_attempts.ts';
import { Slots } from './bounded.ts';
import { Lanes, MAX_RETRY_MS, type Postponement } from './lanes.ts';
import type { Log } from './log.ts';
import { Budget } from './remote_events.ts';

// How an event that cannot be decided yet is kept
// -----------------------------------------------
// A PDU of a room that this server is just joining, and one of which something is missing that cannot be fetched now,
// go into the inbox in the transaction that records the answer. From that commit on they are ours to care for, and their
// sender is told that they have arrived. They stay until the room has accepted or rejected them. That nobody can be
// asked is no reason to let one go, short of MAX_AGE_MS, and that is logged as a loss.
//
// When a join ends, what waits for the room is taken in the order in which it came, whoever sent it, without asking
// anybody for anything. All else is tried again in a lane for each origin: at start, when the origin speaks, and after
// a time that doubles. A new PDU of a room in which others are just being taken goes behind them.
//
// A room that is stuck for long must not fill the inbox, and must not keep the other rooms of its origin out, so that
// the transaction is answered with 200 however many of its PDUs overflow. Keeping the oldest and refusing the rest would
// lose these for good, since a refusal is final. Keeping only the newest would lose what lies further back than a gap is
// filled. So the inbox is thinned: the oldest and the newest of the origin in the room stay, and between them a PDU is
// shed where those before and after it stay, lie below and above it, and are close. A server builds an event on those
// that it has sent before, so that the one that stays has the shed one among its ancestors, and get_missing_events
// brings it once the room is no longer stuck. Close means fifty steps of depth: servers tell as few as twenty
// events at a time, and a gap is filled in four rounds. That covers ten thousand events; each time it is logged as a
// warning. A PDU that cannot be shed so, beyond that or from a server whose depths do not grow, is refused in the
// answer, where its sender sees it. Only a server with too many PDUs in many rooms is told to keep a transaction, and
// so is everyone when the inbox as a whole is full.

/** Requests that one attempt at the waiting PDUs of one server may cause. */
const MAX_REQUESTS = 200;
/** Lanes that are tried at a time. */
const MAX_RUNNING = 64;
/** Doubled with each further attempt that leaves something, up to MAX_RETRY_MS. */
const FIRST_RETRY_MS: Millis = 10_000;
/** Whatever hindered a PDU for so long will hinder it for ever, and the room has gone on. */
const MAX_AGE_MS: Millis = 7 * 24 * 60 * 60 * 1000;

interface InboxOptions {
  readonly serverName: ServerName;
  readonly database: Database;
  readonly clock: Clock;
  readonly log: Log;
  readonly rooms: Pick<FederatedRooms, 'isServerInRoom'>;
  /** See ReceiverOptions. */
  readonly joining: (room: RoomId) => Promise<unknown> | undefined;
  /**
   * Tries a PDU once more, which came at `received`, Unix time in milliseconds.
   * @returns whether it is decided, so that it need not be kept
   */
  readonly take: (
    { origin, room, received }: Pick<WaitingPdu, 'origin' | 'room' | 'received'>,
    pdu: JsonValue,
    budget: Budget,
  ) => Promise<boolean>;
}

/** PDUs that have been answered for and are not decided. */
export class Inbox {
  readonly #options: InboxOptions;
  readonly #lanes: Lanes;
  /** Attempts in a row that left something, by origin; only of lanes that are there. */
  readonly #failures = new Map<ServerName, number>();
  /** One place for each lane may wait. */
  readonly #slots = new Slots(MAX_RUNNING, Number.POSITIVE_INFINITY);
  /** Rooms whose joining is waited for, or whose PDUs are being taken after it. */
  readonly #joined = new Set<RoomId>();
  readonly #releasing = new Set<Promise<void>>();
  #isStopped = false;

  constructor(options: InboxOptions) {
    this.#options = options;
    this.#lanes = new Lanes({
      clock: options.clock,
      log: options.log,
      drain: (origin, signal) => this.#slots.run(() => this.#drain(origin, signal)),
      wokenRetry: () => FIRST_RETRY_MS,
    });
  }

  /** Goes on with what waits. Before it nothing is tried again, except when a join ends. */
  async start(): Promise<void> {
    this.#lanes.start();
    for (const origin of await inboxOrigins(this.#options.database)) this.#lanes.wake(origin);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#lanes.stop();
    await Promise.all(this.#releasing);
  }

  peerSpoke(server: ServerName): void {
    this.#lanes.peerSpoke(server);
  }

  /** Whether a PDU has to go behind others, or its room is not here yet. */
  async mustWait(origin: ServerName, room: RoomId): Promise<boolean> {
    const { rooms, joining, serverName } = this.#options;
    if (this.#joined.has(room)) return true;
    if (await rooms.isServerInRoom(room, serverName))
      return this.#lanes.isRunning(origin) && this.#holds({ origin, room });
    const join = joining(room);
    if (join !== undefined) this.#follow(room, join);
    if (join !== undefined || (await this.#holds({ room }))) return true;
    // A join whose end nobody here has seen, since the link or this process broke off: the user makes it again.
    const { database, clock } = this.#options;
    return isJoinAttempted(database, room, clock.wall() - MAX_AGE_MS);
  }

  /**
   * Keeps PDUs of one server, in the transaction that records what it is answered.
   * @returns those for which there is no place in their room
   * @throws MatrixError 503 where there are too many over all rooms, so that their sender keeps them
   */
  async add(tx: Transaction, pdus: readonly WaitingPdu[]): Promise<ReadonlySet<EventId>> {
    const refused = new Set<EventId>();
    const origin = pdus[0]?.origin;
    if (origin === undefined) return refused;
    for (const pdu of pdus) await putInInbox(tx, pdu);
    for (const room of new Set(pdus.map((pdu) => pdu.room))) {
      const thinned = await thinInbox(tx, origin, room);
      for (const id of thinned.refused) refused.add(id);
      if (thinned.shed.length + thinned.refused.length > 0)
        tx.afterCommit(() =>
          this.#options.log.warn(
            { origin, room, ...thinned },
            'too many events of a room wait: those shed are to come with the gap before a later one, those refused are lost here',
          ),
        );
    }
    if (await isInboxOverfull(tx, origin))
      throw new MatrixError(503, 'M_UNKNOWN', 'Too many events wait for something that is missing.');
    tx.afterCommit(() => {
      // What has just been tried is not tried again at once.
      if (this.#lanes.has(origin)) this.#lanes.wake(origin);
      else this.#lanes.postpone(origin, { failures: 1, waitMs: FIRST_RETRY_MS });
    });
    return refused;
  }

  async #holds(part: InboxPart): Promise<boolean> {
    return (await nextInInbox(this.#options.database, part, 0)) !== undefined;
  }

  /** Takes what waits for a room once its joining ends. */
  #follow(room: RoomId, join: Promise<unknown>): void {
    if (this.#joined.has(room)) return;
    this.#joined.add(room);
    const release = (): void => {
      const running = this.#release(room)
        .catch((error: unknown) =>
          this.#options.log.warn(
            { room, error: String(error) },
            'taking the events of a room was interrupted',
          ),
        )
        .finally(() => {
          this.#joined.delete(room);
          this.#releasing.delete(running);
        });
      this.#releasing.add(running);
    };
    join.then(release, release);
  }

  async #release(room: RoomId): Promise<void> {
    const nothing = new Budget(0);
    for (let at = 0; !this.#isStopped; ) {
      const next = await nextInInbox(this.#options.database, { room }, at);
      if (next === undefined) break;
      at = next.position;
      await this.#try(next, nothing);
    }
    // In the same breath as the end of the loop, so that nothing is put behind it.
    this.#joined.delete(room);
    if (this.#isStopped) return;
    for (const origin of await inboxOrigins(this.#options.database, room)) this.#lanes.wake(origin);
  }

  /** Tries everything that waits of one server, in its order. */
  async #drain(origin: ServerName, signal: AbortSignal): Promise<Postponement | undefined> {
    const { database, joining } = this.#options;
    await this.#expire();
    const budget = new Budget(MAX_REQUESTS);
    let isLeft = false;
    for (let at = 0; !signal.aborted; ) {
      const next = await nextInInbox(database, { origin }, at);
      if (next === undefined) break;
      at = next.position;
      const join = joining(next.room);
      // The room answers nothing before it is joined, and others must not wait for that.
      if (join !== undefined) this.#follow(next.room, join);
      isLeft = this.#joined.has(next.room) || !(await this.#try(next, budget)) || isLeft;
    }
    if (!isLeft) {
      this.#failures.delete(origin);
      return undefined;
    }
    const failures = (this.#failures.get(origin) ?? 1) + 1;
    this.#failures.set(origin, failures);
    return { failures, waitMs: Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** (failures - 1)) };
  }

  /** @returns whether the PDU is decided, and so no longer there */
  async #try(waiting: InboxPdu, budget: Budget): Promise<boolean> {
    const isDecided = await this.#options.take(waiting, parseJson(waiting.json), budget);
    if (isDecided) await this.#options.database.transaction((tx) => removeFromInbox(tx, waiting.position));
    return isDecided;
  }

  async #expire(): Promise<void> {
    const { database, clock, log } = this.#options;
    const expired = await database.transaction((tx) => expireInbox(tx, clock.wall() - MAX_AGE_MS));
    for (const { origin, room, eventId } of expired)
      log.warn({ origin, room, eventId }, 'an event was lost: it could not be decided for too long');
  }
}
