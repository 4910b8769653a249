import { notFound } from '../matrix/error.ts';
import type { RoomId, ServerName, UserId } from '../matrix/ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../matrix/json.ts';
import type { Reader } from '../storage/database.ts';
import { isServerJoined, membershipOf, strippedStateOf } from '../storage/memberships.ts';
import { memberCounts } from '../storage/sync.ts';
import { type RoomNow, roomNow } from './rooms/current_state.ts';
import type { RoomWriter } from './rooms/room_writer.ts';

/** Rooms of a join rule that are looked at, and told. */
const MAX_ALLOWED_ROOMS = 100;

/** Memberships that go with what the room is now. */
const INSIDE: ReadonlySet<string> = new Set(['join', 'invite', 'knock']);

/** Finds the content of a state event with the empty key. */
type ContentOf = (type: string) => Promise<JsonObject | undefined>;

/** What people are told of rooms that they may not be in (client-server API, "Room summaries", "Published room directory"). */
export class RoomSummaries {
  readonly #db: Reader;
  readonly #writer: RoomWriter;
  readonly #serverName: ServerName;

  constructor(options: {
    readonly database: Reader;
    readonly writer: RoomWriter;
    readonly serverName: ServerName;
  }) {
    this.#db = options.database;
    this.#writer = options.writer;
    this.#serverName = options.serverName;
  }

  /**
   * A room's summary for a user: of one that they are in, are invited to or have knocked on, that everybody may read, join
   * or ask to join, or that admits them by another room of theirs.
   * @throws MatrixError M_NOT_FOUND where there is none for them here
   */
  async summary(room: RoomId, user: UserId): Promise<JsonObject> {
    const row = await membershipOf(this.#db, room, user);
    const isKnown = row !== undefined && !row.forgotten;
    const now = (await isServerJoined(this.#db, room, this.#serverName))
      ? await roomNow(this.#db, this.#writer, room)
      : undefined;
    if (now === undefined) {
      // Of a room that this server is not in, an invite says something.
      const told = isKnown ? await strippedStateOf(this.#db, room, user) : undefined;
      if (told === undefined) throw notFound('The room was not found');
      return { ...(await this.#strippedSummary(room, told)), membership: row!.membership };
    }
    const isInside = isKnown && INSIDE.has(row.membership);
    if (!isInside && !(await this.#isOpenTo(now, user))) throw notFound('The room was not found');
    return { ...(await this.#full(room, now)), ...(isKnown && { membership: row.membership }) };
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

  async #isOpenTo(now: RoomNow, user: UserId): Promise<boolean> {
    const visibility = textIn(
      (await now.event('m.room.history_visibility'))?.pdu.content,
      'history_visibility',
    );
    if (visibility === 'world_readable') return true;
    const rules = (await now.event('m.room.join_rules'))?.pdu.content;
    const rule = textIn(rules, 'join_rule');
    if (rule === 'public' || rule === 'knock' || rule === 'knock_restricted') return true;
    if (rule !== 'restricted') return false;
    for (const allowed of allowedRooms(rules)) {
      if ((await membershipOf(this.#db, allowed, user))?.membership === 'join') return true;
    }
    return false;
  }
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
