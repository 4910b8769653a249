import { bad, ok, type Result } from '../../base/result.ts';
import { SIGNATURE_BYTES } from '../../compact/pdu/layout.ts';
import { ANY_TRANSACTION } from '../../compact/text_forms.ts';
import type { CompactReader } from '../../compact/value_reader.ts';
import { CompactWriter } from '../../compact/value_writer.ts';
import { SIGNATURES_PATH } from '../../exchange/pipe_codec.ts';
import type { Body, FormedBody } from '../../exchange/request.ts';
import { type ExchangeResponse, errorResponse } from '../../exchange/response.ts';
import { MatrixError } from '../../matrix/error.ts';
import { parsePdu } from '../../matrix/event_format.ts';
import { parseRoomId, type RoomId, type ServerName } from '../../matrix/ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../../matrix/json.ts';
import type { Event } from '../../matrix/pdu.ts';
import { roomVersion } from '../../matrix/room_version.ts';
import type { SigningKey } from '../../matrix/signing.ts';
import type { Reader } from '../../storage/database.ts';
import { findRoom } from '../../storage/rooms.ts';
import { isOnlyKey, KEY_PATH } from '../key_document.ts';
import { QUERY_PATH } from '../notaries.ts';
import { signaturesBytes, signaturesJson, type WrittenPdu } from '../owed_signatures.ts';
import {
  type EventLists,
  hasEventLists,
  readEventLists,
  roomOfLists,
  writeEventLists,
} from './event_lists_form.ts';
import { readJoining, writeJoining } from './joining_form.ts';
import {
  hasDocuments,
  plainQuery,
  readDocuments,
  readKeyQuery,
  writeDocuments,
  writeKeyQuery,
} from './key_query_form.ts';
import type { RoomViews } from './room_views.ts';
import { type FormProblem, planTransaction, readTransaction, writeTransaction } from './transaction_form.ts';

/** Asks for events whole that could not be understood by what is known here. */
export const SEND_WHOLE = 'ORG_RAVINE_SEND_WHOLE';
/** The answer of `places` to a request that has SEND_WHOLE; the bound is that of a transaction. */
const MAX_PLACES = 50;
/** Times that a request is sent in its short form before it goes as JSON. */
const MAX_FORMED_ATTEMPTS = 3;
/**
 * Transactions in which the events of a room name their previous events, after its reader did not understand one that did
 * not: where two servers speak at once neither knows what the other has, and that seldom happens once only.
 */
const NAMING_TRANSACTIONS = 4;
/** Rooms and readers for which that is counted; past it the oldest begin anew. */
const MAX_CROSSINGS = 1024;

const SEND_PATH = /^\/_matrix\/federation\/v1\/send\/[^/]+$/;

interface ListRoute extends EventLists {
  readonly method: string;
  /** The room is the first group, where the path has one. */
  readonly path: RegExp;
}

/** The body is an event of the room in the path. */
const JOINING_PATH = /^\/_matrix\/federation\/v2\/send_(?:join|leave)\/([^/]+)\/[^/]+$/;

/** The answers that are lists of events. */
const LIST_ROUTES: readonly ListRoute[] = [
  {
    method: 'PUT',
    path: /^\/_matrix\/federation\/v2\/send_join\/([^/]+)\/[^/]+$/,
    names: ['state', 'auth_chain'],
    untold: [],
  },
  {
    method: 'GET',
    path: /^\/_matrix\/federation\/v1\/state\/([^/]+)$/,
    names: ['pdus', 'auth_chain'],
    untold: [],
  },
  {
    method: 'GET',
    path: /^\/_matrix\/federation\/v1\/event_auth\/([^/]+)\/[^/]+$/,
    names: ['auth_chain'],
    untold: [],
  },
  {
    method: 'POST',
    path: /^\/_matrix\/federation\/v1\/get_missing_events\/([^/]+)$/,
    names: ['events'],
    untold: [],
  },
  {
    method: 'GET',
    path: /^\/_matrix\/federation\/v1\/backfill\/([^/]+)$/,
    names: ['pdus'],
    untold: ['origin', 'origin_server_ts'],
  },
  {
    method: 'GET',
    path: /^\/_matrix\/federation\/v1\/event\/[^/]+$/,
    names: ['pdus'],
    // Whoever asked knows whom, and nothing depends on when it answered.
    untold: ['origin', 'origin_server_ts'],
  },
];

