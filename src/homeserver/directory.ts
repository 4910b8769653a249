import type { Clock } from '../base/time.ts';
import { forbidden, invalidParam, MatrixError, notFound, unknownError } from '../matrix/error.ts';
import { type RoomAlias, type RoomId, type ServerName, serverOf, type UserId } from '../matrix/ids.ts';
import { type JsonObject, own } from '../matrix/json.ts';
import {
  type AliasRow,
  aliasesOf,
  deleteAlias,
  findAlias,
  isPublished,
  type PublishedRow,
  publishedRooms,
  putAlias,
  setPublished,
} from '../storage/aliases.ts';
import type { Database } from '../storage/database.ts';
import { joinedServers, membershipOf } from '../storage/memberships.ts';
import type { Done } from './once.ts';
import type { PublicRoomsRequest, RemoteDirectory, RemoteRoomLists, ResolvedAlias } from './ports.ts';
import type { RoomSummaries } from './room_summaries.ts';
import { maySetState, type RoomNow, roomNow } from './rooms/current_state.ts';
import type { Rooms } from './rooms/rooms.ts';

/** Servers that are told with an alias. */
const MAX_SERVERS = 50;
/** Aliases that a room has on this server. */
const MAX_ALIASES = 1_000;
/** Rooms of the directory that are looked at; the smallest of more are not found. */
const MAX_PUBLISHED = 5_000;
/** Rooms in one answer of the directory. */
const MAX_CHUNK = 500;

const CANONICAL_ALIAS = 'm.room.canonical_alias';
const NEXT = /^p(\d{1,6})$/;

/** Room aliases, and the published room directory (client-server API, "Room aliases", "Published room directory"). */
export class Directory {
  readonly #database: Database;
  readonly #clock: Clock;
  readonly #serverName: ServerName;
  readonly #remote: RemoteDirectory;
  readonly #remoteLists: RemoteRoomLists | undefined;
  readonly #rooms: Pick<Rooms, 'setState' | 'writer'>;
  readonly #summaries: Pick<RoomSummaries, 'published'>;

  constructor(options: {
    readonly database: Database;
    readonly clock: Clock;
    readonly serverName: ServerName;
    readonly remote: RemoteDirectory;
    /** Left out: only this server's directory is shown. */
    readonly remoteLists?: RemoteRoomLists;
    readonly rooms: Pick<Rooms, 'setState' | 'writer'>;
    readonly summaries: Pick<RoomSummaries, 'published'>;
  }) {
    this.#database = options.database;
    this.#clock = options.clock;
    this.#serverName = options.serverName;
    this.#remote = options.remote;
    this.#remoteLists = options.remoteLists;
    this.#rooms = options.rooms;
    this.#summaries = options.summaries;
  }

  /** The room of an alias, and servers that are in it. @throws MatrixError M_NOT_FOUND, or as the alias's server answered */
  async resolve(alias: RoomAlias): Promise<ResolvedAlias> {
    return serverOf(alias) === this.#serverName ? this.local(alias) : this.#remote.alias(alias);
  }

