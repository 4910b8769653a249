import type { Clock, Millis } from '../base/time.ts';
import type { FederatedRooms, Received } from '../homeserver/rooms/federated_rooms.ts';
import { badJson, MatrixError } from '../matrix/error.ts';
import { parsePdu } from '../matrix/event_format.ts';
import { createdRoom } from '../matrix/hashes.ts';
import { type EventId, parseRoomId, type RoomId, type ServerName } from '../matrix/ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../matrix/json.ts';
import { DEFAULT_ROOM_VERSION, roomVersion } from '../matrix/room_version.ts';
import type { Database } from '../storage/database.ts';
import { storeAnswer, storedAnswer } from '../storage/federation_transactions.ts';
import { BoundedMap, Slots } from './bounded.ts';
import { admit, type GapOptions } from './gap.ts';
import type { Log } from './log.ts';
import { Budget, type EventChecker, type RemoteEvents } from './remote_events.ts';
import { FederationError } from './transport.ts';

// The specification's.
const MAX_PDUS = 50;
const MAX_EDUS = 100;

// Ours.
const MAX_TRANSACTION_ID_LENGTH = 255;
/** Transactions of one server that wait for the one under way. */
const MAX_WAITING_TRANSACTIONS = 10;
const BUSY_RETRY_MS: Millis = 5_000;
/** Requests that one transaction may cause. */
const MAX_REQUESTS = 200;
/** How often a transaction is given back because something could not be fetched; then it is taken as it is. */
const MAX_DEFERRALS = 3;
const MAX_DEFERRED_ORIGINS = 1_000;
const MAX_ERROR_TEXT = 200;
const NOT_IN_ROOM = 'This server is not in the room.';
/** PDUs kept for a room while this server joins it. */
const MAX_HELD_PDUS = 200;

export interface ReceiverOptions {
  readonly serverName: ServerName;
  readonly database: Database;
  readonly clock: Clock;
  readonly rooms: FederatedRooms;
  readonly checker: EventChecker;
  readonly remote: RemoteEvents;
  /**
   * Settles when the join of a room through another server has been answered, either way; undefined where none is under
   * way. Rooms answer once they have stored what it brought.
   */
  readonly joining: (room: RoomId) => Promise<unknown> | undefined;
  readonly log: Log;
}

/**
 * Takes transactions from other servers (server-server API, "Transactions"). One is done once, and what it was answered
 * is durable: a repetition gets the same answer, and one that comes while it is under way waits with it. Transactions
 * of one server are done one after another. In a transaction the PDUs of a room are done in their order, and rooms do
 * not wait for each other. EDUs are accepted and dropped: nothing here uses them yet.
 */
