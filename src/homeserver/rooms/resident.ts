import { forbidden, invalidParam, MatrixError, notFound } from '../../matrix/error.ts';
import { parsePdu } from '../../matrix/event_format.ts';
import { parseUserId, type RoomId, type ServerName, serverOf, type UserId } from '../../matrix/ids.ts';
import { isJsonObject, type JsonObject, own } from '../../matrix/json.ts';
import {
  authEvents as authEventIds,
  type Event,
  type Pdu,
  prevEvents,
  type UnsignedPdu,
} from '../../matrix/pdu.ts';
import { type RoomVersion, roomVersion } from '../../matrix/room_version.ts';
import { addSignature, type SigningKey } from '../../matrix/signing.ts';
import { strippedEvent } from '../../matrix/stripped_state.ts';
import type { Database } from '../../storage/database.ts';
import { isServerJoined, membershipOf } from '../../storage/memberships.ts';
import type { EventBuilder } from './event_builder.ts';
import type { FederatedHistory } from './history.ts';
import { allOf } from './import.ts';
import { inviteBlocked, strippedPdus } from './membership.ts';
import type { OutsideMemberships } from './outside.ts';
import { authorisingUser } from './restricted_join.ts';
import type { RoomDraft } from './room_draft.ts';
import type { RoomWriter } from './room_writer.ts';
import { judge } from './verdict.ts';

/** How many events of stripped state are kept of an invite. */
const MAX_STRIPPED_STATE = 100;

export interface ResidentServices {
  readonly database: Database;
  readonly serverName: ServerName;
  readonly signingKey: SigningKey;
  readonly writer: RoomWriter;
  readonly builder: EventBuilder;
  readonly history: FederatedHistory;
  readonly outside: OutsideMemberships;
  readonly localUserExists: (user: UserId) => Promise<boolean>;
  readonly blocksInvites: (user: UserId) => Promise<boolean>;
}

/** What this server does for users of other servers who join, leave or invite. */
export class Resident {
  readonly #services: ResidentServices;

  constructor(services: ResidentServices) {
    this.#services = services;
  }

