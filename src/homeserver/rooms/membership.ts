import { forbidden, MatrixError, notFound, unknownError } from '../../matrix/error.ts';
import {
  type EventId,
  parseServerName,
  parseUserId,
  type RoomId,
  type ServerName,
  serverOf,
  type UserId,
} from '../../matrix/ids.ts';
import type { JsonObject } from '../../matrix/json.ts';
import { authEvents as authEventIds, type Event, prevEvents, splitStateKey } from '../../matrix/pdu.ts';
import { STRIPPED_STATE } from '../../matrix/stripped_state.ts';
import type { Database } from '../../storage/database.ts';
import {
  forget,
  isServerJoined,
  type MembershipRow,
  membershipOf,
  roomsOf,
  strippedStateOf,
} from '../../storage/memberships.ts';
import { type Done, notNoted, type Once, UNRECOGNISED } from '../once.ts';
import type { RemoteRooms } from '../ports.ts';
import type { UserLimit } from '../user_limits.ts';
import { Arrivals } from './arrivals.ts';
import type { EventBuilder, EventIntent } from './event_builder.ts';
import type { RoomImport } from './import.ts';
import { type LocalEvents, notInRoom } from './local_events.ts';
import type { OutsideMemberships } from './outside.ts';
import { authorisingUser } from './restricted_join.ts';
import type { RoomDraft } from './room_draft.ts';
import type { RoomWriter } from './room_writer.ts';
import { judge } from './verdict.ts';

/** How many servers a join is tried through. */
const MAX_VIA = 20;

export interface MembershipServices {
  readonly database: Database;
  readonly serverName: ServerName;
  readonly writer: RoomWriter;
  readonly builder: EventBuilder;
  readonly local: LocalEvents;
  readonly remote: RemoteRooms;
  readonly imports: RoomImport;
  readonly outside: OutsideMemberships;
  /** What of a user's profile goes into member events. */
  readonly profileOf: (user: UserId) => Promise<JsonObject>;
  readonly localUserExists: (user: UserId) => Promise<boolean>;
  /** Whether a local user takes no invites. */
  readonly blocksInvites: (user: UserId) => Promise<boolean>;
  readonly limit: UserLimit;
  /** Told of everybody who has come in. */
  readonly joined: (user: UserId, room: RoomId) => Promise<void>;
}

/** Client-server API, "Invite permission". */
export const inviteBlocked = (): MatrixError =>
  new MatrixError(403, 'M_INVITE_BLOCKED', 'The user takes no invites');

export interface JoinOptions {
  readonly via?: readonly string[];
  readonly reason?: string | undefined;
}

/** An invite that the invited user's server has not signed. */
interface PreparedInvite {
  readonly event: Event;
  readonly version: string;
  readonly strippedState: readonly JsonObject[];
}

/** What one user makes of another's membership. */
interface Change {
  readonly sender: UserId;
  readonly target: UserId;
  readonly membership: 'leave' | 'ban';
  readonly reason: string | undefined;
}

/** How local users come into rooms, get others in, and leave or put out. */
export class Memberships {
  readonly #services: MembershipServices;
  readonly arrivals: Arrivals;
  /** Joins through other servers that are in progress, by room. */
  readonly #joining = new Map<RoomId, Promise<void>>();

  constructor(services: MembershipServices) {
    this.#services = services;
    this.arrivals = new Arrivals(services.database, async ({ user, room }) => {
      await this.#showProfile(user, room);
      await services.joined(user, room);
    });
  }

  /** Resolves when no join of a room through another server is in progress, whatever came of it. */
  async settled(room: RoomId): Promise<void> {
    await this.#joining.get(room)?.catch(() => undefined);
  }