export class Receiver {
  /** PDUs by what became of them, and transactions that were given back for later. */
  readonly counters = { accepted: 0, refused: 0, held: 0, deferred: 0, repeated: 0 };
  readonly #options: ReceiverOptions;
  readonly #gap: GapOptions;
  readonly #underWay = new Map<string, Promise<JsonObject>>();
  readonly #lanes = new Map<ServerName, { readonly slots: Slots; users: number }>();
  readonly #deferrals = new BoundedMap<ServerName, { readonly txnId: string; readonly count: number }>(
    MAX_DEFERRED_ORIGINS,
  );
  readonly #held = new Map<RoomId, HeldPdu[]>();

  constructor(options: ReceiverOptions) {
    this.#options = options;
    this.#gap = options;
  }

  /**
   * Does a transaction and answers what each of its PDUs came to.
   * @throws MatrixError where it is malformed, too many wait, or something that it needs cannot be fetched now
   */
  receive(origin: ServerName, txnId: string, body: JsonValue): Promise<JsonObject> {
    const key = `${origin} ${txnId}`;
    const underWay = this.#underWay.get(key);
    if (underWay !== undefined) {
      this.counters.repeated++;
      return underWay;
    }
    const answer = this.#inTurn(origin, () => this.#once(origin, txnId, body)).finally(() =>
      this.#underWay.delete(key),
    );
    this.#underWay.set(key, answer);
    return answer;
  }

  async #inTurn(origin: ServerName, task: () => Promise<JsonObject>): Promise<JsonObject> {
    const lane = this.#lanes.get(origin) ?? { slots: new Slots(1, MAX_WAITING_TRANSACTIONS), users: 0 };
    this.#lanes.set(origin, lane);
    lane.users++;
    try {
      const answer = await lane.slots.run(task);
      if (answer !== undefined) return answer;
      throw new MatrixError(429, 'M_LIMIT_EXCEEDED', 'Too many transactions at a time.', {
        retry_after_ms: BUSY_RETRY_MS,
      });
    } finally {
      if (--lane.users === 0) this.#lanes.delete(origin);
    }
  }

  async #once(origin: ServerName, txnId: string, body: JsonValue): Promise<JsonObject> {
    const { database, clock } = this.#options;
    if (txnId.length > MAX_TRANSACTION_ID_LENGTH) throw badJson('The transaction id is too long.');
    const stored = await storedAnswer(database, origin, txnId);
    if (stored !== undefined) {
      this.counters.repeated++;
      return JSON.parse(stored) as JsonObject;
    }
    const results = await this.#process(origin, txnId, pdusIn(body));
    const answer: JsonObject = { pdus: results };
    const response = JSON.stringify(answer);
    await database.transaction((tx) => storeAnswer(tx, origin, { txnId, response, received: clock.wall() }));
    this.#deferrals.delete(origin);
    return answer;
  }

  async #process(origin: ServerName, txnId: string, pdus: readonly JsonValue[]): Promise<JsonObject> {
    const budget = new Budget(MAX_REQUESTS);
    const byRoom = Map.groupBy(pdus, roomOf);
    const last = this.#deferrals.get(origin);
    const deferred = last?.txnId === txnId ? last.count : 0;
    const results: JsonObject = {};
    let postponed = false;
    await Promise.all(
      [...byRoom].map(async ([room, ofRoom]) => {
        for (const pdu of ofRoom) {
          const outcome =
            (await this.#hold(room, origin, pdu)) ?? (await this.#one(origin, room, pdu, budget));
          postponed ||= outcome.isTemporary;
          this.counters[outcome.error === undefined ? 'accepted' : 'refused']++;
          if (outcome.id !== undefined)
            results[outcome.id] = outcome.error === undefined ? {} : { error: outcome.error };
        }
      }),
    );
    if (postponed && deferred < MAX_DEFERRALS) {
      this.counters.deferred++;
      this.#deferrals.set(origin, { txnId, count: deferred + 1 });
      throw new MatrixError(
        503,
        'M_UNKNOWN',
        'Something that these events need cannot be fetched at the moment.',
      );
    }
    return results;
  }

  async #one(origin: ServerName, room: RoomId | undefined, pdu: JsonValue, budget: Budget): Promise<Outcome> {
    const { rooms, checker, log } = this.#options;
    const version = room && (await rooms.versionOf(room));
    const parsed = parsePdu(pdu, roomVersion(version ?? DEFAULT_ROOM_VERSION)!);
    if (!parsed.ok) {
      log.info({ origin, problem: parsed.problem }, 'a malformed event was dropped');
      return { id: undefined, error: parsed.problem, isTemporary: false };
    }
    const { id } = parsed.value;
    const refused = (error: string, isTemporary = false): Outcome => {
      log.info({ origin, id, error: error.slice(0, MAX_ERROR_TEXT) }, 'an event was refused');
      return { id, error: error.slice(0, MAX_ERROR_TEXT), isTemporary };
    };
    const done: Outcome = { id, error: undefined, isTemporary: false };
    if (room === undefined) return refused('The event has no room.');
    if (version === undefined) {
      // An invite of one of our users may be taken back, from a room that this server has never been in.
      const { type, state_key: user } = parsed.value.pdu;
      const isOfOurs = type === 'm.room.member' && user?.endsWith(`:${this.#options.serverName}`);
      if (isOfOurs !== true) return refused(NOT_IN_ROOM);
    }
    try {
      const event = await checker.check(pdu, version ?? DEFAULT_ROOM_VERSION);
      if (!event.ok) return refused(event.problem.reason, event.problem.kind === 'no_key');
      const received =
        version === undefined
          ? await rooms.receive(event.value)
          : await admit(this.#gap, { origin, room: { id: room, version }, budget }, event.value);
      const error = errorOf(received);
      return error === undefined ? done : refused(error);
    } catch (error) {
      if (error instanceof FederationError)
        return refused('What the event needs could not be fetched.', true);
      // Of one event's own making, such as a full queue of its room; the others go on.
      if (error instanceof MatrixError)
        return refused(error.message, error.status >= 500 || error.status === 429);
      // Our own mistake, or a database that fails. One event must not keep its server's others out for ever.
      log.warn({ origin, id, error: String(error) }, 'an event could not be processed');
      return refused('The event could not be processed.', true);
    }
  }

  /**
   * Keeps a PDU of a room that this server is joining: the servers in it send from the moment that they know of the
   * join, which is before its answer has arrived here. Nothing else of theirs waits for that, which over a slow link
   * takes long. It is not durable, and need not be: should this process end, so does the join.
   *
   * @returns undefined where the PDU is to be taken now
   */
  async #hold(room: RoomId | undefined, origin: ServerName, pdu: JsonValue): Promise<Outcome | undefined> {
    if (room === undefined || !(this.#held.has(room) || (await this.#isOutside(room)))) return undefined;
    const join = this.#options.joining(room);
    const id = idOf(pdu);
    const held = this.#held.get(room) ?? [];
    if (id === undefined || held.length >= MAX_HELD_PDUS) return undefined;
    if (!this.#held.has(room)) {
      if (join === undefined) return undefined;
      this.#held.set(room, held);
      this.#release(room, held, join);
    }
    held.push({ origin, pdu });
    this.counters.held++;
    return { id, error: undefined, isTemporary: false };
  }

  /** Whether this server is joining the room without being in it. */
  async #isOutside(room: RoomId): Promise<boolean> {
    const { rooms, joining, serverName } = this.#options;
    return joining(room) !== undefined && !(await rooms.isServerInRoom(room, serverName));
  }

  /** Takes what was held for a room once it is joined; what comes meanwhile queues up behind. */
  #release(room: RoomId, held: readonly HeldPdu[], join: Promise<unknown>): void {
    const { log } = this.#options;
    join
      .then(
        async () => {
          const budget = new Budget(MAX_REQUESTS);
          for (const { origin, pdu } of held) await this.#one(origin, room, pdu, budget);
          // In the same breath as the end of the loop, so that nothing is put behind it.
          this.#held.delete(room);
        },
        () =>
          log.info({ room, events: held.length }, 'events of a room that could not be joined were dropped'),
      )
      .catch((error: unknown) => log.warn({ room, error: String(error) }, 'events that were held were lost'))
      .finally(() => this.#held.delete(room));
  }
}

