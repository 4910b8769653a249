import type { Random } from '../../base/random.ts';
import type { Clock, Millis } from '../../base/time.ts';
import { MatrixError, notFound } from '../../matrix/error.ts';
import {
  type EventId,
  parseUserId,
  type RoomAlias,
  type RoomId,
  type ServerName,
  serverOf,
  type UserId,
} from '../../matrix/ids.ts';
import type { JsonObject } from '../../matrix/json.ts';
import type { Event, Pdu } from '../../matrix/pdu.ts';
import type { SigningKey } from '../../matrix/signing.ts';
import { deleteDirectoryEntries } from '../../storage/aliases.ts';
import type { Database } from '../../storage/database.ts';
import { isServerJoined } from '../../storage/memberships.ts';
import { findRoom } from '../../storage/rooms.ts';
import type { Notifier } from '../notifier.ts';
import { type Once, UNRECOGNISED } from '../once.ts';
import type { Outbox, RemoteRooms, ResolvedAlias } from '../ports.ts';
import type { Notifications } from '../push/notifications.ts';
import { type UserLimit, unlimited } from '../user_limits.ts';
import { checkCanonicalAlias } from './canonical_alias.ts';
import {
  type CreatedRoom,
  type CreateRoomRequest,
  type EncryptedRooms,
  RoomCreation,
} from './create_room.ts';
import { EventBuilder } from './event_builder.ts';
import type {
  BackfillRequest,
  FederatedRooms,
  HistoricEvent,
  MissingEventsRequest,
  Received,
  StateBefore,
} from './federated_rooms.ts';
import { FederatedHistory } from './history.ts';
import { RoomImport } from './import.ts';
import { LocalEvents } from './local_events.ts';
import { Memberships } from './membership.ts';
import { OutsideMemberships } from './outside.ts';
import { RoomQueries } from './queries.ts';
import { Receiving } from './receive.ts';
import { Resident } from './resident.ts';
import { type RoomCounters, RoomWriter } from './room_writer.ts';
import { Sending } from './sending.ts';
import { RoomUpgrades } from './upgrade.ts';

export interface RoomsOptions {
  readonly database: Database;
  readonly clock: Clock;
  readonly random: Random;
  readonly serverName: ServerName;
  readonly signingKey: SigningKey;
  readonly remote: RemoteRooms;
  readonly outbox: Outbox;
  readonly notifier: Pick<Notifier, 'published'>;
  readonly profiles: { get(user: UserId): Promise<RoomProfile | undefined> };
  readonly localUserExists: (user: UserId) => Promise<boolean>;
  /** What an alias of any server stands for; left out: none stands for anything. @throws MatrixError */
  readonly resolveAlias?: (alias: RoomAlias) => Promise<ResolvedAlias>;
  /** Left out: events notify nobody. */
  readonly notifications?: Notifications;
  /** Whether a local user takes no invites; left out: nobody refuses them. */
  readonly blocksInvites?: (user: UserId) => Promise<boolean>;
  /** Told of local users who have come into a room by themselves. */
  readonly joined?: (user: UserId, room: RoomId) => Promise<void>;
  /** Which new rooms are encrypted from the start. Left out: none. */
  readonly encrypted?: EncryptedRooms;
  /** Holds users to their rates. Left out: to none. */
  readonly limit?: UserLimit;
}

/** What of a profile goes into member events. */
export interface RoomProfile {
  readonly displayname?: string | null | undefined;
  readonly avatar_url?: string | null | undefined;
}

/** The rooms service: puts its parts together, and is what federation calls. */
export class Rooms implements FederatedRooms {
  readonly sending: Sending;
  readonly memberships: Memberships;
  readonly queries: RoomQueries;
  readonly upgrades: RoomUpgrades;
  readonly writer: RoomWriter;
  readonly #options: RoomsOptions;
  readonly #creation: RoomCreation;
  readonly #receiving: Receiving;
  readonly #resident: Resident;
  readonly #history: FederatedHistory;
  readonly #limit: UserLimit;
  readonly #counters = { invites_failed: 0 };

