import type { Random } from '../base/random.ts';
import { type Clock, type Millis, sleep } from '../base/time.ts';
import type { RemoteJoin, RemoteKnock, RemoteRooms } from '../homeserver/ports.ts';
import { canonicalJson } from '../matrix/canonical_json.ts';
import { MatrixError, unknownError } from '../matrix/error.ts';
import { parsePdu } from '../matrix/event_format.ts';
import { newEventId } from '../matrix/hashes.ts';
import { parseEventId, parseUserId, type RoomId, type ServerName, type UserId } from '../matrix/ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, own, parseJson } from '../matrix/json.ts';
import type { Event, EventReference, Pdu, UnsignedPdu } from '../matrix/pdu.ts';
import { ROOM_VERSIONS, type RoomVersion, roomVersion } from '../matrix/room_version.ts';
import { type SigningKey, signEvent } from '../matrix/signing.ts';
import type { Database, Transaction } from '../storage/database.ts';
import {
  deleteJoinAttempt,
  isJoinAttempted,
  type JoinAttempt,
  joinAttemptOf,
  putJoinAttempt,
} from '../storage/join_attempts.ts';
import type { Log } from './log.ts';
import { pduJson } from './pdu_json.ts';
import { type EventChecker, listOf, MAX_STATE_EVENTS, type RemoteEvents } from './remote_events.ts';
import { type FederationCall, FederationError, path } from './transport.ts';
import type { Transports } from './transports.ts';

/** Servers that are tried for one request. */
const MAX_VIA = 20;
const TIMEOUT_MS: Millis = 60_000;
/** What only the server that made a template can know (server-server API, "Restricted rooms"). */
const AUTHORISER = 'join_authorised_via_users_server';
/**
 * How long a join that may have been accepted is sent again as it is. Later the room has gone on, and another one is as
 * good.
 */
const JOIN_REPEATED_MS: Millis = 60 * 60_000;
/** Entries taken of what a knock is answered with. */
const MAX_STRIPPED_STATE = 100;
/** A large room's answer takes its server long. */
const SEND_JOIN_TIMEOUT_MS: Millis = 10 * 60_000;
/**
 * Before a state is taken without events whose keys cannot be had, these are asked for again as soon as a server may be: it may just
 * have been restarted. Where asking has taken longer, the link has had the time that it needs, and the server is not there; what is
 * left out then is made good when it speaks.
 */
const KEY_PAUSE_MS: Millis = 11_000;
/** Where the keys of more servers are missing, only those of the one through which the room is joined are waited for. */
const MAX_AWAITED_SERVERS = 3;

interface RemoteRoomsOptions {
  readonly serverName: ServerName;
  readonly signingKey: SigningKey;
  readonly clock: Clock;
  readonly random: Random;
  readonly database: Database;
  readonly transport: Pick<Transports, 'kindFor' | 'request'>;
  readonly checker: EventChecker;
  readonly remote: RemoteEvents;
  readonly log: Log;
}

interface Handshake {
  readonly room: RoomId;
  readonly user: UserId;
  readonly membership: 'join' | 'leave' | 'knock';
  /** What the event says besides the membership. */
  readonly content: JsonObject;
}

/** A template of another server, filled in and signed. */
interface MadeEvent {
  readonly event: Event;
  readonly version: RoomVersion;
}

/** Joins, leaves and invites that need another server (server-server API, "Joining Rooms" to "Leaving Rooms"). */
export class FederationRemoteRooms implements RemoteRooms {
  readonly #options: RemoteRoomsOptions;
  readonly #joins = new Map<string, Promise<RemoteJoin>>();
  readonly #joining = new Map<RoomId, Promise<unknown>>();

  constructor(options: RemoteRoomsOptions) {
    this.#options = options;
  }