interface HeldPdu {
  readonly origin: ServerName;
  readonly pdu: JsonValue;
}

interface Outcome {
  /** Undefined where the PDU is so malformed that it has no id. */
  readonly id: EventId | undefined;
  readonly error: string | undefined;
  /** Trying again later may come to something else. */
  readonly isTemporary: boolean;
}

/** The id of a PDU of a room whose version is not known yet. */
function idOf(pdu: JsonValue): EventId | undefined {
  const parsed = parsePdu(pdu, roomVersion(DEFAULT_ROOM_VERSION)!);
  return parsed.ok ? parsed.value.id : undefined;
}

function errorOf(received: Received): string | undefined {
  switch (received.kind) {
    case 'accepted':
    case 'soft_failed':
    case 'duplicate':
      return undefined;
    case 'rejected':
      return received.reason;
    case 'missing_prev':
      return 'Previous events are missing, and their server does not tell them.';
    case 'missing_auth':
      return 'Auth events are missing, and their server does not tell them.';
    case 'unknown_room':
      return NOT_IN_ROOM;
  }
}

/** @throws MatrixError where the transaction is not one */
function pdusIn(body: JsonValue): readonly JsonValue[] {
  if (!isJsonObject(body)) throw badJson('A transaction is an object.');
  const pdus = own(body, 'pdus');
  const edus = own(body, 'edus') ?? [];
  if (!Array.isArray(pdus)) throw badJson('pdus is not an array.');
  if (pdus.length > MAX_PDUS) throw badJson(`A transaction has at most ${MAX_PDUS} PDUs.`);
  if (!Array.isArray(edus)) throw badJson('edus is not an array.');
  if (edus.length > MAX_EDUS) throw badJson(`A transaction has at most ${MAX_EDUS} EDUs.`);
  return pdus;
}

/** The room that a PDU says it belongs to; a create event of version 12 has no room_id and is the room. */
function roomOf(pdu: JsonValue): RoomId | undefined {
  const text = isJsonObject(pdu) ? own(pdu, 'room_id') : undefined;
  if (typeof text === 'string') {
    const room = parseRoomId(text);
    return room.ok ? room.value : undefined;
  }
  const create = parsePdu(pdu, roomVersion(DEFAULT_ROOM_VERSION)!);
  return create.ok ? createdRoom(create.value.id) : undefined;
}
