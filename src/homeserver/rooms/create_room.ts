import { base64url } from '../../base/bytes.ts';
import type { Random } from '../../base/random.ts';
import type { Clock } from '../../base/time.ts';
import { badJson, forbidden, invalidParam, MatrixError, unknownError } from '../../matrix/error.ts';
import { authorise } from '../../matrix/event_auth.ts';
import { parseRoomAlias, parseUserId, type RoomAlias, type RoomId, type UserId } from '../../matrix/ids.ts';
import { type JsonObject, own } from '../../matrix/json.ts';
import type { Event } from '../../matrix/pdu.ts';
import { DEFAULT_ROOM_VERSION, type RoomVersion, roomVersion } from '../../matrix/room_version.ts';
import { putAlias, setPublished } from '../../storage/aliases.ts';
import { type Done, notNoted } from '../once.ts';
import type { EventBuilder, EventIntent } from './event_builder.ts';
import type { LocalEvents } from './local_events.ts';
import type { RoomDraft } from './room_draft.ts';
import type { RoomWriter } from './room_writer.ts';
import { ACCEPTED } from './verdict.ts';

/** How many events `initial_state` may hold. */
const MAX_INITIAL_STATE = 200;
/** How many users `invite` may hold. */
const MAX_INITIAL_INVITES = 100;
/** How often the time of a create event is moved on to get a room id that is free. */
const MAX_ATTEMPTS = 100;

/** What POST /createRoom takes, checked for its shape (client-server API, "Creation"). */
export interface CreateRoomRequest {
  readonly visibility?: 'public' | 'private';
  readonly preset?: Preset;
  readonly name?: string;
  readonly topic?: string;
  readonly invite?: readonly string[];
  readonly is_direct?: boolean;
  readonly room_version?: string;
  readonly creation_content?: JsonObject;
  readonly initial_state?: readonly InitialState[];
  readonly power_level_content_override?: JsonObject;
  readonly room_alias_name?: string;
  readonly invite_3pid?: readonly JsonObject[];
}

export interface InitialState {
  readonly type: string;
  readonly state_key?: string;
  readonly content: JsonObject;
}

type Preset = 'private_chat' | 'public_chat' | 'trusted_private_chat';

const PRESETS: Readonly<Record<Preset, { joinRule: string; guestAccess: string }>> = {
  private_chat: { joinRule: 'invite', guestAccess: 'can_join' },
  trusted_private_chat: { joinRule: 'invite', guestAccess: 'can_join' },
  public_chat: { joinRule: 'public', guestAccess: 'forbidden' },
};

/** Which new rooms are encrypted where whoever makes them says nothing of it: `private`, those that are not of the preset public_chat. */
export type EncryptedRooms = 'off' | 'private' | 'all';

/** Client-server API, m.room.encryption: the one algorithm there is. */
const ENCRYPTION = { algorithm: 'm.megolm.v1.aes-sha2' };

/** The levels that a new room starts with. */
const POWER_LEVELS = {
  users_default: 0,
  events_default: 0,
  state_default: 50,
  ban: 50,
  kick: 50,
  redact: 50,
  invite: 0,
  events: {
    'm.room.name': 50,
    'm.room.avatar': 50,
    'm.room.canonical_alias': 50,
    'm.room.power_levels': 100,
    'm.room.history_visibility': 100,
    'm.room.server_acl': 100,
    'm.room.encryption': 100,
    'm.room.tombstone': 100,
  },
};
/** The level of a room's creator, where creators have no privilege of their own. */
export const CREATOR_LEVEL = 100;
/** Client-server API, createRoom: above `state_default` from room version 12 on. */
export const PRIVILEGED_TOMBSTONE_LEVEL = 150;
/** The bytes of chance in the id of a room, where that is not its create event's. */
const ROOM_ID_BYTES = 18;

/** A room that was made, and who is still to be invited. */
export interface CreatedRoom {
  readonly room: RoomId;
  readonly invited: readonly UserId[];
}

/** Makes rooms. Everything but the invites to users of other servers is stored in one transaction. */
export class RoomCreation {
  readonly #writer: RoomWriter;
  readonly #builder: EventBuilder;
  readonly #local: LocalEvents;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #profileOf: (user: UserId) => Promise<JsonObject>;
  readonly #encrypted: EncryptedRooms;

  constructor(options: {
    readonly writer: RoomWriter;
    readonly builder: EventBuilder;
    readonly local: LocalEvents;
    readonly clock: Clock;
    readonly random: Random;
    readonly profileOf: (user: UserId) => Promise<JsonObject>;
    /** Left out: none. */
    readonly encrypted?: EncryptedRooms | undefined;
  }) {
    this.#writer = options.writer;
    this.#builder = options.builder;
    this.#local = options.local;
    this.#clock = options.clock;
    this.#random = options.random;
    this.#profileOf = options.profileOf;
    this.#encrypted = options.encrypted ?? 'off';
  }

