import { forbidden, invalidParam, MatrixError } from '../../matrix/error.ts';
import { type EventId, parseUserId, type RoomId, type UserId } from '../../matrix/ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../../matrix/json.ts';
import { splitStateKey } from '../../matrix/pdu.ts';
import { creatorsOf, readLevel } from '../../matrix/power_levels.ts';
import type { RoomVersion } from '../../matrix/room_version.ts';
import { aliasesOf, moveDirectoryEntries } from '../../storage/aliases.ts';
import type { Database } from '../../storage/database.ts';
import { findRoom, forwardExtremities } from '../../storage/rooms.ts';
import { type Once, UNRECOGNISED } from '../once.ts';
import {
  CREATOR_LEVEL,
  PRIVILEGED_TOMBSTONE_LEVEL,
  type RoomCreation,
  supportedVersion,
} from './create_room.ts';
import { maySetState, type RoomNow, roomNow } from './current_state.ts';
import type { EventIntent } from './event_builder.ts';
import type { LocalEvents } from './local_events.ts';
import type { RoomDraft } from './room_draft.ts';
import type { RoomWriter } from './room_writer.ts';
import { sameJson } from './sending.ts';

/** Client-server API, "Room Upgrades", step 3, in that order; the power levels come first so that the rest may follow. */
const TRANSFERRED = [
  'm.room.server_acl',
  'm.room.encryption',
  'm.room.name',
  'm.room.avatar',
  'm.room.topic',
  'm.room.guest_access',
  'm.room.history_visibility',
  'm.room.join_rules',
] as const;
/** "Room Upgrades", step 6. */
const CLOSED_LEVEL = 50;

/** Rooms of a space that its replacement takes over. */
const MAX_CHILDREN = 1_000;

const POWER_LEVELS = 'm.room.power_levels';
const CANONICAL_ALIAS = 'm.room.canonical_alias';
const LEVELS = [
  'ban',
  'kick',
  'redact',
  'invite',
  'users_default',
  'events_default',
  'state_default',
] as const;
const LEVEL_MAPS = ['users', 'events', 'notifications'] as const;

/** What POST /rooms/{roomId}/upgrade asks for. */
export interface UpgradeRequest {
  readonly new_version: string;
  readonly additional_creators?: readonly string[] | undefined;
}

/** Replaces rooms by such of another version (client-server API, "Room Upgrades"). */
export class RoomUpgrades {
  readonly #database: Database;
  readonly #writer: RoomWriter;
  readonly #creation: RoomCreation;
  readonly #local: LocalEvents;
  readonly #joined: (user: UserId, room: RoomId) => Promise<void>;

  constructor(options: {
    readonly database: Database;
    readonly writer: RoomWriter;
    readonly creation: RoomCreation;
    readonly local: LocalEvents;
    /** Told that the upgrading user is in the replacement. */
    readonly joined: (user: UserId, room: RoomId) => Promise<void>;
  }) {
    this.#database = options.database;
    this.#writer = options.writer;
    this.#creation = options.creation;
    this.#local = options.local;
    this.#joined = options.joined;
  }