/** A request as far as its route goes. */
interface Routed {
  readonly method: string;
  readonly path: string;
}

/** Which events go and come without their signatures, which follow them. */
export interface Deferral {
  mayFollow(destination: ServerName, pdus: readonly JsonObject[]): Promise<ReadonlySet<JsonObject>>;
  /** Told before they go. */
  going(destination: ServerName, written: readonly WrittenPdu[]): Promise<void>;
  /** Whether an event without its signature may be taken. */
  mayTake(origin: ServerName, event: Event): Promise<boolean>;
}

/** The bodies of federation's requests and answers in forms that are shorter than their JSON. */
export class FederationForms {
  /**
   * Events by how they were written and read; `askedWhole`: those that a reader, here or there, did not understand;
   * `ambiguous`: those that this one could have understood in two ways.
   */
  readonly counters = { written: 0, writtenWhole: 0, read: 0, askedWhole: 0, ambiguous: 0 };
  readonly #views: RoomViews;
  readonly #database: Reader;
  readonly #serverName: ServerName;
  readonly #signingKey: SigningKey;
  readonly #deferral: Deferral | undefined;
  /** Transactions that are yet to name previous events, by room and reader. */
  readonly #crossings = new Map<string, number>();

  constructor({
    views,
    database,
    serverName,
    signingKey,
    deferral,
  }: {
    readonly views: RoomViews;
    readonly database: Reader;
    readonly serverName: ServerName;
    /** The one to which this server's pipe identity is bound. */
    readonly signingKey: SigningKey;
    /** Left out: all signatures are inline. */
    readonly deferral?: Deferral;
  }) {
    this.#views = views;
    this.#database = database;
    this.#serverName = serverName;
    this.#signingKey = signingKey;
    this.#deferral = deferral;
  }

  /**
   * A request's body in its short form; undefined where it has none.
   * @param asked the places of the events that the reader did not understand before, and how often
   */
  async formRequest(
    destination: ServerName,
    request: Routed & { readonly roomVersion?: string },
    body: JsonValue,
    asked: ReadonlyMap<number, number> = new Map(),
  ): Promise<FormedBody | undefined> {
    const version = roomVersion(request.roomVersion ?? '');
    if (version !== undefined && isJoining(request) && isJsonObject(body)) {
      const own = { version, server: this.#serverName, keyId: this.#signingKey.keyId };
      const isWhole = asked.has(0);
      this.counters[isWhole ? 'writtenWhole' : 'written']++;
      return {
        kind: 'formed',
        json: body,
        write: (writer) => writeJoining(writer, body, { ...own, isWhole }),
      };
    }
    if (isSignatures(request)) return formOfSignatures(body);
    if (isKeyQuery(request)) return formOfQuery(body);
    if (!isTransaction(request)) return undefined;
    const pdus = pdusOf(body);
    const follow = await this.#deferral?.mayFollow(destination, pdus);
    // What was asked for goes with its signature: that may be what was missing.
    const signed = new Set([...asked.keys()].map((place) => pdus[place]));
    const naming = new Set<string>();
    for (const pdu of pdus) naming.add(crossingOf(pdu, destination));
    for (const room of naming) if (!this.#names(room, asked.size === 0)) naming.delete(room);
    // Where the two have just known different things of a room, two bytes are not to be all that shows a wrong guess.
    const deferSignature = (pdu: JsonObject): boolean =>
      follow?.has(pdu) === true && !signed.has(pdu) && !naming.has(crossingOf(pdu, destination));
    const plan = await planTransaction(this.#views, this.#serverName, destination, body, {
      // Naming its previous events comes between: most often that is all that was missing.
      whole: new Set([...asked].filter(([, times]) => times > 1).map(([place]) => place)),
      namesPrevious: (place, room) => asked.has(place) || naming.has(`${room} ${destination}`),
      deferSignature,
    });
    if (plan === undefined) return undefined;
    if (this.#deferral !== undefined) {
      // Which signatures are left out does not depend on how names are written.
      const deferred = writeTransaction(new CompactWriter({}), plan);
      const written = plan.entries.map(({ pdu }, place) => ({ pdu, isDeferred: deferred.has(place) }));
      await this.#deferral.going(destination, written);
    }
    for (const { view } of plan.entries) this.counters[view === undefined ? 'writtenWhole' : 'written']++;
    return { kind: 'formed', json: body, write: (writer) => writeTransaction(writer, plan) };
  }

  /** Whether the events of a room name their previous events. @param counts another transaction begins */
  #names(room: string, counts: boolean): boolean {
    const left = this.#crossings.get(room) ?? 0;
    if (!counts || left === 0) return left > 0;
    if (left > 1) this.#crossings.set(room, left - 1);
    else this.#crossings.delete(room);
    return true;
  }