  /** See FederatedRooms.makeJoin. @throws MatrixError M_NOT_FOUND, M_FORBIDDEN, M_INCOMPATIBLE_ROOM_VERSION */
  async makeJoin(
    room: RoomId,
    user: UserId,
    versions: readonly string[],
  ): Promise<{ roomVersion: string; event: UnsignedPdu }> {
    const { builder, database, serverName } = this.#services;
    return this.#inRoom(room, async (draft) => {
      const { id } = draft.version;
      if (!versions.includes(id)) throw incompatibleVersion(id);
      const authoriser = await authorisingUser(database, draft, user, serverName);
      const authorised = authoriser === undefined ? {} : { join_authorised_via_users_server: authoriser };
      const content = { membership: 'join', ...authorised };
      const { unsigned } = await builder.place(draft, {
        type: 'm.room.member',
        sender: user,
        stateKey: user,
        content,
      });
      return { roomVersion: id, event: unsigned };
    });
  }

  /** See FederatedRooms.makeKnock. @throws MatrixError M_NOT_FOUND, M_FORBIDDEN, M_INCOMPATIBLE_ROOM_VERSION */
  async makeKnock(
    room: RoomId,
    user: UserId,
    versions: readonly string[],
  ): Promise<{ roomVersion: string; event: UnsignedPdu }> {
    return this.#inRoom(room, async (draft) => {
      const { id } = draft.version;
      if (!versions.includes(id)) throw incompatibleVersion(id);
      const content = { membership: 'knock' };
      const intent = { type: 'm.room.member', sender: user, stateKey: user, content };
      const { unsigned } = await this.#services.builder.place(draft, intent);
      return { roomVersion: id, event: unsigned };
    });
  }

  /** See FederatedRooms.sendKnock. @throws MatrixError M_NOT_FOUND, M_INVALID_PARAM, M_FORBIDDEN */
  async sendKnock(knock: Event): Promise<JsonObject[]> {
    checkMemberEvent(knock, 'knock');
    return this.#inRoom(knock.room, async (draft) => {
      await this.#accept(draft, knock);
      return strippedPdus(draft);
    });
  }

  /** See FederatedRooms.sendJoin. @throws MatrixError M_NOT_FOUND, M_INVALID_PARAM, M_FORBIDDEN */
  async sendJoin(
    join: Event,
  ): Promise<{ state: readonly Event[]; authChain: readonly Event[]; event: Event }> {
    const { database, serverName, history } = this.#services;
    checkMemberEvent(join, 'join');
    const { event, state } = await this.#inRoom(join.room, async (draft) => {
      await this.#checkAuthoriser(database, draft, join);
      // Elsewhere our signature says nothing, and each server that ever gets the event would pay for it.
      const isAuthorised = own(join.pdu.content, 'join_authorised_via_users_server') !== undefined;
      const event = isAuthorised
        ? addSignature(join, draft.version, serverName, this.#services.signingKey)
        : join;
      const before = await this.#accept(draft, event);
      return { event, state: before.map };
    });
    const ids = [...state.values()];
    const authChain = await history.authChain([...ids, event.id]);
    return { event, state: await history.eventsOf(ids), authChain: await history.eventsOf(authChain) };
  }

  /** See FederatedRooms.makeLeave. @throws MatrixError M_NOT_FOUND, M_FORBIDDEN */
  async makeLeave(room: RoomId, user: UserId): Promise<{ roomVersion: string; event: UnsignedPdu }> {
    return this.#inRoom(room, async (draft) => {
      const content = { membership: 'leave' };
      const { unsigned } = await this.#services.builder.place(draft, {
        type: 'm.room.member',
        sender: user,
        stateKey: user,
        content,
      });
      return { roomVersion: draft.version.id, event: unsigned };
    });
  }

  /** See FederatedRooms.sendLeave. @throws MatrixError M_NOT_FOUND, M_INVALID_PARAM, M_FORBIDDEN */
  async sendLeave(leave: Event): Promise<void> {
    checkMemberEvent(leave, 'leave');
    await this.#inRoom(leave.room, async (draft) => {
      await this.#accept(draft, leave);
    });
  }

  /**
   * See FederatedRooms.receiveInvite.
   * @throws MatrixError M_INCOMPATIBLE_ROOM_VERSION, M_INVALID_PARAM, M_NOT_FOUND, M_INVITE_BLOCKED
   */
  async receiveInvite(
    invite: Event,
    roomVersionId: string,
    strippedState: readonly JsonObject[],
  ): Promise<Pdu> {
    const { database, serverName, signingKey, writer, outside, localUserExists, blocksInvites } =
      this.#services;
    const version = roomVersion(roomVersionId);
    if (version === undefined) throw incompatibleVersion(roomVersionId);
    const { type, state_key: target = '', content } = invite.pdu;
    const user = parseUserId(target);
    if (
      type !== 'm.room.member' ||
      content.membership !== 'invite' ||
      !user.ok ||
      serverOf(user.value) !== serverName
    ) {
      throw invalidParam('The event does not invite a user of this server');
    }
    const inviteState = checkedStrippedState(invite.room, version, strippedState);
    if (!(await localUserExists(user.value))) throw notFound('There is no such user on this server');
    if (await blocksInvites(user.value)) throw inviteBlocked();
    const signed = addSignature(invite, version, serverName, signingKey);
    await writer.locked(invite.room, async () => {
      // In the room, the invite comes with the room's other events.
      if (await isServerJoined(database, invite.room, serverName)) return;
      // One that comes once more may have been declined, or accepted and the room left, since it came first.
      if ((await writer.events.get(invite.id)) !== undefined) return;
      const row = await membershipOf(database, invite.room, user.value);
      const isAnswered = row?.event != null && authEventIds(row.event.pdu).includes(invite.id);
      if (row?.eventId !== invite.id && !isAnswered) await outside.record(signed, user.value, inviteState);
    });
    return signed.pdu;
  }

  async #inRoom<T>(room: RoomId, task: (draft: RoomDraft) => Promise<T>): Promise<T> {
    const { database, serverName, writer } = this.#services;
    return writer.locked(room, async () => {
      const draft = (await isServerJoined(database, room, serverName)) ? await writer.open(room) : undefined;
      if (draft === undefined) throw notFound('This server is not in that room');
      return task(draft);
    });
  }

  /** Who vouches for a join in this server's name has been chosen by this server. */
  async #checkAuthoriser(database: Database, draft: RoomDraft, join: Event): Promise<void> {
    const named = own(join.pdu.content, 'join_authorised_via_users_server');
    if (named === undefined) return;
    const chosen = await authorisingUser(database, draft, join.pdu.sender, this.#services.serverName);
    if (chosen !== undefined && named !== chosen) {
      throw invalidParam('join_authorised_via_users_server is not who this server named');
    }
  }

  /** Stores a member event from another server, which has to stand in every check, and sends it on. */
  async #accept(draft: RoomDraft, event: Event) {
    const { states, missing } = await draft.statesAfter(prevEvents(event.pdu));
    const authEvents = await allOf(draft, authEventIds(event.pdu));
    if (missing.length > 0 || authEvents === undefined) {
      throw invalidParam('The event refers to events that this server does not know');
    }
    const before = await draft.resolve(states);
    const known = await this.#services.writer.events.get(event.id);
    if (known !== undefined && known.event.room !== event.room) {
      throw invalidParam('The event has the id of an event of another room');
    }
    if (known?.stateAfter != null) {
      // What was refused when it came as a PDU is refused here too.
      if (known.status !== 'timeline') throw forbidden('The event was refused before');
      return before;
    }
    const verdict = await judge(draft, event, authEvents, before);
    if (verdict.status !== 'timeline') throw forbidden(verdict.reason);
    await draft.add(event, before, verdict, { origin: 'relayed' });
    await this.#services.writer.commit(draft);
    return before;
  }
}