  /**
   * Makes a room with everything that the request asks for, except the invites.
   * @throws MatrixError M_UNSUPPORTED_ROOM_VERSION, M_BAD_JSON, M_INVALID_PARAM, M_INVALID_ROOM_STATE, M_ROOM_IN_USE
   */
  async create(
    creator: UserId,
    request: CreateRoomRequest,
    done: Done<CreatedRoom> = notNoted,
  ): Promise<CreatedRoom> {
    const version = supportedVersion(request.room_version ?? DEFAULT_ROOM_VERSION);
    checkBounds(request);
    checkInitialState(creator, request.initial_state ?? []);
    const invited = parseInvites(request.invite ?? []).filter((user) => user !== creator);
    const alias = this.#aliasOf(request);
    const content = createContent(creator, version, request, invited);
    const intents = await this.#intents(creator, request, version, invited);
    const room = await this.make(creator, version, { content, intents }, async (tx, made) => {
      const entry = { alias: alias!, room: made, creator };
      if (alias !== undefined && !(await putAlias(tx, entry, this.#clock.wall()))) throw roomInUse();
      if (request.visibility === 'public') await setPublished(tx, made, true);
      await done(tx, { room: made, invited });
    });
    return { room, invited };
  }

  /**
   * Makes a room out of the content of its create event and the state that follows.
   * @throws MatrixError M_INVALID_ROOM_STATE, or what `done` throws, and then there is no room
   */
  async make(
    creator: UserId,
    version: RoomVersion,
    { content, intents }: { readonly content: JsonObject; readonly intents: readonly EventIntent[] },
    done: Done<RoomId> = notNoted,
  ): Promise<RoomId> {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      // Where the room id is a hash of the event, two of the same content and time would be the same room.
      const create = this.#createEvent(creator, content, version, this.#clock.wall() + attempt);
      const made = await this.#writer.locked(create.room, async () => {
        if ((await this.#writer.open(create.room)) !== undefined) return false;
        const draft = this.#writer.begin(create, version);
        await draft.add(create, draft.current, ACCEPTED, { origin: 'own' });
        for (const intent of intents) await this.#addState(draft, intent);
        await this.#writer.commit(draft, (tx) => done(tx, create.room));
        return true;
      });
      if (made) return create.room;
    }
    throw unknownError(500, 'No room id is free');
  }

  #createEvent(sender: UserId, content: JsonObject, version: RoomVersion, at: number): Event {
    const event = this.#builder.sign(
      {
        type: 'm.room.create',
        sender,
        state_key: '',
        content,
        ...this.#builder.statedId(version),
        ...this.#statedRoom(version),
        origin_server_ts: at,
        depth: 1,
        prev_events: [],
        auth_events: [],
      },
      version,
    );
    const authorised = authorise(event, { create: undefined, state: () => undefined }, version);
    if (!authorised.ok) throw invalidState(authorised.problem.reason);
    return event;
  }

  #statedRoom(version: RoomVersion): { room_id?: RoomId } {
    if (version.roomIsCreateEvent) return {};
    return {
      room_id: `!${base64url(this.#random.bytes(ROOM_ID_BYTES))}:${this.#builder.serverName}` as RoomId,
    };
  }

  /** The events after the create event, in the order that the specification gives. */
  async #intents(
    creator: UserId,
    request: CreateRoomRequest,
    version: RoomVersion,
    invited: readonly UserId[],
  ): Promise<EventIntent[]> {
    const name = request.preset ?? (request.visibility === 'public' ? 'public_chat' : 'private_chat');
    const preset = PRESETS[name];
    const initial = request.initial_state ?? [];
    const state = (type: string, content: JsonObject, stateKey = ''): EventIntent => ({
      type,
      sender: creator,
      stateKey,
      content,
    });
    const given = new Set(initial.filter(({ state_key: key = '' }) => key === '').map(({ type }) => type));
    const presets = [
      state('m.room.join_rules', { join_rule: preset.joinRule }),
      state('m.room.history_visibility', { history_visibility: 'shared' }),
      state('m.room.guest_access', { guest_access: preset.guestAccess }),
      ...(this.#isEncrypted(name, request) ? [state('m.room.encryption', ENCRYPTION)] : []),
    ].filter(({ type }) => !given.has(type));
    const alias = this.#aliasOf(request);
    return [
      await this.joinOf(creator),
      state('m.room.power_levels', {
        ...initialLevels(creator, request, version, invited),
        ...request.power_level_content_override,
      }),
      ...(alias === undefined ? [] : [state('m.room.canonical_alias', { alias })]),
      ...presets,
      ...initial.map(({ type, state_key: key = '', content }) => state(type, content, key)),
      ...(request.name === undefined ? [] : [state('m.room.name', { name: request.name })]),
      ...(request.topic === undefined ? [] : [state('m.room.topic', topicContent(request.topic))]),
    ];
  }

  /** A space has no messages that could be encrypted. */
  #isEncrypted(preset: Preset, { creation_content: content }: CreateRoomRequest): boolean {
    const isMeant = this.#encrypted === 'all' || (this.#encrypted === 'private' && preset !== 'public_chat');
    return isMeant && content?.type !== 'm.space';
  }

  /** The join with which a creator comes into a new room. */
  async joinOf(creator: UserId): Promise<EventIntent> {
    const content = { ...(await this.#profileOf(creator)), membership: 'join' };
    return { type: 'm.room.member', sender: creator, stateKey: creator, content };
  }

  #aliasOf({ room_alias_name: name }: CreateRoomRequest): RoomAlias | undefined {
    if (name === undefined) return undefined;
    const alias = parseRoomAlias(`#${name}:${this.#builder.serverName}`);
    // A colon in the name would make it an alias of another server.
    if (!alias.ok || name.includes(':'))
      throw invalidParam('room_alias_name is no localpart of a room alias.');
    return alias.value;
  }

  async #addState(draft: RoomDraft, intent: EventIntent): Promise<void> {
    try {
      await this.#local.add(draft, intent);
    } catch (error) {
      if (error instanceof MatrixError && error.errcode === 'M_FORBIDDEN') {
        throw invalidState(`${intent.type}: ${error.message}`);
      }
      throw error;
    }
  }
}

