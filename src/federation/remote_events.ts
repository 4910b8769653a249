import type { Priority } from '../base/priority.ts';
import { bad, type Result } from '../base/result.ts';
import type { Millis } from '../base/time.ts';
import { parsePdu } from '../matrix/event_format.ts';
import { type EventId, parseEventId, type RoomId, type ServerName, serverOf } from '../matrix/ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../matrix/json.ts';
import type { Event } from '../matrix/pdu.ts';
import { roomVersion } from '../matrix/room_version.ts';
import { requiredSigners } from '../matrix/signing.ts';
import { mapBounded } from './bounded.ts';
import type { VerificationProblem } from './key_ring.ts';
import type { Log } from './log.ts';
import { type FederationCall, FederationError, type FederationTransport, path } from './transport.ts';

/** Checks a PDU as the key ring does. */
export interface EventChecker {
  check(
    pdu: unknown,
    roomVersion: string,
    signers?: readonly ServerName[],
  ): Promise<Result<Event, VerificationProblem>>;
  /** Told of many events at a time: from which servers they are, and up to when the keys of these have to be valid. */
  prepare?(servers: ReadonlyMap<ServerName, Millis>): Promise<void>;
}

/** Events checked at a time. */
const PARALLEL_CHECKS = 8;
/** Events and ids taken from the state that another server tells. */
export const MAX_STATE_EVENTS = 20_000;

/** Events taken of one answer to backfill, whatever was asked for. */
const MAX_BACKFILLED = 500;

/** Servers named in one line of the log. */
const MAX_LOGGED_SERVERS = 20;

const TIMEOUT_MS: Millis = 60_000;
const BACKFILL: Priority = 4;

/**
 * How many requests to one server the events that it sent may cause. A peer that always knows one more missing event
 * ends it, and so does one that does not answer.
 */
export class Budget {
  #requests: number;

  constructor(requests: number) {
    this.#requests = requests;
  }

  /** Takes `count` requests out. @throws FederationError where there are not that many left */
  take(count = 1): void {
    if (count > this.#requests)
      throw new FederationError('unreachable', 'too many requests would be needed at a time');
    this.#requests -= count;
  }

  /** Nothing more is to be asked. */
  end(): void {
    this.#requests = 0;
  }
}

/** What another server tells of events. */
export interface ToldEvents {
  /** Those that pass the checks. */
  readonly good: readonly Event[];
  /** Those that are left out because keys cannot be had now, with the servers of their senders; they may be good. */
  readonly unchecked: ReadonlyMap<EventId, ServerName>;
  /**
   * Of those, what can be believed all the same: which events they follow on, since their ids are hashes that say so. None in
   * versions of rooms where they are not.
   */
  readonly passages: ReadonlyMap<EventId, Event>;
}

/** Fetches events from other servers (server-server API, "Retrieving events"). All of them come checked. */
export class RemoteEvents {
  readonly #transport: FederationTransport;
  readonly #checker: EventChecker;
  readonly #log: Log | undefined;

  /** `log` is told of events that are left out because the keys of their servers cannot be had. */
  constructor({
    transport,
    checker,
    log,
  }: { readonly transport: FederationTransport; readonly checker: EventChecker; readonly log?: Log }) {
    this.#transport = transport;
    this.#checker = checker;
    this.#log = log;
  }

