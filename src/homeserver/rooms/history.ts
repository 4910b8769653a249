import type { Millis } from '../../base/time.ts';
import { forbidden, notFound } from '../../matrix/error.ts';
import { type EventId, type RoomId, type ServerName, serverOf } from '../../matrix/ids.ts';
import { depthOf, type Event, prevEvents } from '../../matrix/pdu.ts';
import { roomVersion } from '../../matrix/room_version.ts';
import { erasedAmong } from '../../storage/accounts.ts';
import { authChainOf } from '../../storage/auth_chains.ts';
import type { Database } from '../../storage/database.ts';
import { eventsById, type StoredEvent, storedIds } from '../../storage/events.ts';
import { isServerJoined } from '../../storage/memberships.ts';
import { findRoom, forwardExtremities } from '../../storage/rooms.ts';
import { eventsAround } from '../../storage/sync.ts';
import { historyVisibilityIn, mayServerSeeEvent } from '../history_visibility.ts';
import type { BackfillRequest, MissingEventsRequest } from './federated_rooms.ts';
import { membershipsIn } from './joined_in.ts';
import { redactedCopy } from './redactions.ts';
import type { RoomWriter } from './room_writer.ts';

/** How many events the answers to get_missing_events and backfill have at most. */
const MAX_MISSING_EVENTS = 100;
/** How many events are walked over to find them. */
const MAX_WALK = 1_000;
/** Events read with one statement where they are looked for by time. */
const TIMED_BATCH = 50;
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
    const [shown] = await this.#shownTo(server, stored.event.room, [stored]);
    return shown;
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

  /** The ids of the auth chains of state events, together, without the events themselves unless they are in one. */
  authChain(ids: readonly EventId[]): Promise<EventId[]> {
    return authChainOf(this.#database, ids, MAX_AUTH_CHAIN);
  }

  /**
   * The events of these that are stored, each after its auth events, without passing through the memory of those used
   * last.
   */
  async eventsOf(ids: readonly EventId[]): Promise<Event[]> {
    const stored = await eventsById(this.#database, ids);
    return stored.sort((a, b) => a.row - b.row).map(({ event }) => event);
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
        const found = level.get(id);
        for (const prev of found === undefined ? [] : prevEvents(found.event.pdu)) {
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
    return (await this.#shownTo(server, room, found)).sort(byDepth);
  }

  /** See FederatedRooms.backfill. @throws MatrixError M_FORBIDDEN */
  async backfill(room: RoomId, request: BackfillRequest, server: ServerName): Promise<readonly Event[]> {
    await this.#checkInRoom(room, server);
    const limit = Math.min(request.limit, MAX_MISSING_EVENTS);
    const asked = new Set<EventId>(request.from);
    const found: StoredEvent[] = [];
    // What has been reached and not been taken, the deepest last.
    let reached: StoredEvent[] = [];
    const reach = async (ids: readonly EventId[]): Promise<void> => {
      const events = await this.#writer.events.load(ids);
      const usable = [...events.values()].filter((stored) => isInDag(stored, room, 0));
      reached = [...reached, ...usable].sort((a, b) => byDepth(a.event, b.event));
    };
    await reach([...asked]);
    for (let next = reached.pop(); next !== undefined && found.length < limit; next = reached.pop()) {
      found.push(next);
      const behind = prevEvents(next.event.pdu).filter((id) => !asked.has(id));
      for (const id of behind) asked.add(id);
      if (behind.length > 0) await reach(behind);
    }
    return this.#shownTo(server, room, found);
  }

  /** See FederatedRooms.closest. @throws MatrixError M_FORBIDDEN */
  async closest(
    room: RoomId,
    { time, dir }: { readonly time: Millis; readonly dir: 'b' | 'f' },
    server: ServerName,
  ): Promise<Event | undefined> {
    await this.#checkInRoom(room, server);
    const row = (await findRoom(this.#database, room))!.row;
    // Rows are above 0, so that what is of that very time counts in either direction.
    let from = { time, row: dir === 'f' ? 0 : Number.MAX_SAFE_INTEGER };
    for (let walked = 0; walked < MAX_WALK; walked += TIMED_BATCH) {
      const rows = await eventsAround(this.#database, row, dir, { ...from, limit: TIMED_BATCH });
      const events = await this.#writer.events.load(rows.map(({ event_id: id }) => id as EventId));
      for (const { event_id: id } of rows) {
        const stored = events.get(id as EventId)!;
        const [shown] = await this.#shownTo(server, room, [stored]);
        if (shown === stored.event) return shown;
      }
      const last = rows.at(-1);
      if (last === undefined) return undefined;
      from = { time: last.origin_server_ts, row: last.id };
    }
    return undefined;
  }

  async forwardExtremities(room: RoomId): Promise<readonly EventId[]> {
    const found = await findRoom(this.#database, room);
    const ends = found === undefined ? [] : await forwardExtremities(this.#database, found.row);
    return ends.sort((a, b) => b.depth - a.depth || (a.id < b.id ? -1 : 1)).map(({ id }) => id);
  }

  async #checkInRoom(room: RoomId, server: ServerName): Promise<void> {
    if (!(await isServerJoined(this.#database, room, server)))
      throw forbidden('Your server is not in the room');
  }

  /** A server sees what is in a room that it is in now, or was in at that event. */
  async #maySee(stored: StoredEvent, server: ServerName): Promise<boolean> {
    if (await isServerJoined(this.#database, stored.event.room, server)) return true;
    if (stored.stateAfter === null) return false;
    return (await this.#membershipsIn(stored.stateAfter, server)).has('join');
  }

  async #membershipsIn(group: number, server: ServerName): Promise<ReadonlySet<string>> {
    return membershipsIn(await this.#writer.states.load(group), server, this.#writer.events);
  }

  /**
   * The events as a server may have them: what history visibility hides from all of its users is redacted, so that the
   * DAG has no holes for it. State is not hidden, since a server in the room gets all of it when it comes in. What a user
   * has asked to be erased goes to servers that were in the room then.
   */
  async #shownTo(server: ServerName, room: RoomId, stored: readonly StoredEvent[]): Promise<Event[]> {
    const version = roomVersion((await findRoom(this.#database, room))?.version ?? '');
    const judged = new Map<string, Promise<boolean>>();
    const erased = await erasedAmong(
      this.#database,
      stored.map(({ event }) => event.pdu.sender),
    );
    const shown: Event[] = [];
    for (const { event, stateBefore, stateAfter } of stored) {
      const isOpen =
        version === undefined ||
        event.pdu.state_key !== undefined ||
        serverOf(event.pdu.sender) === server ||
        stateBefore === null ||
        stateAfter === null;
      if (
        version !== undefined &&
        event.pdu.state_key === undefined &&
        erased.has(event.pdu.sender) &&
        (stateAfter === null || !(await this.#membershipsIn(stateAfter, server)).has('join'))
      ) {
        shown.push(redactedCopy(event, version));
        continue;
      }
      const key = `${stateBefore} ${stateAfter}`;
      if (!isOpen && !judged.has(key)) judged.set(key, this.#mayServerSee(stateBefore, stateAfter, server));
      shown.push(isOpen || (await judged.get(key)!) ? event : redactedCopy(event, version));
    }
    return shown;
  }

  async #mayServerSee(before: number, after: number, server: ServerName): Promise<boolean> {
    const setting = (await this.#writer.states.load(before)).get('m.room.history_visibility', '');
    const content =
      setting === undefined ? undefined : (await this.#writer.events.get(setting))?.event.pdu.content;
    const visibility = historyVisibilityIn(content);
    // Which users the server has takes a walk over the whole state.
    if (mayServerSeeEvent({ visibility, memberships: new Set() })) return true;
    const memberships = new Set([
      ...(await this.#membershipsIn(before, server)),
      ...(await this.#membershipsIn(after, server)),
    ]);
    return mayServerSeeEvent({ visibility, memberships });
  }
}

const isInDag = ({ event, stateAfter }: StoredEvent, room: RoomId, minDepth: number): boolean =>
  stateAfter !== null && event.room === room && depthOf(event.pdu) >= minDepth;

const byDepth = (a: Event, b: Event): number => depthOf(a.pdu) - depthOf(b.pdu) || (a.id < b.id ? -1 : 1);
