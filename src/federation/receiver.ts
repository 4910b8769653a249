import type { Result } from '../base/result.ts';
import type { Clock, Millis } from '../base/time.ts';
import type { FederatedRooms, Received } from '../homeserver/rooms/federated_rooms.ts';
import { isServerAllowed } from '../homeserver/server_acls.ts';
import { badJson, MatrixError } from '../matrix/error.ts';
import { parsePdu } from '../matrix/event_format.ts';
import { createdRoom } from '../matrix/hashes.ts';
import { type EventId, parseRoomId, type RoomId, type ServerName } from '../matrix/ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../matrix/json.ts';
import type { Event } from '../matrix/pdu.ts';
import { DEFAULT_ROOM_VERSION, roomVersion } from '../matrix/room_version.ts';
import type { Database } from '../storage/database.ts';
import { storeAnswer, storedAnswer } from '../storage/federation_transactions.ts';
import type { WaitingPdu } from '../storage/inbox.ts';
import { findRoom } from '../storage/rooms.ts';
import { Slots } from './bounded.ts';
import { type Decision, type DeferredSignatures, isUnsigned } from './deferred_signatures.ts';
import type { IncomingEdus } from './edus/incoming.ts';
import { type Admission, admit } from './gap.ts';
import { Inbox } from './inbox.ts';
import type { Log } from './log.ts';
import { versionsOutside } from './outside_versions.ts';
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
/** How long an event waits for the keys of the servers that others in the gap before it are from. */
const PATIENCE_MS: Millis = 15 * 60_000;
const MAX_ERROR_TEXT = 200;
const NO_PLACE = 'Too many events of this room wait for something that is missing.';
const NOT_IN_ROOM = 'This server is not in the room.';
const DENIED = 'The access control list of the room denies your server.';

interface ReceiverOptions {
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
  /** Keeps events whose signatures follow; left out: none are taken. */
  readonly deferred?: DeferredSignatures;
  /** Takes EDUs; left out: they are dropped. */
  readonly edus?: Pick<IncomingEdus, 'take' | 'takeMessages' | 'takeKeyChanges'>;
  readonly log: Log;
}

/**
 * Takes transactions from other servers (server-server API, "Transactions"). One is done once, and what it was answered
 * is durable: a repetition gets the same answer, and one that comes while it is under way waits with it. Transactions
 * of one server are done one after another. In a transaction the PDUs of a room are done in their order, and rooms do
 * not wait for each other. What cannot be decided yet goes into the inbox. EDUs come after the PDUs, which they may be about, but
 * messages to devices before, since PDUs may be encrypted with what they bring.
 */
export class Receiver {
  /** PDUs by what became of them; `held` went into the inbox, and are counted again when they are decided. */
  readonly counters = { accepted: 0, refused: 0, held: 0, repeated: 0 };
  readonly #options: ReceiverOptions;
  readonly #inbox: Inbox;
  readonly #underWay = new Map<string, Promise<JsonObject>>();
  readonly #lanes = new Map<ServerName, { readonly slots: Slots; users: number }>();

