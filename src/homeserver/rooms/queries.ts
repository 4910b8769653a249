import type { Clock } from '../../base/time.ts';
import { forbidden, notFound } from '../../matrix/error.ts';
import type { EventId, RoomId, UserId } from '../../matrix/ids.ts';
import type { JsonObject } from '../../matrix/json.ts';
import type { Event } from '../../matrix/pdu.ts';
import type { Database } from '../../storage/database.ts';
import { eventsById, type StoredEvent } from '../../storage/events.ts';
import { membershipOf, roomsOf } from '../../storage/memberships.ts';
import { findRoom } from '../../storage/rooms.ts';
import { stateOfTypeAt } from '../../storage/state.ts';
import { eventById, streamPosition } from '../../storage/sync.ts';
import type { Requester } from '../accounts.ts';
import { historyVisibilityIn } from '../history_visibility.ts';
import { Renderer } from '../render.ts';
import { MembershipHistory } from '../sync/membership.ts';
import { Visibility } from '../sync/visibility.ts';
import { roomNow } from './current_state.ts';
import type { RoomState } from './room_state.ts';
import type { RoomWriter } from './room_writer.ts';

/** What local users may read of the state of their rooms. */
export class RoomQueries {
  readonly #database: Database;
  readonly #writer: RoomWriter;
  readonly #clock: Clock;

  constructor(database: Database, writer: RoomWriter, clock: Clock) {
    this.#database = database;
    this.#writer = writer;
    this.#clock = clock;
  }

  /** The whole state as client events. @throws MatrixError M_FORBIDDEN */
  async state(room: RoomId, asker: Requester): Promise<JsonObject[]> {
    const state = await this.#visibleState(room, asker.user);
    return this.#renderer(asker).stateEvents(await eventsById(this.#database, [...state.map.values()]));
  }

  /** One state event, with what it replaced where the user may see that. @throws MatrixError M_FORBIDDEN, M_NOT_FOUND */
  async stateEvent(room: RoomId, type: string, key: string, asker: Requester): Promise<JsonObject> {
    const state = await this.#visibleState(room, asker.user);
    const id = state.get(type, key);
    const row = id === undefined ? undefined : await eventById(this.#database, id);
    if (row === undefined) throw notFound('The room has no such state');
    const position = await streamPosition(this.#database);
    const { row: roomRow } = (await findRoom(this.#database, room))!;
    const history = await MembershipHistory.load(this.#database, roomRow, asker.user, position);
    const visibility = new Visibility(this.#database, asker.user, history.joinedUntil);
    return (await this.#renderer(asker).timelineEvents(room, [row], visibility))[0]!;
  }

  /**
   * The member events that are or are not of a membership ("or" where both are given).
   * @param options.at a delivery position; without it, now
   * @throws MatrixError M_FORBIDDEN
   */
  async members(
    room: RoomId,
    asker: Requester,
    options: {
      at?: number | undefined;
      membership?: string | undefined;
      notMembership?: string | undefined;
    } = {},
  ): Promise<JsonObject[]> {
    const state = await this.#visibleState(room, asker.user);
    const ids =
      options.at === undefined ? membersIn(state) : await this.#membersAt(room, asker.user, options.at);
    const events = await eventsById(this.#database, ids);
    const { membership, notMembership } = options;
    const wanted = events.filter(({ event }) => {
      const own = event.pdu.content.membership;
      if (membership === undefined && notMembership === undefined) return true;
      return own === membership || (notMembership !== undefined && own !== notMembership);
    });
    return this.#renderer(asker).stateEvents(wanted);
  }

  /** The profiles of the joined users, by user id. @throws MatrixError M_FORBIDDEN */
  async joinedMembers(room: RoomId, user: UserId): Promise<JsonObject> {
    const row = await membershipOf(this.#database, room, user);
    if (row?.membership !== 'join') throw forbidden('You are not in this room');
    const state = await this.#visibleState(room, user);
    const joined: [string, JsonObject][] = [];
    for (const { event } of await eventsById(this.#database, membersIn(state))) {
      const { membership, displayname, avatar_url: avatarUrl } = event.pdu.content;
      if (membership !== 'join') continue;
      joined.push([
        event.pdu.state_key!,
        {
          ...(typeof displayname === 'string' ? { display_name: displayname } : {}),
          ...(typeof avatarUrl === 'string' ? { avatar_url: avatarUrl } : {}),
        },
      ]);
    }
    return Object.fromEntries(joined);
  }

  joinedRooms(user: UserId): Promise<RoomId[]> {
    return roomsOf(this.#database, user, 'join');
  }

  /** The current state event at a place, whoever asks; for other services. */
  async currentEvent(room: RoomId, type: string, key: string): Promise<Event | undefined> {
    return (await roomNow(this.#database, this.#writer, room))?.event(type, key);
  }

  /**
   * The state that a user may read: the current one while joined, after that the one at their leaving, and where they
   * never were in the room the current one if everybody may read it.
   */
  async #visibleState(room: RoomId, user: UserId): Promise<RoomState> {
    const row = await membershipOf(this.#database, room, user);
    const now = await roomNow(this.#database, this.#writer, room);
    if (now === undefined) throw forbidden('You are not in this room and never were');
    if (row !== undefined && !row.forgotten && row.event === null) {
      if (row.membership === 'join') return now.state;
      const left = row.membership === 'leave' || row.membership === 'ban' ? row.eventId : undefined;
      const event = left === undefined ? undefined : await this.#writer.events.get(left);
      if (event?.stateAfter != null && (await this.#wasJoined(event))) {
        return this.#writer.states.load(event.stateAfter);
      }
    }
    const visibility = (await now.event('m.room.history_visibility'))?.pdu.content;
    if (historyVisibilityIn(visibility) === 'world_readable') return now.state;
    throw forbidden('You are not in this room and never were');
  }

  /** Whether the user of a leave or ban was in the room before it, as opposed to being invited or nothing at all. */
  async #wasJoined(left: StoredEvent): Promise<boolean> {
    const before = await this.#writer.states.load(left.stateBefore!);
    const id = before.get('m.room.member', left.event.pdu.state_key!);
    const membership =
      id === undefined ? undefined : (await this.#writer.events.get(id))?.event.pdu.content.membership;
    return membership === 'join' || membership === 'leave' || membership === 'ban';
  }

  async #membersAt(room: RoomId, user: UserId, position: number): Promise<EventId[]> {
    const found = await findRoom(this.#database, room);
    const own = await membershipOf(this.#database, room, user);
    if (found === undefined) return [];
    // Who has left does not see what came after. Whoever never was there reads what everybody may.
    const hasLeft = own?.membership === 'leave' || own?.membership === 'ban';
    const last = hasLeft ? Math.min(position, own.position) : position;
    return stateOfTypeAt(this.#database, found.row, 'm.room.member', last);
  }

  #renderer(requester: Requester): Renderer {
    return new Renderer({ reader: this.#database, clock: this.#clock, requester });
  }
}

function membersIn(state: RoomState): EventId[] {
  return [...state.map].flatMap(([place, id]) => (place.startsWith('m.room.member\u0000') ? [id] : []));
}