/** @throws MatrixError M_UNSUPPORTED_ROOM_VERSION */
export function supportedVersion(id: string): RoomVersion {
  const version = roomVersion(id);
  if (version !== undefined) return version;
  throw new MatrixError(400, 'M_UNSUPPORTED_ROOM_VERSION', 'This server does not support that room version');
}

const roomInUse = (): MatrixError => new MatrixError(400, 'M_ROOM_IN_USE', 'The room alias is taken');

const invalidState = (message: string): MatrixError => new MatrixError(400, 'M_INVALID_ROOM_STATE', message);

/** Client-server API, m.room.topic: the plain text once more in the form that has room for others. */
const topicContent = (topic: string): JsonObject => ({
  topic,
  'm.topic': { 'm.text': [{ mimetype: 'text/plain', body: topic }] },
});

function checkBounds(request: CreateRoomRequest): void {
  if ((request.initial_state?.length ?? 0) > MAX_INITIAL_STATE) {
    throw badJson(`initial_state has more than ${MAX_INITIAL_STATE} events`);
  }
  if ((request.invite?.length ?? 0) > MAX_INITIAL_INVITES) {
    throw badJson(`invite has more than ${MAX_INITIAL_INVITES} users`);
  }
  if ((request.invite_3pid?.length ?? 0) > 0) throw forbidden('Third-party invites are not served');
}

/** Who else is in a room is for invites and joins to say, which the other servers get to see. */
function checkInitialState(creator: UserId, initial: readonly InitialState[]): void {
  for (const { type, state_key: key } of initial) {
    if (type === 'm.room.member' && key !== creator) {
      throw invalidState('initial_state has the membership of somebody else');
    }
  }
}

function parseInvites(invite: readonly string[]): UserId[] {
  const users = new Set<UserId>();
  for (const text of invite) {
    const user = parseUserId(text);
    if (!user.ok) throw badJson(`invite: ${user.problem}`);
    users.add(user.value);
  }
  return [...users];
}

/** The creator's levels, and whom the preset makes his equals (client-server API, createRoom, "preset"). */
function initialLevels(
  creator: UserId,
  request: CreateRoomRequest,
  version: RoomVersion,
  invited: readonly UserId[],
): JsonObject {
  if (version.privilegedCreators) {
    const events = { ...POWER_LEVELS.events, 'm.room.tombstone': PRIVILEGED_TOMBSTONE_LEVEL };
    return { users: {}, ...POWER_LEVELS, events };
  }
  const equals = request.preset === 'trusted_private_chat' ? invited : [];
  return {
    users: Object.fromEntries([creator, ...equals].map((user) => [user, CREATOR_LEVEL])),
    ...POWER_LEVELS,
  };
}

function createContent(
  creator: UserId,
  version: RoomVersion,
  request: CreateRoomRequest,
  invited: readonly UserId[],
): JsonObject {
  const { creator: _, ...content } = request.creation_content ?? {};
  const created: JsonObject = {
    ...content,
    ...(version.creators === 'content' && { creator }),
    room_version: version.id,
  };
  if (request.preset !== 'trusted_private_chat' || version.creators !== 'additional') return created;
  const additional = own(content, 'additional_creators') ?? [];
  if (!Array.isArray(additional)) throw badJson('additional_creators is not a list');
  const creators = [...new Set([...additional, ...invited])];
  return creators.length === 0 ? created : { ...created, additional_creators: creators };
}