  /**
   * Joins a room: here where this server is in it, else through `via` and the inviter's server.
   * @throws MatrixError M_FORBIDDEN, M_LIMIT_EXCEEDED, or as the other servers answered
   */
  async join(user: UserId, room: RoomId, options: JoinOptions, once: Once = UNRECOGNISED): Promise<void> {
    await once.step<boolean>('join', async (done) => {
      this.#services.limit('joins', user);
      await this.#join(user, room, options, async (tx) => {
        await this.arrivals.note(tx, { user, room });
        await done(tx, true);
      });
      return true;
    });
    await this.arrivals.finish({ user, room });
  }

  async #join(user: UserId, room: RoomId, options: JoinOptions, done: Done<void>): Promise<void> {
    const { database, serverName, remote, imports } = this.#services;
    await this.settled(room);
    const content = await this.#content(user, 'join', options.reason);
    if (await isServerJoined(database, room, serverName)) {
      return this.#joinHere(user, room, content, done);
    }
    const via = await this.#joinCandidates(user, room, options.via ?? []);
    if (via.length === 0) throw notFound('No server is known that is in this room');
    const running = this.#joining.get(room);
    // Somebody else began meanwhile: with them the room comes here.
    if (running !== undefined) return this.#join(user, room, options, done);
    const joining = remote.join({ room, user, via, content }).then(async (joined) => {
      await imports.take(room, user, joined, async (tx) => {
        await remote.imported(tx, room);
        await done(tx);
      });
    });
    this.#joining.set(room, joining);
    try {
      await joining;
    } finally {
      this.#joining.delete(room);
    }
  }

  async #joinHere(user: UserId, room: RoomId, content: JsonObject, done: Done<void>): Promise<void> {
    const { database, serverName, local } = this.#services;
    const decide = async (draft: RoomDraft): Promise<EventIntent | EventId> => {
      const current = await draft.currentEvent('m.room.member', user);
      if (current?.pdu.content.membership === 'join') return current.id;
      const authoriser = await authorisingUser(database, draft, user, serverName);
      const authorised = authoriser === undefined ? {} : { join_authorised_via_users_server: authoriser };
      return { type: 'm.room.member', sender: user, stateKey: user, content: { ...content, ...authorised } };
    };
    await local.append(room, decide, { done: (tx) => done(tx) });
  }

  async #joinCandidates(user: UserId, room: RoomId, via: readonly string[]): Promise<ServerName[]> {
    const candidates = new Set<ServerName>();
    for (const text of via) {
      const name = parseServerName(text);
      if (name.ok) candidates.add(name.value);
    }
    const row = await membershipOf(this.#services.database, room, user);
    const invite =
      row?.membership === 'invite'
        ? (row.event ?? (await this.#services.writer.events.get(row.eventId))?.event)
        : null;
    if (invite != null) candidates.add(serverOf(invite.pdu.sender));
    candidates.delete(this.#services.serverName);
    return [...candidates].slice(0, MAX_VIA);
  }

  /**
   * Asks to be let into a room: here where this server is in it, else through `via`.
   * @throws MatrixError M_FORBIDDEN, M_NOT_FOUND, M_LIMIT_EXCEEDED, or as the other servers answered
   */
  knock(user: UserId, room: RoomId, options: JoinOptions, once: Once = UNRECOGNISED): Promise<boolean> {
    return once.step<boolean>('knock', async (done) => {
      const { database, serverName, local, limit } = this.#services;
      limit('joins', user);
      await this.settled(room);
      const content = await this.#content(user, 'knock', options.reason);
      if (!(await isServerJoined(database, room, serverName))) {
        const via = await this.#joinCandidates(user, room, options.via ?? []);
        if (via.length === 0) throw notFound('No server is known that is in this room');
        return this.#knockElsewhere({ user, room, via, content }, once, done);
      }
      const decide = async (draft: RoomDraft): Promise<EventIntent | EventId> => {
        const current = await draft.currentEvent('m.room.member', user);
        if (current?.pdu.content.membership === 'knock') return current.id;
        return { type: 'm.room.member', sender: user, stateKey: user, content };
      };
      await local.append(room, decide, { done: (tx) => done(tx, true) });
      return true;
    });
  }

  async #knockElsewhere(
    request: Parameters<RemoteRooms['makeKnock']>[0],
    once: Once,
    done: Done<boolean>,
  ): Promise<boolean> {
    const { database, outside, remote, writer } = this.#services;
    const { room, user } = request;
    // The other server is to see one event, however often it has to be asked.
    const knock = await once.decide('knock event', () => remote.makeKnock(request));
    const before = await membershipOf(database, room, user);
    const strippedState = await remote.sendKnock(knock);
    await writer.locked(room, async () => {
      const now = await membershipOf(database, room, user);
      // An invite may have been the answer, and have come first.
      if (now?.eventId !== before?.eventId) return;
      await outside.record(knock.event, user, strippedState, (tx) => done(tx, true));
    });
    return true;
  }

  /**
   * Invites a user; one who is invited already stays so.
   * @throws MatrixError M_FORBIDDEN, M_LIMIT_EXCEEDED, M_NOT_FOUND for a local user who does not exist, or as the other server answered
   */
  async invite(
    sender: UserId,
    room: RoomId,
    target: UserId,
    options: {
      readonly reason?: string | undefined;
      readonly isDirect?: boolean | undefined;
      /** It is part of making a room, which counts as one. */
      readonly isCreation?: boolean;
    } = {},
    once: Once = UNRECOGNISED,
  ): Promise<void> {
    if (options.isCreation !== true) this.#services.limit('invites', sender);
    const content = await this.#content(target, 'invite', options.reason);
    if (options.isDirect === true) content.is_direct = true;
    await this.inviteWith(sender, room, target, content, once);
  }

  /** `invite` with the content of the event given. @returns the invite's id */
  inviteWith(
    sender: UserId,
    room: RoomId,
    target: UserId,
    content: JsonObject,
    once: Once = UNRECOGNISED,
  ): Promise<EventId> {
    const intent = { type: 'm.room.member', sender, stateKey: target, content };
    return once.step<EventId>(`invite ${target}`, async (done) => {
      if (serverOf(target) === this.#services.serverName) return this.#inviteHere(room, target, intent, done);
      // The other server is to see one event, however often it has to be asked.
      const prepared = await once.decide(`event for ${target}`, () =>
        this.#prepareInvite(room, target, intent),
      );
      if (typeof prepared === 'string') return prepared;
      const signed = await this.#countersign(prepared, serverOf(target));
      await this.#storeInvite(signed, done);
      return signed.id;
    });
  }

  async #inviteHere(
    room: RoomId,
    target: UserId,
    intent: EventIntent,
    done: Done<EventId>,
  ): Promise<EventId> {
    const { writer, local, localUserExists, blocksInvites } = this.#services;
    if (!(await localUserExists(target))) throw notFound('There is no such user on this server');
    if (await blocksInvites(target)) throw inviteBlocked();
    return writer.locked(room, async () => {
      const draft = await writer.open(room);
      if (draft === undefined) throw notInRoom();
      const current = await draft.currentEvent('m.room.member', target);
      if (current?.pdu.content.membership === 'invite') return current.id;
      const id = await local.add(draft, intent);
      await writer.commit(draft, (tx) => done(tx, id));
      return id;
    });
  }

  /** @returns the id of the event by which the user is invited already, where that is so */
  #prepareInvite(room: RoomId, target: UserId, intent: EventIntent): Promise<PreparedInvite | EventId> {
    const { writer, builder } = this.#services;
    return writer.locked(room, async () => {
      const draft = await writer.open(room);
      if (draft === undefined) throw notInRoom();
      const current = await draft.currentEvent('m.room.member', target);
      if (current?.pdu.content.membership === 'invite') return current.id;
      const { event } = await builder.build(draft, intent);
      return { event, version: draft.version.id, strippedState: await strippedPdus(draft) };
    });
  }

  /** Asks the invited user's server for its signature. The room is not locked: this can take long. */
  async #countersign(
    { event, version, strippedState }: PreparedInvite,
    destination: ServerName,
  ): Promise<Event> {
    const answer = await this.#services.remote
      .invite({ event, roomVersion: version, strippedState, destination })
      .catch((error: unknown) => {
        throw passedThrough(error);
      });
    const signatures = Object.hasOwn(answer.signatures, destination)
      ? answer.signatures[destination]
      : undefined;
    if (signatures === undefined) throw unknownError(502, 'The other server has not signed the invite');
    return {
      ...event,
      pdu: { ...event.pdu, signatures: { ...event.pdu.signatures, [destination]: signatures } },
    };
  }

  async #storeInvite(event: Event, done: Done<EventId>): Promise<void> {
    const { writer } = this.#services;
    await writer.locked(event.room, async () => {
      const draft = await writer.open(event.room);
      if (draft === undefined) throw notInRoom();
      const { states } = await draft.statesAfter(prevEvents(event.pdu));
      const before = await draft.resolve(states);
      const authEvents = [...(await draft.find(authEventIds(event.pdu))).values()];
      const verdict = await judge(draft, event, authEvents, before);
      if (verdict.status !== 'timeline') throw forbidden(verdict.reason);
      await draft.add(event, before, verdict, { origin: 'own' });
      await writer.commit(draft, (tx) => done(tx, event.id));
    });
  }

  /**
   * Leaves a room or rejects an invite; a room that was left already stays so.
   * @throws MatrixError M_FORBIDDEN where the user has nothing to do with the room
   */
  async leave(user: UserId, room: RoomId, reason?: string, done: Done<void> = notNoted): Promise<void> {
    const { database, local } = this.#services;
    const row = await membershipOf(database, room, user);
    if (row === undefined) throw notInRoom();
    if (row.event !== null) return this.#rejectInvite(row, done);
    const content = withReason({ membership: 'leave' }, reason);
    const decide = async (draft: RoomDraft): Promise<EventIntent | EventId> => {
      const current = await draft.currentEvent('m.room.member', user);
      if (current?.pdu.content.membership === 'leave') return current.id;
      return { type: 'm.room.member', sender: user, stateKey: user, content };
    };
    await local.append(room, decide, { done: (tx) => done(tx) });
  }

  async #rejectInvite(row: MembershipRow, done: Done<void>): Promise<void> {
    const { database, outside, writer } = this.#services;
    if (row.membership === 'leave' || row.membership === 'ban') return;
    const leave = await outside.leaveEvent(row.event!, await this.#viaOf(row), row.userId);
    await writer.locked(row.room, async () => {
      const now = await membershipOf(database, row.room, row.userId);
      // Whatever has happened meanwhile is newer than the decision to leave.
      if (now?.eventId === row.eventId) await outside.record(leave, row.userId, null, (tx) => done(tx));
    });
  }

  /** Servers through which an invite is declined or a knock taken back: the inviter's, or those that the room's state names. */
  async #viaOf({ room, userId, event }: MembershipRow): Promise<ServerName[]> {
    const inviter = serverOf(event!.pdu.sender);
    if (inviter !== this.#services.serverName) return [inviter];
    const senders = ((await strippedStateOf(this.#services.database, room, userId)) ?? []).flatMap((told) => {
      const sender = typeof told.sender === 'string' ? parseUserId(told.sender) : undefined;
      return sender?.ok ? [serverOf(sender.value)] : [];
    });
    return [...new Set(senders)].slice(0, MAX_VIA);
  }

  /** Puts a user out of a room, or takes an invite back. @throws MatrixError M_FORBIDDEN */
  async kick(
    sender: UserId,
    room: RoomId,
    target: UserId,
    reason?: string,
    done: Done<void> = notNoted,
  ): Promise<void> {
    const change = { sender, target, membership: 'leave', reason } as const;
    await this.#change(room, change, done, (membership) => {
      if (membership !== 'join' && membership !== 'invite' && membership !== 'knock') {
        throw forbidden('The user is not in the room');
      }
    });
  }

  /** Bans a user from a room. @throws MatrixError M_FORBIDDEN */
  async ban(
    sender: UserId,
    room: RoomId,
    target: UserId,
    reason?: string,
    done: Done<void> = notNoted,
  ): Promise<void> {
    const change = { sender, target, membership: 'ban', reason } as const;
    await this.#change(room, change, done, () => undefined);
  }

  /** Lets a banned user come back. @throws MatrixError M_FORBIDDEN, M_BAD_STATE where the user is not banned */
  async unban(
    sender: UserId,
    room: RoomId,
    target: UserId,
    reason?: string,
    done: Done<void> = notNoted,
  ): Promise<void> {
    const change = { sender, target, membership: 'leave', reason } as const;
    await this.#change(room, change, done, (membership) => {
      if (membership !== 'ban') throw new MatrixError(403, 'M_BAD_STATE', 'The user is not banned');
    });
  }

  async #change(
    room: RoomId,
    { sender, target, membership, reason }: Change,
    done: Done<void>,
    check: (membership: unknown) => void,
  ): Promise<void> {
    const decide = async (draft: RoomDraft): Promise<EventIntent> => {
      const own = await draft.currentEvent('m.room.member', sender);
      if (own?.pdu.content.membership !== 'join') throw notInRoom();
      const current = await draft.currentEvent('m.room.member', target);
      check(current?.pdu.content.membership);
      const content = withReason({ membership }, reason);
      return { type: 'm.room.member', sender, stateKey: target, content };
    };
    await this.#services.local.append(room, decide, { done: (tx) => done(tx) });
  }

  /** Forgets a room that the user has left. @throws MatrixError M_UNKNOWN where the user has not */
  async forget(user: UserId, room: RoomId, done: Done<void> = notNoted): Promise<void> {
    await this.#services.database.transaction(async (tx) => {
      const row = await membershipOf(tx, room, user);
      if (row !== undefined && row.membership !== 'leave' && row.membership !== 'ban') {
        throw unknownError(400, 'You have to leave the room before you can forget it');
      }
      await forget(tx, room, user);
      await done(tx);
    });
  }

  /**
   * Tells every room that a local user is in of the user's new profile. A room that does not take the event keeps the
   * old one.
   */
  async profileChanged(user: UserId): Promise<void> {
    for (const room of await roomsOf(this.#services.database, user, 'join')) {
      await this.#showProfile(user, room);
    }
  }

  /** Also what ends a join: a profile that changed while that took its time was not told to the room. */
  async #showProfile(user: UserId, room: RoomId): Promise<void> {
    try {
      await this.#services.local.append(room, async (draft) => {
        const current = await draft.currentEvent('m.room.member', user);
        if (current?.pdu.content.membership !== 'join') throw notInRoom();
        const content = await this.#content(user, 'join', undefined);
        const { displayname, avatar_url: avatarUrl } = current.pdu.content;
        if (displayname === content.displayname && avatarUrl === content.avatar_url) return current.id;
        return { type: 'm.room.member', sender: user, stateKey: user, content };
      });
    } catch (error) {
      if (!(error instanceof MatrixError)) throw error;
    }
  }

  /** The content of a member event; the profile of users of other servers is theirs to give. */
  async #content(user: UserId, membership: string, reason: string | undefined): Promise<JsonObject> {
    const profile = serverOf(user) === this.#services.serverName ? await this.#services.profileOf(user) : {};
    return withReason({ ...profile, membership }, reason);
  }
}

const withReason = (content: JsonObject, reason: string | undefined): JsonObject =>
  reason === undefined ? content : { ...content, reason };

/** The PDUs of the state that an invited or knocking user is told of. */
export async function strippedPdus(draft: RoomDraft): Promise<JsonObject[]> {
  const events: JsonObject[] = [];
  for (const place of STRIPPED_STATE) {
    const { type, key } = splitStateKey(place);
    const event = await draft.currentEvent(type, key);
    if (event !== undefined) events.push(event.pdu as unknown as JsonObject);
  }
  return events;
}

/** Server-server API, "Inviting to a room": these are not the client's mistake. */
function passedThrough(error: unknown): unknown {
  if (error instanceof MatrixError && ['M_MISSING_PARAM', 'M_INVALID_PARAM'].includes(error.errcode)) {
    return unknownError(502, `The other server refused the invite: ${error.message}`);
  }
  // Client-server API, POST /rooms/{roomId}/invite, 400.
  if (error instanceof MatrixError && error.errcode === 'M_INCOMPATIBLE_ROOM_VERSION') {
    return new MatrixError(400, 'M_UNSUPPORTED_ROOM_VERSION', error.message);
  }
  return error;
}
