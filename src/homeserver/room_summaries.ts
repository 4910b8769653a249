import { notFound } from '../matrix/error.ts';
import type { RoomId, ServerName, UserId } from '../matrix/ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../matrix/json.ts';
import type { Reader } from '../storage/database.ts';
import { isServerExpected, isServerJoined, membershipOf, strippedStateOf } from '../storage/memberships.ts';
import { memberCounts } from '../storage/sync.ts';
import type { RemoteSpaces } from './ports.ts';
import { type RoomNow, roomNow } from './rooms/current_state.ts';
import type { RoomWriter } from './rooms/room_writer.ts';
import { isServerAllowed } from './server_acls.ts';

/** Rooms of a join rule that are looked at, and told. */
const MAX_ALLOWED_ROOMS = 100;

/** Memberships that go with what the room is now. */
const INSIDE: ReadonlySet<string> = new Set(['join', 'invite', 'knock']);

/** Join rules under which everybody may join, or ask to. */
const OPEN_RULES: ReadonlySet<string> = new Set(['public', 'knock', 'knock_restricted']);

/** A room of this server for somebody: `hidden` where they may not see it, `elsewhere` where this server is not in it. */
export type LocalRoom =
  | { readonly kind: 'seen'; readonly summary: JsonObject; readonly now: RoomNow }
  | { readonly kind: 'hidden' | 'elsewhere' };

/** Finds the content of a state event with the empty key. */
type ContentOf = (type: string) => Promise<JsonObject | undefined>;

/** What people are told of rooms that they may not be in (client-server API, "Room summaries", "Published room directory"). */
export class RoomSummaries {
  readonly #db: Reader;
  readonly #writer: RoomWriter;
  readonly #serverName: ServerName;
  readonly #remote: RemoteSpaces | undefined;

  constructor(options: {
    readonly database: Reader;
    readonly writer: RoomWriter;
    readonly serverName: ServerName;
    /** Left out: nothing is told of rooms that this server is not in but what came with invites. */
    readonly remote?: RemoteSpaces;
  }) {
    this.#db = options.database;
    this.#writer = options.writer;
    this.#serverName = options.serverName;
    this.#remote = options.remote;
  }

