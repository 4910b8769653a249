import { forbidden, notFound } from '../../matrix/error.ts';
import type { EventId, RoomId, ServerName } from '../../matrix/ids.ts';
import type { Event } from '../../matrix/pdu.ts';
import type { Database } from '../../storage/database.ts';
import { authEdges, eventsById, type StoredEvent, storedIds } from '../../storage/events.ts';
import { isServerJoined } from '../../storage/memberships.ts';
import { findRoom, forwardExtremities } from '../../storage/rooms.ts';
import type { MissingEventsRequest } from './federated_rooms.ts';
import { isServerJoinedIn } from './joined_in.ts';
import type { RoomWriter } from './room_writer.ts';

/** How many events the answer to get_missing_events has at most. */
const MAX_MISSING_EVENTS = 100;
/** How many events are walked over to find them. */
const MAX_WALK = 1_000;
/** How many events an auth chain may have. */
const MAX_AUTH_CHAIN = 100_000;

/** What other servers may read of rooms that this server is in. */
export class FederatedHistory {
  readonly #database: Database;
  readonly #writer: RoomWriter;

  constructor(database: Database, writer: RoomWriter) {
    this.#database = database;
    this.#writer = writer;
  }

  /** See FederatedRooms.event. */
  async event(id: EventId, server: ServerName): Promise<Event | undefined> {
    const stored = await this.#writer.events.get(id);
    if (stored === undefined || !(await this.#maySee(stored, server))) return undefined;
    return stored.event;
  }

  known(ids: readonly EventId[]): Promise<ReadonlySet<EventId>> {
    return storedIds(this.#database, ids);
  }

  /** See FederatedRooms.stateIds. @throws MatrixError M_FORBIDDEN, M_NOT_FOUND */
  async stateIds(
    room: RoomId,
    at: EventId,
    server: ServerName,
  ): Promise<{ state: readonly EventId[]; authChain: readonly EventId[] }> {
    const stored = await this.#writer.events.get(at);
    if (stored === undefined || stored.event.room !== room) {
      await this.#checkInRoom(room, server);
      throw notFound('There is no such event');
    }
    if (!(await this.#maySee(stored, server))) throw forbidden('Your server is not in the room');
    if (stored.stateBefore === null) throw notFound('The state at that event is not known');
    const state = [...(await this.#writer.states.load(stored.stateBefore)).map.values()];
    return { state, authChain: await this.authChain(state) };
  }

  /** The ids of the auth chains of events, together, without the events themselves unless they are in one. */
  async authChain(ids: readonly EventId[]): Promise<EventId[]> {
    const chain = new Set<EventId>();
    for (let next: readonly EventId[] = ids; next.length > 0 && chain.size < MAX_AUTH_CHAIN; ) {
      const behind = await authEdges(this.#database, next);
      next = behind.filter((id) => !chain.has(id));
      for (const id of next) chain.add(id);
    }
    return [...chain];
  }

  /** The events of these that are stored, without passing through the memory of those used last. */
  async eventsOf(ids: readonly EventId[]): Promise<Event[]> {
    return (await eventsById(this.#database, ids)).map(({ event }) => event);
  }

  /** See FederatedRooms.missingEvents. @throws MatrixError M_FORBIDDEN */
  async missingEvents(
    room: RoomId,
    request: MissingEventsRequest,
    server: ServerName,
  ): Promise<readonly Event[]> {
    await this.#checkInRoom(room, server);
    const limit = Math.min(request.limit, MAX_MISSING_EVENTS);
    const seen = new Set<EventId>([...request.earliest, ...request.latest]);
    const found: StoredEvent[] = [];
    let walked = 0;
    for (let next: readonly EventId[] = request.latest; next.length > 0 && found.length < limit; ) {
      const level = await this.#writer.events.load(next.slice(0, MAX_WALK - walked));
      walked += level.size;
      const behind: EventId[] = [];
      // In the order asked for, so that the same question has the same answer.
      for (const id of next) {
        for (const prev of level.get(id)?.event.pdu.prev_events ?? []) {
          if (seen.has(prev)) continue;
          seen.add(prev);
          behind.push(prev);
        }
      }
      const events = await this.#writer.events.load(behind.slice(0, limit - found.length));
      const usable = behind
        .flatMap((id) => events.get(id) ?? [])
        .filter((stored) => isInDag(stored, room, request.minDepth));
      found.push(...usable);
      next = walked < MAX_WALK ? usable.map(({ event }) => event.id) : [];
    }
    return found
      .map(({ event }) => event)
      .sort((a, b) => a.pdu.depth - b.pdu.depth || (a.id < b.id ? -1 : 1));
  }

  async forwardExtremities(room: RoomId): Promise<readonly EventId[]> {
    const found = await findRoom(this.#database, room);
    return found === undefined
      ? []
      : (await forwardExtremities(this.#database, found.row)).map(({ id }) => id);
  }

  async #checkInRoom(room: RoomId, server: ServerName): Promise<void> {
    if (!(await isServerJoined(this.#database, room, server)))
      throw forbidden('Your server is not in the room');
  }

  /** A server sees what is in a room that it is in now, or was in at that event. */
  async #maySee(stored: StoredEvent, server: ServerName): Promise<boolean> {
    if (await isServerJoined(this.#database, stored.event.room, server)) return true;
    if (stored.stateAfter === null) return false;
    return isServerJoinedIn(await this.#writer.states.load(stored.stateAfter), server, this.#writer.events);
  }
}

const isInDag = ({ event, stateAfter }: StoredEvent, room: RoomId, minDepth: number): boolean =>
  stateAfter !== null && event.room === room && event.pdu.depth >= minDepth;