  #crossed(rooms: Iterable<string>): void {
    for (const room of rooms) {
      this.#crossings.delete(room);
      this.#crossings.set(room, NAMING_TRANSACTIONS);
      if (this.#crossings.size > MAX_CROSSINGS) this.#crossings.delete(this.#crossings.keys().next().value!);
    }
  }

  /** The JSON of a request of another server, or what it is answered instead. */
  async restoreRequest(
    caller: ServerName,
    request: Routed,
    reader: CompactReader,
  ): Promise<Result<JsonValue, ExchangeResponse>> {
    if (isKeyQuery(request)) {
      const query = readKeyQuery(reader);
      return query.ok ? query : bad(errorResponse(errorOf(query.problem)));
    }
    const joined = roomIn(JOINING_PATH, request);
    const read = joined
      ? await readJoining(reader, this.#views, caller, joined)
      : isTransaction(request)
        ? await this.#readTransaction(reader, caller)
        : isSignatures(request)
          ? readSignatures(reader)
          : undefined;
    if (read === undefined) return bad(errorResponse(NO_FORM));
    if (!read.ok) {
      if (read.problem.kind === 'send whole') {
        this.counters.askedWhole += read.problem.places.length;
        this.counters.ambiguous += read.problem.ambiguous ?? 0;
      }
      return bad(errorResponse(errorOf(read.problem)));
    }
    const pdus = own(read.value, 'pdus');
    this.counters.read += Array.isArray(pdus) ? pdus.length : 1;
    return read;
  }

  async #readTransaction(
    reader: CompactReader,
    caller: ServerName,
  ): Promise<Result<JsonObject, FormProblem>> {
    const read = await readTransaction(reader, this.#views, caller);
    if (!read.ok) return read;
    const places: number[] = [];
    const pdus = pdusOf(read.value.body);
    for (const place of read.value.provisional)
      if (!(await this.#mayTake(caller, pdus[place]!))) places.push(place);
    return places.length > 0 ? bad({ kind: 'send whole', places }) : ok(read.value.body);
  }

  async #mayTake(origin: ServerName, pdu: JsonObject): Promise<boolean> {
    const room = typeof pdu.room_id === 'string' ? pdu.room_id : '';
    const version = roomVersion((await findRoom(this.#database, room as RoomId))?.version ?? '');
    const event = version && parsePdu(pdu, version);
    return event?.ok === true && (await this.#deferral?.mayTake(origin, event.value)) === true;
  }

  /** An answer in its short form; undefined where it has none. @param asked the JSON of the request's body */
  async formAnswer(
    request: Routed,
    status: number,
    answer: JsonValue,
    asked?: JsonValue,
  ): Promise<FormedBody | undefined> {
    if (status !== 200) return undefined;
    if (isKeyQuery(request)) {
      const servers = plainQuery(asked);
      if (servers === undefined || !hasDocuments(answer, servers)) return undefined;
      const write = (writer: CompactWriter) => writeDocuments(writer, answer, servers, this.#serverName);
      return { kind: 'formed', json: answer, write };
    }
    if (isTransaction(request)) return hasNoErrors(answer) ? nothing(answer) : undefined;
    if (isSignatures(request)) return nothing(answer);
    if (request.method === 'GET' && request.path === KEY_PATH) {
      const { keyId, publicKey } = this.#signingKey;
      return isOnlyKey(answer, keyId, publicKey) ? nothing(answer) : undefined;
    }
    const route = listRouteOf(request);
    if (route === undefined || !hasEventLists(answer, route.lists)) return undefined;
    const room = route.room ?? roomOfLists(answer, route.lists);
    const version = room && roomVersion((await findRoom(this.#database, room))?.version ?? '');
    if (room === undefined || version === undefined) return undefined;
    const options = { version, room, isRoomTold: route.room === undefined };
    return {
      kind: 'formed',
      json: answer,
      write: (writer) => writeEventLists(writer, answer, route.lists, options),
    };
  }

  /**
   * The JSON of another server's answer in its short form.
   * @param asked who was asked, and the JSON of the request's body
   */
  restoreAnswer(
    request: Routed,
    reader: CompactReader,
    asked?: { readonly server: ServerName; readonly body: JsonValue | undefined },
  ): Result<JsonValue> {
    const servers = isKeyQuery(request) ? plainQuery(asked?.body) : undefined;
    if (asked !== undefined && servers !== undefined) return readDocuments(reader, servers, asked.server);
    const route = listRouteOf(request);
    if (route === undefined) return bad('an answer of this kind has no short form');
    return readEventLists(reader, route.lists, route.room);
  }

  /**
   * Sends a request whose body has a short form, and at once again what is asked for whole.
   * @param send with the body in the form that is to be sent; the JSON of its answer, as far as it has one
   */
  async exchange<R extends { readonly status: number; readonly value: JsonValue | undefined }>(
    destination: ServerName,
    request: Routed & { readonly roomVersion?: string },
    body: JsonValue,
    send: (formed: FormedBody | undefined) => Promise<R>,
  ): Promise<R> {
    const asked = new Map<number, number>();
    for (let attempt = 0; attempt < MAX_FORMED_ATTEMPTS; attempt++) {
      const answer = await send(await this.formRequest(destination, request, body, asked));
      const wanted = this.#wantedWhole(answer.status, answer.value);
      if (wanted === undefined) return answer;
      for (const place of wanted) asked.set(place, (asked.get(place) ?? 0) + 1);
      const pdus = pdusOf(body);
      this.#crossed([...wanted].map((place) => crossingOf(pdus[place] ?? {}, destination)));
    }
    return send(undefined);
  }

  /** The places of the events that the answer asks for whole; undefined where it does not. */
  #wantedWhole(status: number, answer: JsonValue | undefined): ReadonlySet<number> | undefined {
    if (status !== 422 || !isJsonObject(answer)) return undefined;
    if (own(answer, 'errcode') !== SEND_WHOLE) return undefined;
    const places = own(answer, 'places');
    const wanted = Array.isArray(places) ? places.slice(0, MAX_PLACES) : [];
    this.counters.askedWhole += wanted.length;
    return new Set(wanted.filter((place) => typeof place === 'number'));
  }
}

/** An event's room and its reader, as what they know of each other's events is counted. */
const crossingOf = (pdu: JsonObject, destination: ServerName): string =>
  `${String(own(pdu, 'room_id'))} ${destination}`;

/** Whether it is a transaction. */
const isTransaction = ({ method, path }: Routed): boolean => method === 'PUT' && SEND_PATH.test(path);

const isSignatures = ({ method, path }: Routed): boolean => method === 'PUT' && path === SIGNATURES_PATH;

const isKeyQuery = ({ method, path }: Routed): boolean => method === 'POST' && path === QUERY_PATH;

function formOfQuery(body: JsonValue): FormedBody | undefined {
  const servers = plainQuery(body);
  return servers && { kind: 'formed', json: body, write: (writer) => writeKeyQuery(writer, servers) };
}

function formOfSignatures(body: JsonValue): FormedBody | undefined {
  const batch = isJsonObject(body) ? signaturesBytes(body) : undefined;
  return batch && { kind: 'formed', json: body, write: (writer) => writer.raw(batch) };
}

function readSignatures(reader: CompactReader): Result<JsonObject, FormProblem> {
  const batch = reader.bytes.subarray(reader.at);
  return batch.length % SIGNATURE_BYTES === 0
    ? ok(signaturesJson(batch))
    : bad({ kind: 'malformed', reason: 'not a whole number of signatures' });
}

function pdusOf(body: JsonValue): readonly JsonObject[] {
  const pdus = isJsonObject(body) ? own(body, 'pdus') : undefined;
  return Array.isArray(pdus) ? pdus.filter(isJsonObject) : [];
}

/** In the place of the id of the event that is in the body (docs/protocol.md, "Joining and leaving"). */
export const ANY_EVENT = '~';
const EVENT_PATH = /^\/_matrix\/federation\/v2\/(?:send_join|send_leave|invite)\/[^/]+\/[^/]+$/;

/** The path of a request through a pipe without an id that its body tells, or that does nothing that the body does not do. */
export function shortPath({ method, path }: Routed, body: Body | undefined): string {
  if (method === 'PUT' && EVENT_PATH.test(path)) return path.replace(/[^/]+$/, ANY_EVENT);
  // Where events are all there is, the transaction's id does nothing that theirs do not do: one that costs nothing will do.
  const isOfEvents = body?.kind === 'formed' && isTransaction({ method, path }) && !hasEdus(body.json);
  return isOfEvents ? path.replace(/[^/]+$/, ANY_TRANSACTION) : path;
}

/** Whether the transaction has what only its id keeps from being done twice. */
function hasEdus(transaction: JsonValue): boolean {
  const edus = isJsonObject(transaction) ? own(transaction, 'edus') : undefined;
  return Array.isArray(edus) && edus.length > 0;
}

function listRouteOf({
  method,
  path,
}: Routed): { readonly lists: EventLists; readonly room: RoomId | undefined } | undefined {
  for (const route of LIST_ROUTES) {
    const match = route.method === method ? route.path.exec(path) : null;
    if (match === null) continue;
    if (match[1] === undefined) return { lists: route, room: undefined };
    const room = parseRoomId(decoded(match[1]));
    return room.ok ? { lists: route, room: room.value } : undefined;
  }
  return undefined;
}

const isJoining = (request: Routed): boolean => roomIn(JOINING_PATH, request) !== undefined;

/** The room that is the first group of the path; undefined where it is another path. */
function roomIn(pattern: RegExp, { method, path }: Routed): RoomId | undefined {
  const segment = method === 'PUT' ? pattern.exec(path)?.[1] : undefined;
  const room = segment === undefined ? undefined : parseRoomId(decoded(segment));
  return room?.ok ? room.value : undefined;
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return '';
  }
}

/** An answer that goes without saying. */
const nothing = (json: JsonValue): FormedBody => ({ kind: 'formed', json, write: () => undefined });

/** Whether the answer to a transaction says nothing but that all is well. */
function hasNoErrors(answer: JsonValue): boolean {
  if (!isJsonObject(answer) || Object.keys(answer).length !== 1) return false;
  const results = own(answer, 'pdus');
  if (!isJsonObject(results)) return false;
  return Object.values(results).every((result) => isJsonObject(result) && Object.keys(result).length === 0);
}

const NO_FORM = new MatrixError(400, 'M_NOT_JSON', 'A body of this kind has no short form');

function errorOf(problem: FormProblem): MatrixError {
  switch (problem.kind) {
    case 'malformed':
      return new MatrixError(400, 'M_NOT_JSON', `The payload cannot be read: ${problem.reason}`);
    case 'unknown handle':
      return new MatrixError(
        422,
        'ORG_RAVINE_UNKNOWN_HANDLE',
        'What the message refers to is not known here',
      );
    case 'send whole':
      return new MatrixError(422, SEND_WHOLE, '', { places: [...problem.places] });
  }
}