  /**
   * A room's summary for a user: of one that they are in, are invited to or have knocked on, that everybody may read, join
   * or ask to join, or that admits them by another room of theirs.
   * @param via servers that are asked where this one is not in the room
   * @throws MatrixError M_NOT_FOUND where there is none for them
   */
  async summary(room: RoomId, user: UserId, via: readonly ServerName[] = []): Promise<JsonObject> {
    const row = await membershipOf(this.#db, room, user);
    const membership = row === undefined || row.forgotten ? undefined : row.membership;
    const local = await this.forUser(room, user);
    const summary = local.kind === 'elsewhere' ? await this.#elsewhere(room, user, via) : seenIn(local);
    if (summary === undefined) throw notFound('The room was not found');
    return { ...summary, ...(membership !== undefined && { membership }) };
  }

  /** A room of this server as far as a user may see it. */
  async forUser(room: RoomId, user: UserId): Promise<LocalRoom> {
    const now = await this.#joinedRoom(room);
    if (now === undefined) return { kind: 'elsewhere' };
    const row = await membershipOf(this.#db, room, user);
    const isInside = row !== undefined && !row.forgotten && INSIDE.has(row.membership);
    const summary = await this.#full(room, now);
    const isSeen = isInside || (await this.isOpenTo(summary, user));
    return isSeen ? { kind: 'seen', summary, now } : { kind: 'hidden' };
  }

  /** A room of this server as far as another server could look into it or join it for one of its users. */
  async forServer(room: RoomId, server: ServerName): Promise<LocalRoom> {
    const now = await this.#joinedRoom(room);
    if (now === undefined) return { kind: 'elsewhere' };
    if (!(await isServerAllowed(this.#db, room, server))) return { kind: 'hidden' };
    const summary = await this.#full(room, now);
    if (isOpenToAll(summary) || (await isServerExpected(this.#db, room, server)))
      return { kind: 'seen', summary, now };
    for (const allowed of allowedIn(summary))
      if (await isServerJoined(this.#db, allowed, server)) return { kind: 'seen', summary, now };
    return { kind: 'hidden' };
  }

  /** Whether a room's summary, whoever told it, says that a user may read the room, join it or ask to join it. */
  async isOpenTo(summary: JsonObject, user: UserId): Promise<boolean> {
    if (isOpenToAll(summary)) return true;
    for (const allowed of allowedIn(summary))
      if ((await membershipOf(this.#db, allowed, user))?.membership === 'join') return true;
    return false;
  }

  /** What came with a user's invite to a room, or knock on it. */
  async invitation(room: RoomId, user: UserId): Promise<JsonObject | undefined> {
    const row = await membershipOf(this.#db, room, user);
    if (row === undefined || row.forgotten) return undefined;
    const told = await strippedStateOf(this.#db, room, user);
    return told && this.#strippedSummary(room, told);
  }

  async #elsewhere(room: RoomId, user: UserId, via: readonly ServerName[]): Promise<JsonObject | undefined> {
    const invitation = await this.invitation(room, user);
    const told =
      via.length === 0 ? undefined : await this.#remote?.space(room, via, { suggestedOnly: false });
    const isSeen =
      told !== undefined && (invitation !== undefined || (await this.isOpenTo(told.summary, user)));
    return isSeen ? told.summary : invitation;
  }

  /** A room's state, where this server is in it. */
  async #joinedRoom(room: RoomId): Promise<RoomNow | undefined> {
    return (await isServerJoined(this.#db, room, this.#serverName))
      ? roomNow(this.#db, this.#writer, room)
      : undefined;
  }

  /** A room's entry in the published room directory; undefined where it is not known here. */
  async published(room: RoomId): Promise<JsonObject | undefined> {
    const now = await roomNow(this.#db, this.#writer, room);
    if (now === undefined) return undefined;
    const { allowed_room_ids: _a, encryption: _e, room_version: _v, ...chunk } = await this.#full(room, now);
    return chunk;
  }

  async #full(room: RoomId, now: RoomNow): Promise<JsonObject> {
    const { joined } = await memberCounts(this.#db, room);
    const content: ContentOf = async (type) => (await now.event(type))?.pdu.content;
    return {
      room_id: room,
      num_joined_members: joined,
      ...(await described(content)),
      room_version: now.version.id,
    };
  }

  async #strippedSummary(room: RoomId, state: readonly JsonObject[]): Promise<JsonObject> {
    const content: ContentOf = async (type) => {
      const event = state.find((each) => own(each, 'type') === type && own(each, 'state_key') === '');
      const found = event === undefined ? undefined : own(event, 'content');
      return isJsonObject(found) ? found : undefined;
    };
    const version = textIn(await content('m.room.create'), 'room_version');
    return {
      room_id: room,
      // Nobody has told how many there are but for whoever has invited the user.
      num_joined_members: 1,
      ...(await described(content)),
      ...(version !== undefined && { room_version: version }),
    };
  }
}

const seenIn = (local: LocalRoom): JsonObject | undefined =>
  local.kind === 'seen' ? local.summary : undefined;

const isOpenToAll = (summary: JsonObject): boolean =>
  own(summary, 'world_readable') === true || OPEN_RULES.has(textIn(summary, 'join_rule') ?? '');

/** The rooms by which a restricted room admits people. */
function allowedIn(summary: JsonObject): RoomId[] {
  const allowed = textIn(summary, 'join_rule') === 'restricted' ? own(summary, 'allowed_room_ids') : [];
  return Array.isArray(allowed) ? (allowed.slice(0, MAX_ALLOWED_ROOMS) as RoomId[]) : [];
}

async function described(content: ContentOf): Promise<JsonObject> {
  const rules = await content('m.room.join_rules');
  const create = await content('m.room.create');
  const optional: Record<string, string | undefined> = {
    name: textIn(await content('m.room.name'), 'name'),
    topic: plainTopic(await content('m.room.topic')),
    avatar_url: textIn(await content('m.room.avatar'), 'url'),
    canonical_alias: textIn(await content('m.room.canonical_alias'), 'alias'),
    join_rule: textIn(rules, 'join_rule'),
    room_type: textIn(create, 'type'),
    encryption: textIn(await content('m.room.encryption'), 'algorithm'),
  };
  const given: JsonObject = {};
  for (const [key, value] of Object.entries(optional))
    if (value !== undefined && value !== '') given[key] = value;
  const allowed = allowedRooms(rules);
  const visibility = await content('m.room.history_visibility');
  return {
    ...given,
    world_readable: textIn(visibility, 'history_visibility') === 'world_readable',
    guest_can_join: textIn(await content('m.room.guest_access'), 'guest_access') === 'can_join',
    ...(allowed.length > 0 && { allowed_room_ids: allowed }),
  };
}

/** The rooms whose members a restricted room admits. */
function allowedRooms(rules: JsonObject | undefined): RoomId[] {
  const rule = textIn(rules, 'join_rule');
  if (rule !== 'restricted' && rule !== 'knock_restricted') return [];
  const allow = own(rules!, 'allow');
  return (Array.isArray(allow) ? allow.slice(0, MAX_ALLOWED_ROOMS) : []).flatMap((condition) => {
    const isMembership = isJsonObject(condition) && own(condition, 'type') === 'm.room_membership';
    const room = isMembership ? textIn(condition, 'room_id') : undefined;
    return room === undefined ? [] : [room as RoomId];
  });
}

/** Client-server API, m.room.topic: the text/plain form of the blocks, where there are any; else `topic`. */
function plainTopic(content: JsonObject | undefined): string | undefined {
  const blocks = content === undefined ? undefined : own(content, 'm.topic');
  const texts = isJsonObject(blocks) ? own(blocks, 'm.text') : undefined;
  if (!Array.isArray(texts)) return textIn(content, 'topic');
  const isPlain = (block: JsonValue): boolean =>
    isJsonObject(block) && (own(block, 'mimetype') ?? 'text/plain') === 'text/plain';
  const plain = texts.find(isPlain);
  return isJsonObject(plain) ? textIn(plain, 'body') : undefined;
}

function textIn(content: JsonObject | undefined, key: string): string | undefined {
  const value = content === undefined ? undefined : own(content, key);
  return typeof value === 'string' ? value : undefined;
}