  /**
   * Makes the replacement, then closes the room.
   * @returns the replacement
   * @throws MatrixError M_UNSUPPORTED_ROOM_VERSION, M_INVALID_PARAM, M_FORBIDDEN
   */
  async upgrade(
    room: RoomId,
    user: UserId,
    request: UpgradeRequest,
    once: Once = UNRECOGNISED,
  ): Promise<RoomId> {
    const version = supportedVersion(request.new_version);
    const creators =
      version.creators === 'additional' ? parseCreators(request.additional_creators ?? [], user) : [];
    const replacement = await once.step<RoomId>('replacement', async (done) => {
      const now = await roomNow(this.#database, this.#writer, room);
      if (now === undefined || !(await maySetState(this.#database, now, room, user, 'm.room.tombstone'))) {
        throw forbidden('You may not upgrade this room');
      }
      const content = await this.#createContent(room, now, version, user, creators);
      const intents = await this.#intents(room, now, version, user, creators);
      return this.#creation.make(user, version, { content, intents }, done);
    });
    await once.step<RoomId>('tombstone', async (done) => {
      const content = { body: 'This room has been replaced', replacement_room: replacement };
      await this.#local.append(
        room,
        async () => ({ type: 'm.room.tombstone', sender: user, stateKey: '', content }),
        {
          done: async (tx) => {
            await moveDirectoryEntries(tx, room, replacement);
            await done(tx, replacement);
          },
        },
      );
      return replacement;
    });
    await this.#close(room, user, replacement, once);
    await this.#joined(user, replacement);
    return replacement;
  }

  async #createContent(
    room: RoomId,
    now: RoomNow,
    version: RoomVersion,
    user: UserId,
    creators: readonly UserId[],
  ): Promise<JsonObject> {
    const old = (await now.event('m.room.create'))?.pdu.content ?? {};
    const type = own(old, 'type');
    const federates = own(old, 'm.federate');
    const predecessor: JsonObject = { room_id: room };
    // From version 12 on a room's id is known after its create event only, so that no tombstone can be named there.
    if (!version.roomIsCreateEvent) {
      const found = (await findRoom(this.#database, room))!;
      const last = (await forwardExtremities(this.#database, found.row)).sort((a, b) => b.depth - a.depth)[0];
      if (last !== undefined) predecessor.event_id = last.id;
    }
    return {
      ...(version.creators === 'content' && { creator: user }),
      ...(type !== undefined && { type }),
      ...(federates !== undefined && { 'm.federate': federates }),
      ...(creators.length > 0 && { additional_creators: [...creators] }),
      room_version: version.id,
      predecessor,
    };
  }

  /** What follows the create event of the replacement. */
  async #intents(
    room: RoomId,
    now: RoomNow,
    version: RoomVersion,
    user: UserId,
    creators: readonly UserId[],
  ): Promise<EventIntent[]> {
    const intent = (type: string, content: JsonObject, stateKey = ''): EventIntent => ({
      ...{ type, sender: user, stateKey, content },
    });
    const copies: EventIntent[] = [];
    for (const type of TRANSFERRED) {
      const event = await now.event(type);
      if (event !== undefined) copies.push(intent(type, event.pdu.content));
    }
    copies.push(
      ...(await this.#children(now)).map(({ key, content }) => intent('m.space.child', content, key)),
    );
    const canonical = await this.#canonicalAlias(room, now);
    if (canonical !== undefined) copies.push(intent(CANONICAL_ALIAS, canonical));
    const levels = await newLevels(now, version, user, creators);
    const needed = version.privilegedCreators ? undefined : levelsToCopy(levels, copies, user);
    return [
      await this.#creation.joinOf(user),
      intent(POWER_LEVELS, needed ?? levels),
      ...copies,
      ...(needed === undefined ? [] : [intent(POWER_LEVELS, levels)]),
    ];
  }

  /** The rooms of a space. */
  async #children(now: RoomNow): Promise<{ readonly key: string; readonly content: JsonObject }[]> {
    const children: { key: string; content: JsonObject }[] = [];
    for (const place of now.state.map.keys()) {
      const { type, key } = splitStateKey(place);
      if (type !== 'm.space.child' || children.length >= MAX_CHILDREN) continue;
      const content = (await now.event(type, key))?.pdu.content;
      // One that was taken out of the space stays in the state without its servers.
      if (content !== undefined && own(content, 'via') !== undefined) children.push({ key, content });
    }
    return children;
  }

  /** What the canonical aliases come to where only those of this server, which move, are left. */
  async #canonicalAlias(room: RoomId, now: RoomNow): Promise<JsonObject | undefined> {
    const content = (await now.event(CANONICAL_ALIAS))?.pdu.content;
    if (content === undefined) return undefined;
    const moving = new Set<unknown>(await aliasesOf(this.#database, room));
    const others = own(content, 'alt_aliases');
    const alias = own(content, 'alias');
    const kept = (Array.isArray(others) ? others : []).filter((each) => moving.has(each));
    if (!moving.has(alias) && kept.length === 0) return undefined;
    return { ...(moving.has(alias) && { alias: alias! }), ...(kept.length > 0 && { alt_aliases: kept }) };
  }

  /** Takes what has moved out of the old room's canonical aliases, and closes it for all who are no moderators, as far as the user may. */
  async #close(room: RoomId, user: UserId, replacement: RoomId, once: Once): Promise<void> {
    const now = await roomNow(this.#database, this.#writer, room);
    if (now === undefined) return;
    const canonical = (await now.event(CANONICAL_ALIAS))?.pdu.content;
    if (canonical !== undefined) {
      const moved = new Set<unknown>(await aliasesOf(this.#database, replacement));
      const { alias, alt_aliases: others, ...rest } = canonical;
      const left = (Array.isArray(others) ? others : []).filter((each) => !moved.has(each));
      const content = {
        ...rest,
        ...(alias !== undefined && !moved.has(alias) && { alias }),
        ...(left.length > 0 && { alt_aliases: left }),
      };
      await this.#trySet(room, user, CANONICAL_ALIAS, content, once);
    }
    const levels = (await now.event(POWER_LEVELS))?.pdu.content ?? {};
    const level = (key: (typeof LEVELS)[number]): number => writableLevel(own(levels, key), now.version) ?? 0;
    const closed = Math.max(CLOSED_LEVEL, level('users_default') + 1);
    await this.#trySet(
      room,
      user,
      POWER_LEVELS,
      {
        ...levels,
        events_default: Math.max(closed, level('events_default')),
        invite: Math.max(closed, level('invite')),
      },
      once,
    );
  }

  async #trySet(room: RoomId, sender: UserId, type: string, content: JsonObject, once: Once): Promise<void> {
    const decide = async (draft: RoomDraft): Promise<EventIntent | EventId> => {
      const current = await draft.currentEvent(type, '');
      const isSo = current !== undefined && sameJson(current.pdu.content, content);
      return isSo ? current.id : { type, sender, stateKey: '', content };
    };
    try {
      await once.step<EventId>(type, (done) => this.#local.append(room, decide, { done }));
    } catch (error) {
      // The room is replaced already; this would only have made it clearer.
      if (!(error instanceof MatrixError)) throw error;
    }
  }
}

function parseCreators(given: readonly string[], user: UserId): UserId[] {
  const creators = new Set<UserId>();
  for (const text of given) {
    const parsed = parseUserId(text);
    if (!parsed.ok) throw invalidParam(`additional_creators: ${parsed.problem}.`);
    if (parsed.value !== user) creators.add(parsed.value);
  }
  return [...creators];
}

/** A level as every version can write it: what old ones have past 2^53 becomes the highest or lowest of those. */
function writableLevel(value: JsonValue | undefined, version: RoomVersion): number | undefined {
  const level = readLevel(value, version);
  if (typeof level !== 'bigint') return level;
  return level > 0n ? Number.MAX_SAFE_INTEGER : Number.MIN_SAFE_INTEGER;
}

/**
 * The power levels of the replacement: those of the room as the new version writes them. Its creators are above all
 * levels, or, where the version knows none who are, at the level that creators start with.
 */
async function newLevels(
  now: RoomNow,
  version: RoomVersion,
  user: UserId,
  additional: readonly UserId[],
): Promise<JsonObject> {
  const create = await now.event('m.room.create');
  const power = await now.event(POWER_LEVELS);
  const old = power?.pdu.content ?? {};
  const levels: JsonObject = { ...old };
  for (const key of LEVELS) {
    const level = writableLevel(own(old, key), now.version);
    if (level === undefined) delete levels[key];
    else levels[key] = level;
  }
  for (const key of LEVEL_MAPS) {
    const map = own(old, key);
    const entries = Object.entries(isJsonObject(map) ? map : {}).flatMap(([name, value]) => {
      const level = writableLevel(value, now.version);
      return level === undefined ? [] : [[name, level] as const];
    });
    if (entries.length > 0 || map !== undefined) levels[key] = Object.fromEntries(entries);
  }
  const users = { ...(levels.users as JsonObject | undefined) };
  const oldCreators = create === undefined ? [] : [...creatorsOf(create, now.version)];
  if (version.privilegedCreators) {
    for (const creator of [user, ...additional]) delete users[creator];
    const events = { ...(levels.events as JsonObject | undefined) };
    const tombstone = Number(events['m.room.tombstone'] ?? 0);
    const above = Number(levels.state_default ?? CLOSED_LEVEL) + 1;
    events['m.room.tombstone'] = Math.max(tombstone, above, PRIVILEGED_TOMBSTONE_LEVEL);
    levels.events = events;
  } else if (now.version.privilegedCreators || power === undefined) {
    for (const creator of oldCreators) users[creator] = CREATOR_LEVEL;
  }
  return { ...levels, users };
}

/** The levels with which a user may copy state that is above them, or undefined where they may as it is. */
function levelsToCopy(
  levels: JsonObject,
  copies: readonly EventIntent[],
  user: UserId,
): JsonObject | undefined {
  const events = levels.events as JsonObject | undefined;
  const users = levels.users as JsonObject;
  const required = [POWER_LEVELS, ...copies.map(({ type }) => type)].map((type) =>
    Number((events && own(events, type)) ?? levels.state_default ?? CLOSED_LEVEL),
  );
  const own_ = Number(own(users, user) ?? levels.users_default ?? 0);
  const needed = Math.max(...required);
  return own_ >= needed ? undefined : { ...levels, users: { ...users, [user]: needed } };
}