  /**
   * The events between `earliest` and `latest`, in no particular order.
   * @throws FederationError or MatrixError
   */
  async missingEvents(
    server: ServerName,
    room: RoomVersionOf,
    request: {
      readonly earliest: readonly EventId[];
      readonly latest: readonly EventId[];
      readonly limit: number;
    },
  ): Promise<ToldEvents> {
    const answer = await this.#ask(server, {
      method: 'POST',
      path: path`/_matrix/federation/v1/get_missing_events/${room.id}`,
      body: {
        earliest_events: [...request.earliest],
        latest_events: [...request.latest],
        limit: request.limit,
        min_depth: 0,
      },
    });
    return this.#told(room, listOf(answer, 'events', request.limit));
  }

  /** Events from some on backwards, these included. @throws FederationError or MatrixError */
  async backfill(
    server: ServerName,
    room: RoomVersionOf,
    { from, limit }: { readonly from: readonly EventId[]; readonly limit: number },
  ): Promise<ToldEvents> {
    const answer = await this.#ask(server, {
      method: 'GET',
      path: path`/_matrix/federation/v1/backfill/${room.id}`,
      query: [...from.map((id) => `v=${encodeURIComponent(id)}`), `limit=${limit}`].join('&'),
    });
    return this.#told(room, listOf(answer, 'pdus', MAX_BACKFILLED));
  }

  /** The ids of the state before an event and of its auth chain. @throws FederationError or MatrixError */
  async stateIds(
    server: ServerName,
    room: RoomId,
    at: EventId,
  ): Promise<{ readonly state: readonly EventId[]; readonly authChain: readonly EventId[] }> {
    const answer = await this.#ask(server, {
      method: 'GET',
      path: path`/_matrix/federation/v1/state_ids/${room}`,
      query: `event_id=${encodeURIComponent(at)}`,
    });
    return { state: idsIn(answer, 'pdu_ids'), authChain: idsIn(answer, 'auth_chain_ids') };
  }

  /** The good ones of the events in the state before an event and in its auth chain. @throws as stateIds */
  async state(server: ServerName, room: RoomVersionOf, at: EventId): Promise<readonly Event[]> {
    const answer = await this.#ask(server, {
      method: 'GET',
      path: path`/_matrix/federation/v1/state/${room.id}`,
      query: `event_id=${encodeURIComponent(at)}`,
    });
    const pdus = [
      ...listOf(answer, 'pdus', MAX_STATE_EVENTS),
      ...listOf(answer, 'auth_chain', MAX_STATE_EVENTS),
    ];
    return this.goodEvents(room, pdus);
  }

  /** The events in an event's auth chain. @throws FederationError or MatrixError */
  async authChain(server: ServerName, room: RoomVersionOf, of: EventId): Promise<ToldEvents> {
    const answer = await this.#ask(server, {
      method: 'GET',
      path: path`/_matrix/federation/v1/event_auth/${room.id}/${of}`,
    });
    return this.#told(room, listOf(answer, 'auth_chain', MAX_STATE_EVENTS));
  }

  /** One event, or undefined where the server has not got it or it is not good. @throws FederationError */
  async event(server: ServerName, room: RoomVersionOf, id: EventId): Promise<Event | undefined> {
    let answer: JsonObject;
    try {
      answer = await this.#ask(server, { method: 'GET', path: path`/_matrix/federation/v1/event/${id}` });
    } catch (error) {
      if (error instanceof FederationError) throw error;
      return undefined;
    }
    const [event] = await this.goodEvents(room, listOf(answer, 'pdus', 1));
    return event?.id === id ? event : undefined;
  }

  /** The events of this room among `pdus` that pass the checks of format, signature and hash; each once. */
  async goodEvents(room: RoomVersionOf, pdus: readonly JsonValue[]): Promise<readonly Event[]> {
    return (await this.#told(room, pdus)).good;
  }

  async #told(room: RoomVersionOf, pdus: readonly JsonValue[]): Promise<ToldEvents> {
    const { lists, unchecked, passages } = await this.goodLists(room, [pdus]);
    return { good: lists[0]!, unchecked, passages };
  }

  /**
   * As `goodEvents` for several lists; an event that is in more than one is checked once. One whose keys cannot be had
   * now is left out as a bad one is, since nobody may be told it unchecked, but it may be good: that is logged.
   */
  async goodLists(
    room: RoomVersionOf,
    lists: readonly (readonly JsonValue[])[],
  ): Promise<Pick<ToldEvents, 'unchecked' | 'passages'> & { readonly lists: readonly Event[][] }> {
    const version = roomVersion(room.version);
    if (version === undefined)
      return { lists: lists.map(() => []), unchecked: new Map(), passages: new Map() };
    const first = new Map<EventId, JsonValue>();
    const events = new Map<EventId, Event>();
    const signers = new Map<ServerName, Millis>();
    const idLists = lists.map((pdus) => {
      const ids = new Set<EventId>();
      for (const pdu of pdus) {
        const parsed = parsePdu(pdu, version);
        if (!parsed.ok || parsed.value.room !== room.id) continue;
        ids.add(parsed.value.id);
        if (!first.has(parsed.value.id)) first.set(parsed.value.id, pdu);
        const { origin_server_ts: at } = parsed.value.pdu;
        events.set(parsed.value.id, parsed.value);
        for (const server of requiredSigners(parsed.value.pdu, version))
          signers.set(server, Math.max(at, signers.get(server) ?? at));
      }
      return ids;
    });
    await this.#checker.prepare?.(signers);
    const good = new Map<EventId, Event>();
    const unchecked = new Map<EventId, ServerName>();
    await mapBounded([...first], PARALLEL_CHECKS, async ([id, pdu]) => {
      const checked = await this.#checker.check(pdu, room.version);
      if (checked.ok) good.set(checked.value.id, checked.value);
      else if (checked.problem.kind === 'no_key') unchecked.set(id, serverOf(events.get(id)!.pdu.sender));
    });
    if (unchecked.size > 0) this.#logUnchecked(room, unchecked, first.size);
    const passages = version.eventIds === 'stated' ? [] : [...events].filter(([id]) => unchecked.has(id));
    return {
      lists: idLists.map((ids) => [...ids].flatMap((id) => good.get(id) ?? [])),
      unchecked,
      passages: new Map(passages),
    };
  }

  #logUnchecked(room: RoomVersionOf, unchecked: ToldEvents['unchecked'], told: number): void {
    const servers = [...new Set(unchecked.values())].toSorted();
    this.#log?.warn(
      {
        room: room.id,
        events: unchecked.size,
        told,
        servers: servers.slice(0, MAX_LOGGED_SERVERS),
        serverCount: servers.length,
      },
      'events were left out: the keys of their servers cannot be had',
    );
  }

  async #ask(
    server: ServerName,
    call: Pick<FederationCall, 'method' | 'path' | 'query' | 'body'>,
  ): Promise<JsonObject> {
    const { body } = await this.#transport.request(server, {
      ...call,
      timeoutMs: TIMEOUT_MS,
      priority: BACKFILL,
    });
    if (!isJsonObject(body))
      throw new FederationError('bad_answer', `${server} did not answer with an object`);
    return body;
  }
}

/** A room and the version that its events are to be read in. */
export interface RoomVersionOf {
  readonly id: RoomId;
  readonly version: string;
}

/** An array in an answer. @throws FederationError where it is none or too long */
export function listOf(answer: JsonObject, key: string, limit: number): readonly JsonValue[] {
  const list = own(answer, key);
  if (!Array.isArray(list)) throw new FederationError('bad_answer', `${key} is not an array`);
  if (list.length > limit) throw new FederationError('bad_answer', `${key} has more than ${limit} entries`);
  return list;
}

function idsIn(answer: JsonObject, key: string): readonly EventId[] {
  const ids = new Set<EventId>();
  for (const id of listOf(answer, key, MAX_STATE_EVENTS)) {
    const parsed = typeof id === 'string' ? parseEventId(id) : bad('not a text');
    if (!parsed.ok) throw new FederationError('bad_answer', `${key} holds something that is not an event id`);
    ids.add(parsed.value);
  }
  return [...ids];
}