  constructor(options: ReceiverOptions) {
    this.#options = options;
    this.#inbox = new Inbox({
      ...options,
      take: (waiting, pdu, budget) => this.#takeWaiting(waiting, pdu, budget),
    });
  }

  /** Goes on with what the inbox holds. */
  start(): Promise<void> {
    return this.#inbox.start();
  }

  /** Nothing of the inbox is tried any more when this resolves. */
  stop(): Promise<void> {
    return this.#inbox.stop();
  }

  /** The server has just spoken to us, and so may be asked for what is missing. */
  peerSpoke(server: ServerName): void {
    this.#inbox.peerSpoke(server);
  }

  /**
   * Does a transaction and answers what each of its PDUs came to.
   * @throws MatrixError where it is malformed, or too many transactions or PDUs of the server wait
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

  /** Judges an event that waited for its signature, and so for long enough. */
  async decide(origin: ServerName, room: RoomId, pdu: JsonValue): Promise<Decision> {
    const bounds = { budget: new Budget(MAX_REQUESTS), isPatient: false };
    const { kind } = await this.#one(origin, room, pdu, bounds);
    return kind === 'outside' ? 'refused' : kind;
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
    const { pdus, edus } = partsOf(body);
    await this.#options.edus?.takeMessages(origin, edus);
    const outcomes = await this.#process(origin, pdus);
    await this.#options.edus?.takeKeyChanges(origin, edus);
    await this.#options.edus?.take(origin, edus);
    const results = resultsOf(outcomes);
    const received = clock.wall();
    const waiting = outcomes.flatMap((outcome) =>
      outcome.kind === 'waits' ? [{ ...outcome.waiting, origin, received }] : [],
    );
    const { answer, refused } = await database.transaction(async (tx) => {
      const noPlace = await this.#inbox.add(tx, waiting);
      const errors = Object.fromEntries([...noPlace].map((id) => [id, { error: NO_PLACE }]));
      const answer: JsonObject = { pdus: { ...results, ...errors } };
      await storeAnswer(tx, origin, { txnId, response: JSON.stringify(answer), received });
      return { answer, refused: noPlace.size };
    });
    this.counters.held += waiting.length - refused;
    this.counters.refused += refused;
    return answer;
  }

  async #process(origin: ServerName, pdus: readonly JsonValue[]): Promise<readonly Outcome[]> {
    const bounds = { budget: new Budget(MAX_REQUESTS), isPatient: true };
    const rooms = await Promise.all(
      [...Map.groupBy(pdus, roomOf)].map(async ([room, ofRoom]) => {
        const outcomes: Outcome[] = [];
        for (const pdu of ofRoom) {
          const mustWait =
            room !== undefined &&
            !(await this.#isDenied(room, origin)) &&
            (await this.#inbox.mustWait(origin, room));
          const waiting = mustWait ? await this.#waitingPdu(room, pdu) : undefined;
          const outcome: Outcome = waiting
            ? { kind: 'waits', waiting }
            : await this.#one(origin, room, pdu, bounds);
          const { kind, ...fields } = outcome;
          if (kind === 'refused') this.#options.log.info({ origin, ...fields }, 'an event was refused');
          outcomes.push(outcome);
        }
        return outcomes;
      }),
    );
    return rooms.flat();
  }

  /** A PDU as the inbox keeps it, or undefined where it is malformed; its room need not be known. */
  async #waitingPdu(
    room: RoomId,
    pdu: JsonValue,
  ): Promise<Omit<WaitingPdu, 'origin' | 'received'> | undefined> {
    // Rooms would answer once a join that is being stored is: its version is asked for elsewhere.
    const inside = (await findRoom(this.#options.database, room))?.version;
    const versions = inside === undefined ? await this.#versionsOutside(room, pdu) : [inside];
    const parsed = parseByAny(pdu, versions);
    return parsed.ok ? { room, eventId: parsed.value.id, json: JSON.stringify(pdu) } : undefined;
  }

  #versionsOutside(room: RoomId | undefined, pdu: JsonValue): Promise<readonly string[]> {
    return room === undefined
      ? Promise.resolve([DEFAULT_ROOM_VERSION])
      : versionsOutside(this.#options.database, room, pdu);
  }

  /** Tries a PDU of the inbox; its sender has been told that it arrived. @returns whether it is decided */
  async #takeWaiting(
    { origin, room, received }: Pick<WaitingPdu, 'origin' | 'room' | 'received'>,
    pdu: JsonValue,
    budget: Budget,
  ): Promise<boolean> {
    const isPatient = this.#options.clock.wall() < received + PATIENCE_MS;
    const outcome = await this.#one(origin, room, pdu, { budget, isPatient });
    if (outcome.kind === 'refused')
      this.#options.log.warn(
        { origin, id: outcome.id, error: outcome.error },
        'an event that waited was refused',
      );
    // It came while the room was being joined, and may yet be joined.
    return outcome.kind === 'done' || outcome.kind === 'refused';
  }

  /** Of a room that is just being joined nothing is known yet: what comes then is asked about once more. */
  async #isDenied(room: RoomId, origin: ServerName): Promise<boolean> {
    return !(await isServerAllowed(this.#options.database, room, origin));
  }

  async #one(
    origin: ServerName,
    room: RoomId | undefined,
    pdu: JsonValue,
    bounds: Pick<Admission, 'budget' | 'isPatient'>,
  ): Promise<Outcome> {
    const { rooms, checker, log } = this.#options;
    const version = room && (await rooms.versionOf(room));
    const versions = version === undefined ? await this.#versionsOutside(room, pdu) : [version];
    const parsed = parseByAny(pdu, versions);
    if (!parsed.ok) {
      this.counters.refused++;
      return { kind: 'refused', id: undefined, error: parsed.problem };
    }
    const { id } = parsed.value;
    const refused = (text: string): Outcome => {
      const error = text.slice(0, MAX_ERROR_TEXT);
      this.counters.refused++;
      return { kind: 'refused', id, error };
    };
    if (room === undefined) return refused('The event has no room.');
    if (await this.#isDenied(room, origin)) return refused(DENIED);
    const waits = (reason: string): Outcome => {
      log.debug({ origin, id, reason: reason.slice(0, MAX_ERROR_TEXT) }, 'an event waits');
      return { kind: 'waits', waiting: { room, eventId: id, json: JSON.stringify(pdu) } };
    };
    if (version === undefined) {
      // An invite of one of our users may be taken back, from a room that this server has never been in.
      const { type, state_key: user } = parsed.value.pdu;
      const isOfOurs = type === 'm.room.member' && user?.endsWith(`:${this.#options.serverName}`);
      if (isOfOurs !== true) return { kind: 'outside', id };
    }
    try {
      const { deferred } = this.#options;
      const whole =
        deferred !== undefined && version !== undefined && isUnsigned(parsed.value)
          ? await deferred.take(origin, parsed.value)
          : pdu;
      if (whole === undefined) return { kind: 'done', id };
      const event = await checkByAny(checker, whole, versions);
      if (!event.ok)
        return event.problem.kind === 'no_key' ? waits(event.problem.reason) : refused(event.problem.reason);
      if (version !== undefined && (await deferred?.mustWait(origin, event.value)))
        return { kind: 'done', id };
      const received =
        version === undefined
          ? await rooms.receive(event.value)
          : await admit(this.#options, { origin, room: { id: room, version }, ...bounds }, event.value);
      if (received.kind === 'unknown_room') return { kind: 'outside', id };
      const error = errorOf(received);
      if (error !== undefined) return refused(error);
      this.counters.accepted++;
      return { kind: 'done', id };
    } catch (error) {
      if (error instanceof FederationError) return waits(error.message);
      // Of one event's own making, such as a full queue of its room; the others go on.
      if (error instanceof MatrixError)
        return error.status >= 500 || error.status === 429 ? waits(error.message) : refused(error.message);
      // Our own mistake, or a database that fails. One event must not keep its server's others out for ever.
      log.warn({ origin, id, error: String(error) }, 'an event could not be processed');
      return waits('The event could not be processed.');
    }
  }
}

type Outcome =
  | { readonly kind: 'done'; readonly id: EventId }
  /** `id` is undefined where the PDU is so malformed that it has none. */
  | { readonly kind: 'refused'; readonly id: EventId | undefined; readonly error: string }
  /** Of a room that this server is not in. */
  | { readonly kind: 'outside'; readonly id: EventId }
  /** Trying again later may come to something else. */
  | { readonly kind: 'waits'; readonly waiting: Omit<WaitingPdu, 'origin' | 'received'> };

/** What the answer to a transaction says of its PDUs. What waits is ours to care for, and no error. */
function resultsOf(outcomes: readonly Outcome[]): JsonObject {
  const results: JsonObject = {};
  for (const outcome of outcomes) {
    if (outcome.kind === 'waits') results[outcome.waiting.eventId] = {};
    else if (outcome.kind === 'done') results[outcome.id] = {};
    else if (outcome.kind === 'outside') results[outcome.id] = { error: NOT_IN_ROOM };
    else if (outcome.id !== undefined) results[outcome.id] = { error: outcome.error };
  }
  return results;
}

/** The event in the first of the versions in which it is one. */
function parseByAny(pdu: JsonValue, versions: readonly string[]): Result<Event> {
  let first: Result<Event> | undefined;
  for (const id of versions) {
    const parsed = parsePdu(pdu, roomVersion(id)!);
    if (parsed.ok) return parsed;
    first ??= parsed;
  }
  return first!;
}

/** The event in the first of the versions in which its signatures are right. */
async function checkByAny(
  checker: EventChecker,
  pdu: JsonValue,
  versions: readonly string[],
): ReturnType<EventChecker['check']> {
  let first: Awaited<ReturnType<EventChecker['check']>> | undefined;
  for (const id of versions) {
    const checked = await checker.check(pdu, id);
    // A key that cannot be had is missing in all of them.
    if (checked.ok || checked.problem.kind === 'no_key') return checked;
    first ??= checked;
  }
  return first!;
}

function errorOf(received: Exclude<Received, { kind: 'unknown_room' }>): string | undefined {
  switch (received.kind) {
    case 'accepted':
    case 'soft_failed':
    case 'duplicate':
      return undefined;
    case 'rejected':
      return received.reason;
    case 'missing_prev':
      return 'Previous events are missing, and their server does not tell them.';
    case 'state_lacks':
      return 'The state before it is not known as a whole.';
    case 'missing_auth':
      return 'Auth events are missing, and their server does not tell them.';
  }
}

/** @throws MatrixError where the transaction is not one */
function partsOf(body: JsonValue): {
  readonly pdus: readonly JsonValue[];
  readonly edus: readonly JsonValue[];
} {
  if (!isJsonObject(body)) throw badJson('A transaction is an object.');
  const pdus = own(body, 'pdus');
  const edus = own(body, 'edus') ?? [];
  if (!Array.isArray(pdus)) throw badJson('pdus is not an array.');
  if (pdus.length > MAX_PDUS) throw badJson(`A transaction has at most ${MAX_PDUS} PDUs.`);
  if (!Array.isArray(edus)) throw badJson('edus is not an array.');
  if (edus.length > MAX_EDUS) throw badJson(`A transaction has at most ${MAX_EDUS} EDUs.`);
  return { pdus, edus };
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