  join(request: Parameters<RemoteRooms['join']>[0]): Promise<RemoteJoin> {
    const { room, user, via, content } = request;
    const id = `${room} ${user}`;
    const underWay = this.#joins.get(id);
    if (underWay !== undefined) return underWay;
    const join = this.#join(via, { room, user, membership: 'join', content }).finally(() => {
      this.#joins.delete(id);
      if (this.#joining.get(room) === join) this.#joining.delete(room);
    });
    this.#joins.set(id, join);
    this.#joining.set(room, join);
    return join;
  }

  async #join(via: readonly ServerName[], handshake: Handshake): Promise<RemoteJoin> {
    const again = await this.#repeated(handshake);
    return again ?? this.#throughOneOf(via, (server) => this.#joinThrough(server, handshake));
  }

  /** The join that was sent before and whose answer did not come, once more; undefined where there is none, or nothing came of it. */
  async #repeated({ room, user }: Handshake): Promise<RemoteJoin | undefined> {
    const { database, clock } = this.#options;
    const attempt = await joinAttemptOf(database, room, user, clock.wall() - JOIN_REPEATED_MS);
    const made = attempt && madeJoin(attempt);
    if (attempt === undefined || made === undefined) return undefined;
    const server = attempt.via as ServerName;
    try {
      return await this.#throughOneOf([server], () => this.#sendMade(server, room, user, made));
    } catch (error) {
      if (!(error instanceof MatrixError)) throw error;
      return undefined;
    }
  }

  /** Settles when the joining of a room that is under way ends, either way; undefined where there is none. */
  joining(room: RoomId): Promise<unknown> | undefined {
    return this.#joining.get(room);
  }

  leave({ room, user, via }: Parameters<RemoteRooms['leave']>[0]): Promise<Event> {
    return this.#throughOneOf(via, async (server) => {
      const handshake: Handshake = { room, user, membership: 'leave', content: {} };
      const { event, version } = await this.#make(
        server,
        handshake,
        path`/_matrix/federation/v1/make_leave/${room}/${user}`,
      );
      await this.#ask(server, {
        method: 'PUT',
        path: path`/_matrix/federation/v2/send_leave/${room}/${event.id}`,
        body: pduJson(event.pdu),
        roomVersion: version.id,
      });
      return event;
    });
  }

  makeKnock({ room, user, via, content }: Parameters<RemoteRooms['makeKnock']>[0]): Promise<RemoteKnock> {
    return this.#throughOneOf(via, async (server) => {
      const { event, version } = await this.#make(
        server,
        { room, user, membership: 'knock', content },
        path`/_matrix/federation/v1/make_knock/${room}/${user}`,
        versionsOf(room, ({ knocking }) => knocking),
      );
      return { event, roomVersion: version.id, via: server };
    });
  }

  sendKnock({ event, roomVersion: versionId, via }: RemoteKnock): Promise<readonly JsonObject[]> {
    return this.#throughOneOf([via], async (server) => {
      const answer = await this.#ask(server, {
        method: 'PUT',
        path: path`/_matrix/federation/v1/send_knock/${event.room}/${event.id}`,
        body: pduJson(event.pdu),
        roomVersion: versionId,
      });
      const told = listOf(answer, 'knock_room_state', MAX_STRIPPED_STATE);
      return this.#strippedState(told, event.room, versionId);
    });
  }

  /** What of the state in an answer to a knock clients may be shown: nothing that is badly signed or of another room. */
  async #strippedState(told: readonly JsonValue[], room: RoomId, versionId: string): Promise<JsonObject[]> {
    const kept: JsonObject[] = [];
    for (const entry of told) {
      if (!isJsonObject(entry)) continue;
      const { type, sender, state_key: key, content } = entry;
      // Servers before v1.16 send them stripped already.
      if (own(entry, 'signatures') !== undefined) {
        const checked = await this.#options.checker.check(entry, versionId);
        if (!checked.ok || checked.value.room !== room) continue;
      }
      const isShaped = [type, sender, key].every((each) => typeof each === 'string') && isJsonObject(content);
      if (isShaped) kept.push({ type: type!, sender: sender!, state_key: key!, content });
    }
    return kept;
  }

  async invite(request: Parameters<RemoteRooms['invite']>[0]): Promise<Pdu> {
    const { event, roomVersion: versionId, strippedState, destination } = request;
    return this.#throughOneOf([destination], async (server) => {
      const answer = await this.#ask(server, {
        method: 'PUT',
        path: path`/_matrix/federation/v2/invite/${event.room}/${event.id}`,
        body: { room_version: versionId, event: pduJson(event.pdu), invite_room_state: [...strippedState] },
      });
      return this.#countersigned(event, own(answer, 'event'), versionId, server);
    });
  }

  /** Our event with the signatures that its copy in the answer has from `server`, which have to be there and right. */
  async #countersigned(
    event: Event,
    copy: JsonValue | undefined,
    versionId: string,
    server: ServerName,
  ): Promise<Pdu> {
    const signatures = isJsonObject(copy) ? own(copy, 'signatures') : undefined;
    const theirs = isJsonObject(signatures) ? own(signatures, server) : undefined;
    if (!isJsonObject(theirs)) throw new FederationError('bad_answer', `${server} did not sign the event`);
    const pdu: Pdu = {
      ...event.pdu,
      signatures: { ...event.pdu.signatures, [server]: theirs as Record<string, string> },
    };
    const checked = await this.#options.checker.check(pduJson(pdu), versionId, [server]);
    if (!checked.ok)
      throw new FederationError('bad_answer', `the event signed by ${server}: ${checked.problem.reason}`);
    return pdu;
  }

  async #joinThrough(server: ServerName, handshake: Handshake): Promise<RemoteJoin> {
    const { room, user } = handshake;
    const made = await this.#make(
      server,
      handshake,
      path`/_matrix/federation/v1/make_join/${room}/${user}`,
      versionsOf(room, () => true),
    );
    return this.#sendMade(server, room, user, made);
  }

  async #sendMade(server: ServerName, room: RoomId, user: UserId, made: MadeEvent): Promise<RemoteJoin> {
    const { transport, remote, clock } = this.#options;
    const body = pduJson(made.event.pdu);
    const attempt = {
      ...{ room, user, via: server, roomVersion: made.version.id },
      event: JSON.stringify(body),
    };
    const answer = await this.#sendJoin(attempt, {
      method: 'PUT',
      path: path`/_matrix/federation/v2/send_join/${room}/${made.event.id}`,
      body,
      roomVersion: made.version.id,
      // A server behind a pipe is one of ours: it leaves out what would be told twice, and no members.
      ...(transport.kindFor(server) === 'pipe' && { query: 'omit_members=true' }),
    });
    if (own(answer, 'members_omitted') === true) {
      throw new FederationError(
        'bad_answer',
        `${server} left members out of the state, which was not asked for`,
      );
    }
    const lists = [listOf(answer, 'state', MAX_STATE_EVENTS), listOf(answer, 'auth_chain', MAX_STATE_EVENTS)];
    const roomOf = { id: room, version: made.version.id };
    const begun = clock.monotonic();
    let checked = await remote.goodLists(roomOf, lists);
    const missing = new Set(checked.unchecked.values());
    // A server whose users are left out would not be sent what ours say. In a large room some are gone for good.
    const isAwaited = missing.size > 0 && (missing.size <= MAX_AWAITED_SERVERS || missing.has(server));
    if (isAwaited && clock.monotonic() - begun < KEY_PAUSE_MS) {
      await sleep(clock, KEY_PAUSE_MS);
      checked = await remote.goodLists(roomOf, lists);
    }
    const [state, authChain] = checked.lists;
    const join = await this.#joinAsSent(made.event, own(answer, 'event'), made.version);
    return { roomVersion: made.version.id, join, state: state!, authChain: authChain!, via: server };
  }

  /**
   * Writes down that we may be in the room from now on, whatever becomes of the answer: the inbox keeps the events that
   * come until the room is stored here, and whoever tries again sends the same join. A refusal is an answer, after which
   * nothing comes.
   */
  async #sendJoin(
    attempt: JoinAttempt,
    call: Pick<FederationCall, 'method' | 'path' | 'query' | 'body' | 'roomVersion'>,
  ): Promise<JsonObject> {
    const { database, clock } = this.#options;
    const room = attempt.room as RoomId;
    const isFirst = await database.transaction(async (tx) => {
      const known = await isJoinAttempted(tx, room, 0);
      await putJoinAttempt(tx, attempt, clock.wall());
      return !known;
    });
    try {
      return await this.#ask(attempt.via as ServerName, call, SEND_JOIN_TIMEOUT_MS);
    } catch (error) {
      const isRefused = error instanceof MatrixError && error.status >= 400 && error.status <= 499;
      // One that was sent before may have been accepted all the same.
      if (isRefused && isFirst) await database.transaction((tx) => deleteJoinAttempt(tx, room));
      throw error;
    }
  }

  imported(tx: Transaction, room: RoomId): Promise<void> {
    return deleteJoinAttempt(tx, room);
  }

  /** The join as the resident server sends it on: ours, or its copy of it with the signature that authorises it. */
  async #joinAsSent(ours: Event, copy: JsonValue | undefined, version: RoomVersion): Promise<Event> {
    if (!isJsonObject(copy)) return ours;
    const checked = await this.#options.checker.check(copy, version.id);
    return checked.ok && checked.value.id === ours.id ? checked.value : ours;
  }

  /** make_join, make_leave or make_knock: the template, checked, filled in and signed. */
  async #make(
    server: ServerName,
    { room, user, membership, content }: Handshake,
    callPath: string,
    query?: string,
  ): Promise<MadeEvent> {
    const { serverName, signingKey, clock, random } = this.#options;
    const call = { method: 'GET' as const, path: callPath, ...(query !== undefined && { query }) };
    const answer = await this.#ask(server, call);
    const versionId = own(answer, 'room_version');
    const version = typeof versionId === 'string' ? roomVersion(versionId) : undefined;
    if (version === undefined)
      throw new FederationError('bad_answer', 'a room version that is not supported');
    const template = own(answer, 'event');
    if (!isJsonObject(template)) throw new FederationError('bad_answer', 'no event template');
    const given = own(template, 'content');
    const authoriser = isJsonObject(given) ? own(given, AUTHORISER) : undefined;
    const isExpected =
      own(template, 'type') === 'm.room.member' &&
      own(template, 'room_id') === room &&
      own(template, 'sender') === user &&
      own(template, 'state_key') === user &&
      isJsonObject(given) &&
      own(given, 'membership') === membership &&
      (authoriser === undefined || (typeof authoriser === 'string' && parseUserId(authoriser).ok));
    if (!isExpected)
      throw new FederationError('bad_answer', `the template is not a ${membership} of ${user}`);
    const unsigned: UnsignedPdu = {
      type: 'm.room.member',
      room_id: room,
      sender: user,
      state_key: user,
      // Nothing else of the template: whoever made it would have our user say it.
      content: { ...content, membership, ...(authoriser !== undefined && { [AUTHORISER]: authoriser }) },
      origin_server_ts: clock.wall(),
      depth: own(template, 'depth') as number,
      prev_events: referencesIn(template, 'prev_events', version),
      auth_events: referencesIn(template, 'auth_events', version),
      ...(version.eventIds === 'stated' && { event_id: newEventId(serverName, random) }),
    };
    const isCanonical = canonicalJson(unsigned).ok;
    const event = isCanonical ? signEvent(unsigned, version, serverName, signingKey) : undefined;
    // The depth and the numbers of ids are judged with the format of the whole event.
    if (event === undefined || !parsePdu(pduJson(event.pdu), version).ok) {
      throw new FederationError('bad_answer', 'the template does not make an event');
    }
    return { event, version };
  }

  /**
   * What the first server that agrees answers.
   * @throws MatrixError as the last one answered, 504 or 502 where it did not
   */
  async #throughOneOf<T>(via: readonly ServerName[], ask: (server: ServerName) => Promise<T>): Promise<T> {
    const servers = [...new Set(via)]
      .filter((server) => server !== this.#options.serverName)
      .slice(0, MAX_VIA);
    let problem = unknownError(502, 'No server is known that could help with this.');
    for (const server of servers) {
      try {
        return await ask(server);
      } catch (error) {
        problem = forClient(server, error);
        this.#options.log.info(
          { server, errcode: problem.errcode, error: problem.message },
          'a server did not help',
        );
      }
    }
    throw problem;
  }

  async #ask(
    server: ServerName,
    call: Pick<FederationCall, 'method' | 'path' | 'query' | 'body' | 'roomVersion'>,
    timeoutMs: Millis = TIMEOUT_MS,
  ): Promise<JsonObject> {
    const { body } = await this.#options.transport.request(server, { ...call, timeoutMs, priority: 2 });
    if (!isJsonObject(body))
      throw new FederationError('bad_answer', `${server} did not answer with an object`);
    return body;
  }
}

