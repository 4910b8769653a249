import type { Millis } from '../base/time.ts';
import type {
  PublicRoomsRequest,
  RemoteDirectory,
  RemoteProfiles,
  RemoteRoomLists,
  ResolvedAlias,
} from '../homeserver/ports.ts';
import { limitExceeded, MatrixError, notFound, unknownError } from '../matrix/error.ts';
import {
  parseRoomId,
  parseServerName,
  type RoomAlias,
  type ServerName,
  serverOf,
  type UserId,
} from '../matrix/ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../matrix/json.ts';
import { publicRoomIn } from './told_rooms.ts';
import { type FederationCall, FederationError, type FederationTransport } from './transport.ts';

const TIMEOUT_MS: Millis = 30_000;
/** Anybody may ask, so that others are asked only so much at a time. */
const MAX_ASKING = 100;
/** What a client is told to wait where that many are. */
const RETRY_AFTER_MS: Millis = 2_000;
/** Servers taken from an answer. */
const MAX_SERVERS = 50;
/** Rooms taken from a page of a directory, and characters of its tokens. */
const MAX_ROOMS = 500;
const MAX_TEXT = 1_024;

/** Asks other servers for their aliases and their users' profiles (server-server API, "Querying for information"). */
export class FederationRemoteDirectory implements RemoteDirectory, RemoteProfiles, RemoteRoomLists {
  readonly #transport: FederationTransport;
  /** Questions that are under way, by alias or user. */
  readonly #asking = new Map<string, Promise<JsonValue>>();

  constructor({ transport }: { readonly transport: FederationTransport }) {
    this.#transport = transport;
  }

  async alias(alias: RoomAlias): Promise<ResolvedAlias> {
    const server = serverOf(alias);
    const body = await this.#ask(server, 'directory', 'room_alias', alias);
    const id = isJsonObject(body) ? own(body, 'room_id') : undefined;
    const room = typeof id === 'string' ? parseRoomId(id) : undefined;
    if (!isJsonObject(body) || !room?.ok) throw unknownError(502, `${server} did not answer with a room`);
    const listed = own(body, 'servers');
    const servers = (Array.isArray(listed) ? listed.slice(0, MAX_SERVERS) : []).flatMap((name) => {
      const parsed = typeof name === 'string' ? parseServerName(name) : undefined;
      return parsed?.ok ? [parsed.value] : [];
    });
    // It answers for the alias, so that it may well be in the room even where it does not say so.
    return { room: room.value, servers: [...new Set([...servers, server])] };
  }

  async profile(user: UserId): Promise<JsonObject> {
    const server = serverOf(user);
    const body = await this.#ask(server, 'profile', 'user_id', user);
    if (!isJsonObject(body)) throw unknownError(502, `${server} did not answer with a profile`);
    return body;
  }

  async publicRooms(server: ServerName, request: PublicRoomsRequest): Promise<JsonObject> {
    const { limit, since, filter } = request;
    const body = await this.#asked(server, `${server} ${JSON.stringify(request)}`, {
      method: 'POST',
      path: '/_matrix/federation/v1/publicRooms',
      body: {
        ...(limit !== undefined && { limit }),
        ...(since !== undefined && { since }),
        ...(filter !== undefined && { filter: JSON.parse(JSON.stringify(filter)) as JsonObject }),
      },
    });
    const chunk = isJsonObject(body) ? own(body, 'chunk') : undefined;
    if (!isJsonObject(body) || !Array.isArray(chunk))
      throw unknownError(502, `${server} did not answer with a room directory`);
    const page: JsonObject = { chunk: chunk.slice(0, MAX_ROOMS).flatMap(publicRoomIn) };
    for (const token of ['next_batch', 'prev_batch']) {
      const value = own(body, token);
      if (typeof value === 'string' && value.length <= MAX_TEXT) page[token] = value;
    }
    const total = own(body, 'total_room_count_estimate');
    if (typeof total === 'number' && Number.isSafeInteger(total)) page.total_room_count_estimate = total;
    return page;
  }

  #ask(server: ServerName, kind: string, name: string, value: string): Promise<JsonValue> {
    return this.#asked(server, value, {
      method: 'GET',
      path: `/_matrix/federation/v1/query/${kind}`,
      query: `${name}=${encodeURIComponent(value)}`,
    });
  }

  /** Who asks for the same meanwhile is told the same. */
  #asked(
    server: ServerName,
    value: string,
    call: Pick<FederationCall, 'method' | 'path' | 'query' | 'body'>,
  ): Promise<JsonValue> {
    const underWay = this.#asking.get(value);
    if (underWay !== undefined) return underWay;
    if (this.#asking.size >= MAX_ASKING)
      throw limitExceeded('Too many questions to other servers are under way', RETRY_AFTER_MS);
    const asked = this.#transport
      .request(server, { ...call, timeoutMs: TIMEOUT_MS, priority: 2 })
      .then(
        ({ body }) => body,
        (error: unknown) => {
          if (error instanceof FederationError)
            throw unknownError(error.problem === 'timeout' ? 504 : 502, error.message);
          if (error instanceof MatrixError && error.status === 404) throw notFound(`${value} not found`);
          throw error instanceof MatrixError ? unknownError(502, `${server}: ${error.message}`) : error;
        },
      )
      .finally(() => this.#asking.delete(value));
    this.#asking.set(value, asked);
    return asked;
  }
}