  constructor(options: RoomsOptions) {
    this.#options = options;
    const { database, clock, serverName, notifier, remote, localUserExists, limit = unlimited } = options;
    const { blocksInvites = async () => false, joined = async () => undefined } = options;
    this.#limit = limit;
    const writer = new RoomWriter(options);
    const builder = new EventBuilder(options);
    const local = new LocalEvents(database, writer, builder);
    const profileOf = async (user: UserId): Promise<JsonObject> =>
      profileContent(await options.profiles.get(user));
    const { notifications } = options;
    const outside = new OutsideMemberships({
      ...{ database, notifier, remote, builder, clock, serverName, notifications },
    });
    const services = {
      ...options,
      writer,
      builder,
      local,
      outside,
      profileOf,
      localUserExists,
      limit,
      blocksInvites,
      joined,
    };
    this.writer = writer;
    this.sending = new Sending(database, writer, local, limit);
    this.queries = new RoomQueries(database, writer, clock);
    this.memberships = new Memberships({ ...services, imports: new RoomImport(writer) });
    this.#history = new FederatedHistory(database, writer);
    this.#creation = new RoomCreation(services);
    this.upgrades = new RoomUpgrades({ database, writer, local, joined, creation: this.#creation });
    this.#receiving = new Receiving({ db: database, serverName, writer, outside });
    this.#resident = new Resident({ ...services, history: this.#history });
  }

  /** What has happened since the start. */
  get counters(): RoomCounters & { invites_failed: number } {
    return { ...this.writer.counters, ...this.#counters };
  }

  /**
   * Makes a room and invites whom the request names. Where an invited user's server does not know the room's version,
   * or blocks the invite, the specification has the request fail: then the room is undone. Any other invite that fails
   * leaves the room as it is, since the client would only make another one; its members show who was invited.
   * @throws MatrixError as `RoomCreation.create`, M_UNSUPPORTED_ROOM_VERSION, M_INVITE_BLOCKED, M_LIMIT_EXCEEDED
   */
  async create(creator: UserId, request: CreateRoomRequest, once: Once = UNRECOGNISED): Promise<RoomId> {
    const { room, invited } = await once.step<CreatedRoom>('room', (made) => {
      this.#limit('creates', creator);
      return this.#creation.create(creator, request, made);
    });
    const done: UserId[] = [];
    for (const user of invited) {
      try {
        const options = { isDirect: request.is_direct, isCreation: true };
        await this.memberships.invite(creator, room, user, options, once);
        done.push(user);
      } catch (error) {
        if (!(error instanceof MatrixError)) throw error;
        const failure = failureOfCreation(error);
        if (failure !== undefined) {
          await this.#undo(creator, room, done);
          throw failure;
        }
        this.#counters.invites_failed++;
      }
    }
    return room;
  }

  /** Takes invites back and leaves a room that the client is not to see. */
  async #undo(creator: UserId, room: RoomId, invited: readonly UserId[]): Promise<void> {
    for (const user of invited) {
      try {
        await this.memberships.kick(creator, room, user);
      } catch (error) {
        // They may have declined meanwhile, or be creators as well.
        if (!(error instanceof MatrixError)) throw error;
      }
    }
    try {
      await this.memberships.leave(creator, room);
    } catch (error) {
      // A repetition of the request may have come so far already.
      if (!(error instanceof MatrixError)) throw error;
    }
    await this.memberships.forget(creator, room, (tx) => deleteDirectoryEntries(tx, room));
  }

  /**
   * Sets a state event. An invite is handled as one; aliases have to lead to the room.
   * @throws MatrixError as `Sending.setState`, `Memberships.invite`, `checkCanonicalAlias`
   */
  async setState(
    room: RoomId,
    sender: UserId,
    type: string,
    key: string,
    content: JsonObject,
    once: Once = UNRECOGNISED,
  ): Promise<EventId> {
    const target = parseUserId(key);
    if (type === 'm.room.member' && content.membership === 'invite' && target.ok) {
      this.#limit('invites', sender);
      return this.memberships.inviteWith(sender, room, target.value, content, once);
    }
    if (type === 'm.room.canonical_alias' && key === '') {
      const before = (await this.queries.currentEvent(room, type, key))?.pdu.content ?? {};
      await checkCanonicalAlias(content, before, room, this.#options.resolveAlias ?? noAlias);
    }
    return once.step<EventId>('state', (done) =>
      this.sending.setState(room, sender, type, key, content, done),
    );
  }

  /** ProfileListener: the rooms of a user show the new profile. */
  async profileChanged(user: UserId): Promise<void> {
    if (serverOf(user) === this.#options.serverName) await this.memberships.profileChanged(user);
  }

  async versionOf(room: RoomId): Promise<string | undefined> {
    // Events of a room that is just being joined wait for the join.
    await this.memberships.settled(room);
    return (await findRoom(this.#options.database, room))?.version;
  }

  isServerInRoom(room: RoomId, server: ServerName): Promise<boolean> {
    return isServerJoined(this.#options.database, room, server);
  }

  async receive(event: Event, stateBefore?: StateBefore): Promise<Received> {
    await this.memberships.settled(event.room);
    return this.#receiving.receive(event, stateBefore);
  }

  async receiveHistoric(historic: HistoricEvent, stateBefore?: StateBefore): Promise<Received> {
    await this.memberships.settled(historic.event.room);
    return this.#receiving.receive(historic.event, stateBefore, historic);
  }

  makeJoin(room: RoomId, user: UserId, versions: readonly string[]) {
    return this.#resident.makeJoin(room, user, versions);
  }

  sendJoin(join: Event) {
    return this.#resident.sendJoin(join);
  }

  makeKnock(room: RoomId, user: UserId, versions: readonly string[]) {
    return this.#resident.makeKnock(room, user, versions);
  }

  sendKnock(knock: Event) {
    return this.#resident.sendKnock(knock);
  }

  makeLeave(room: RoomId, user: UserId) {
    return this.#resident.makeLeave(room, user);
  }

  sendLeave(leave: Event): Promise<void> {
    return this.#resident.sendLeave(leave);
  }

  receiveInvite(invite: Event, roomVersion: string, strippedState: readonly JsonObject[]): Promise<Pdu> {
    return this.#resident.receiveInvite(invite, roomVersion, strippedState);
  }

  event(id: EventId, server: ServerName): Promise<Event | undefined> {
    return this.#history.event(id, server);
  }

  known(ids: readonly EventId[]): Promise<ReadonlySet<EventId>> {
    return this.#history.known(ids);
  }

  stateIds(room: RoomId, at: EventId, server: ServerName) {
    return this.#history.stateIds(room, at, server);
  }

  missingEvents(room: RoomId, request: MissingEventsRequest, server: ServerName) {
    return this.#history.missingEvents(room, request, server);
  }

  backfill(room: RoomId, request: BackfillRequest, server: ServerName): Promise<readonly Event[]> {
    return this.#history.backfill(room, request, server);
  }

  closest(room: RoomId, request: { readonly time: Millis; readonly dir: 'b' | 'f' }, server: ServerName) {
    return this.#history.closest(room, request, server);
  }

  forwardExtremities(room: RoomId): Promise<readonly EventId[]> {
    return this.#history.forwardExtremities(room);
  }
}

/** What POST /createRoom answers (client-server API, "Creation", 400 and 403) where an invite failed in this way. */
function failureOfCreation({ errcode, message }: MatrixError): MatrixError | undefined {
  if (errcode === 'M_INCOMPATIBLE_ROOM_VERSION' || errcode === 'M_UNSUPPORTED_ROOM_VERSION') {
    return new MatrixError(400, 'M_UNSUPPORTED_ROOM_VERSION', message);
  }
  return errcode === 'M_INVITE_BLOCKED' ? new MatrixError(403, errcode, message) : undefined;
}

const noAlias = async (alias: RoomAlias): Promise<never> => {
  throw notFound(`Room alias ${alias} not found`);
};

function profileContent(profile: RoomProfile | undefined): JsonObject {
  return {
    ...(profile?.displayname == null ? {} : { displayname: profile.displayname }),
    ...(profile?.avatar_url == null ? {} : { avatar_url: profile.avatar_url }),
  };
}