const incompatibleVersion = (version: string): MatrixError =>
  new MatrixError(400, 'M_INCOMPATIBLE_ROOM_VERSION', 'The room version is not supported by both servers', {
    room_version: version,
  });

function checkMemberEvent(event: Event, membership: string): void {
  const { type, content, sender, state_key: target } = event.pdu;
  if (type !== 'm.room.member' || content.membership !== membership || sender !== target) {
    throw invalidParam(`The event is not its sender's ${membership}`);
  }
}

/**
 * What a client may be shown of the state that came with an invite (server-server API, "Inviting to a room"): from room
 * version 12 on the create event has to be among it, as the whole PDU whose hash is the room id. Before, servers may
 * send it stripped or not at all, as the specification had it up to version 1.15.
 */
function checkedStrippedState(
  room: RoomId,
  version: RoomVersion,
  state: readonly JsonObject[],
): JsonObject[] {
  const kept: JsonObject[] = [];
  let created = false;
  for (const value of state.slice(0, MAX_STRIPPED_STATE)) {
    const isWhole = version.roomIsCreateEvent || own(value, 'signatures') !== undefined;
    if (own(value, 'type') === 'm.room.create' && isWhole) {
      const create = parsePdu(value, version);
      if (!create.ok || create.value.room !== room)
        throw invalidParam('The create event is not that of the room');
      created = true;
      kept.push(strippedEvent(create.value));
      continue;
    }
    const { type, sender, state_key: key, content } = value;
    if (
      typeof type === 'string' &&
      typeof sender === 'string' &&
      typeof key === 'string' &&
      isJsonObject(content)
    ) {
      kept.push({ type, sender, state_key: key, content });
    }
  }
  if (!created && version.roomIsCreateEvent)
    throw invalidParam('The create event is missing from invite_room_state');
  return kept;
}