  /** `resolve` for an alias of this server. */
  async local(alias: RoomAlias): Promise<ResolvedAlias> {
    const row = await findAlias(this.#database, alias);
    if (row === undefined) throw notFound(`Room alias ${alias} not found`);
    const inRoom = await joinedServers(this.#database, row.room);
    const others = inRoom.filter((server) => server !== this.#serverName);
    const servers = inRoom.length > others.length ? [this.#serverName, ...others] : others;
    return { room: row.room, servers: servers.slice(0, MAX_SERVERS) };
  }

  /**
   * Gives a room that the user is in an alias of this server.
   * @throws MatrixError M_INVALID_PARAM, M_FORBIDDEN, M_UNKNOWN 409 where the alias is taken
   */
  async set(alias: RoomAlias, room: RoomId, user: UserId, done: Done<void>): Promise<void> {
    this.#checkLocal(alias);
    if ((await membershipOf(this.#database, room, user))?.membership !== 'join') {
      throw forbidden('You are not in the room');
    }
    await this.#database.transaction(async (tx) => {
      if ((await aliasesOf(tx, room)).length >= MAX_ALIASES) {
        throw forbidden(`The room has ${MAX_ALIASES} aliases already`);
      }
      const isFree = await putAlias(tx, { alias, room, creator: user }, this.#clock.wall());
      if (!isFree) throw unknownError(409, `Room alias ${alias} already exists`);
      await done(tx);
    });
  }

  /**
   * Removes an alias of this server: whoever made it may, and whoever may set the room's canonical alias, from which it
   * goes as well where that is so.
   * @throws MatrixError M_INVALID_PARAM, M_NOT_FOUND, M_FORBIDDEN
   */
  async remove(alias: RoomAlias, user: UserId, done: Done<void>): Promise<void> {
    this.#checkLocal(alias);
    const row = await findAlias(this.#database, alias);
    if (row === undefined) throw notFound(`Room alias ${alias} not found`);
    const now = await roomNow(this.#database, this.#rooms.writer, row.room);
    const mayCurate =
      now !== undefined && (await maySetState(this.#database, now, row.room, user, CANONICAL_ALIAS));
    if (row.creator !== user && !mayCurate) throw forbidden('You may not remove this alias');
    if (mayCurate) await this.#uncurate(now, row, user);
    await this.#database.transaction(async (tx) => {
      await deleteAlias(tx, alias);
      await done(tx);
    });
  }

  /** Takes an alias out of the room's m.room.canonical_alias. Where that fails, the alias goes all the same. */
  async #uncurate(now: RoomNow, { alias, room }: AliasRow, user: UserId): Promise<void> {
    const {
      alias: main,
      alt_aliases: others,
      ...rest
    } = (await now.event(CANONICAL_ALIAS))?.pdu.content ?? {};
    const listed = Array.isArray(others) ? others : [];
    if (main !== alias && !listed.includes(alias)) return;
    const kept = listed.filter((each) => each !== alias);
    const content = {
      ...rest,
      ...(main !== undefined && main !== alias && { alias: main }),
      ...(kept.length > 0 && { alt_aliases: kept }),
    };
    try {
      await this.#rooms.setState(room, user, CANONICAL_ALIAS, '', content);
    } catch (error) {
      if (!(error instanceof MatrixError)) throw error;
    }
  }

  /** This server's aliases of a room, for those who are in it, or for all where all may read it. @throws MatrixError M_FORBIDDEN */
  async aliasesOf(room: RoomId, user: UserId): Promise<RoomAlias[]> {
    if ((await membershipOf(this.#database, room, user))?.membership !== 'join') {
      const now = await roomNow(this.#database, this.#rooms.writer, room);
      const visibility = (await now?.event('m.room.history_visibility'))?.pdu.content ?? {};
      if (own(visibility, 'history_visibility') !== 'world_readable') {
        throw forbidden('You are not in the room');
      }
    }
    return aliasesOf(this.#database, room);
  }

  /** Whether a room is in the directory. @throws MatrixError M_NOT_FOUND */
  async visibility(room: RoomId): Promise<'public' | 'private'> {
    if ((await roomNow(this.#database, this.#rooms.writer, room)) === undefined) {
      throw notFound('Room not found');
    }
    return (await isPublished(this.#database, room)) ? 'public' : 'private';
  }

  /**
   * Puts a room into the directory or takes it out: whoever may set its canonical alias may.
   * @throws MatrixError M_NOT_FOUND, M_FORBIDDEN
   */
  async setVisibility(room: RoomId, user: UserId, isPublic: boolean, done: Done<void>): Promise<void> {
    const now = await roomNow(this.#database, this.#rooms.writer, room);
    if (now === undefined) throw notFound('Room not found');
    if (!(await maySetState(this.#database, now, room, user, CANONICAL_ALIAS))) {
      throw forbidden('You may not change whether the room is listed');
    }
    await this.#database.transaction(async (tx) => {
      await setPublished(tx, room, isPublic);
      await done(tx);
    });
  }

  /**
   * A page of the directory of this server or of another one.
   * @throws MatrixError M_INVALID_PARAM for a strange `since`, M_UNKNOWN 502/504 where the other server does not answer
   */
  async publicRoomsOf(server: ServerName, request: PublicRoomsRequest): Promise<JsonObject> {
    if (server === this.#serverName) return this.publicRooms(request);
    if (this.#remoteLists === undefined)
      throw notFound('The directories of other servers are not asked here.');
    return this.#remoteLists.publicRooms(server, {
      ...request,
      limit: Math.min(request.limit ?? MAX_CHUNK, MAX_CHUNK),
    });
  }

  /** A page of this server's directory, the largest rooms first. @throws MatrixError M_INVALID_PARAM for a strange `since` */
  async publicRooms({ limit = MAX_CHUNK, since, filter = {} }: PublicRoomsRequest): Promise<JsonObject> {
    const start = since === undefined ? 0 : Number(NEXT.exec(since)?.[1] ?? Number.NaN);
    if (Number.isNaN(start)) throw invalidParam('since is not a token of this server.');
    const size = Math.min(limit, MAX_CHUNK);
    const rooms = await publishedRooms(this.#database, this.#serverName, MAX_PUBLISHED);
    const term = filter.generic_search_term?.toLowerCase() ?? '';
    const isFiltered = term !== '' || filter.room_types != null;
    const found = isFiltered ? await this.#matching(rooms, term, filter.room_types) : rooms;
    const chunk: JsonObject[] = [];
    for (const { room } of found.slice(start, start + size)) {
      const entry = await this.#summaries.published(room);
      if (entry !== undefined) chunk.push(entry);
    }
    return {
      chunk,
      total_room_count_estimate: found.length,
      ...(size > 0 && start + size < found.length && { next_batch: `p${start + size}` }),
      ...(start > 0 && { prev_batch: `p${Math.max(0, start - size)}` }),
    };
  }

  async #matching(
    rooms: readonly PublishedRow[],
    term: string,
    types: readonly (string | null)[] | null | undefined,
  ): Promise<PublishedRow[]> {
    const matching: PublishedRow[] = [];
    for (const row of rooms) {
      const entry = await this.#summaries.published(row.room);
      if (entry === undefined) continue;
      const texts = [entry.name, entry.topic, entry.canonical_alias];
      const hasTerm = texts.some((text) => typeof text === 'string' && text.toLowerCase().includes(term));
      const type = typeof entry.room_type === 'string' ? entry.room_type : null;
      if ((term === '' || hasTerm) && (types == null || types.includes(type))) matching.push(row);
    }
    return matching;
  }

  #checkLocal(alias: RoomAlias): void {
    if (serverOf(alias) !== this.#serverName) throw invalidParam('The alias is not one of this server.');
  }
}