/**
 * The query with the versions that we know of those that a room can have and that suit. A room id tells by its domain
 * which versions the room cannot have; naming these would cost bytes for nothing.
 */
const versionsOf = (room: RoomId, suits: (version: RoomVersion) => boolean): string =>
  [...ROOM_VERSIONS.values()]
    .filter((version) => version.roomIsCreateEvent !== room.includes(':') && suits(version))
    .map(({ id }) => `ver=${encodeURIComponent(id)}`)
    .join('&');

/** Undefined where this version of the program does not read it. */
function madeJoin({ roomVersion: versionId, event: json }: JoinAttempt): MadeEvent | undefined {
  const version = roomVersion(versionId);
  const event = version && parsePdu(parseJson(json), version);
  return event?.ok ? { event: event.value, version: version! } : undefined;
}

/** Errcodes that are about our request to the other server and would mean something else to our client. */
const NOT_FOR_CLIENTS = new Set([
  'M_INVALID_PARAM',
  'M_MISSING_PARAM',
  'M_MISSING_TOKEN',
  'M_UNKNOWN_TOKEN',
  'M_UNAUTHORIZED',
  'M_UNRECOGNIZED',
]);

function forClient(server: ServerName, error: unknown): MatrixError {
  if (error instanceof MatrixError) {
    const isOurs = NOT_FOR_CLIENTS.has(error.errcode) || error.status === 401 || error.status >= 500;
    return isOurs ? unknownError(502, `${server}: ${error.message}`) : error;
  }
  if (error instanceof FederationError)
    return unknownError(error.problem === 'timeout' ? 504 : 502, error.message);
  throw error;
}

function referencesIn(template: JsonObject, key: string, version: RoomVersion): EventReference[] {
  const list = own(template, key);
  if (!Array.isArray(list)) throw new FederationError('bad_answer', `${key} of the template is not an array`);
  // Pairs are judged with the format of the whole event.
  if (version.eventIds === 'stated') return list as EventReference[];
  return list.map((id) => {
    const parsed = typeof id === 'string' ? parseEventId(id) : undefined;
    if (parsed?.ok !== true)
      throw new FederationError('bad_answer', `${key} of the template holds no event ids`);
    return parsed.value;
  });
}
