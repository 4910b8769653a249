import { assert } from '../../base/assert.ts';
import { MAX_PREV_EVENTS } from '../../matrix/event_format.ts';
import { createEventOf } from '../../matrix/hashes.ts';
import { type EventId, type RoomId, type ServerName, serverOf } from '../../matrix/ids.ts';
import { depthOf, type Event, prevEvents } from '../../matrix/pdu.ts';
import { type RoomVersion, roomVersion } from '../../matrix/room_version.ts';
import type { Reader } from '../../storage/database.ts';
import { childrenOf, type EventStatus, type RejectedBy } from '../../storage/events.ts';
import { findRoom, forwardExtremities } from '../../storage/rooms.ts';
import type { ClientTransaction } from '../../storage/transactions.ts';
import type { EventCache, FoundEvent } from './event_cache.ts';
import { earlierRedactions, type Redaction, redactionBy } from './redactions.ts';
import { RoomState } from './room_state.ts';
import type { StateStore } from './state_store.ts';
import type { AuthorisedRoom, Verdict } from './verdict.ts';

/** How many events are looked at to see what lies behind or ahead of those that were not accepted. */
const MAX_WALK = 1_000;
/**
 * How many forward extremities a room has: as many as one event can have behind it, so that the next event of this server
 * brings them together again. The specification has no bound, but each more makes every event dearer, and one member
 * can make as many as there are events to branch off from.
 */
const MAX_EXTREMITIES = MAX_PREV_EVENTS;

/** Whose event it is, which says to whom it goes on: to every server in the room, to all but its own, to nobody. */
export type Origin = 'own' | 'relayed' | 'received';

/** An event that the draft adds, with everything that is written about it. */
export interface DraftEntry {
  readonly event: Event;
  readonly status: EventStatus;
  readonly rejectedBy: RejectedBy | null;
  /** The states before and after it; null for one that is stored as a state or auth event only. */
  readonly before: RoomState | null;
  readonly after: RoomState | null;
  /** The room's current state with this event. */
  readonly current: RoomState;
  readonly redaction: Redaction | null;
  /** The redaction that came before the event itself. */
  readonly redactedBy: EventId | null;
  /** Redactions that were withheld and can be shown now that this event is here. */
  readonly shows: readonly EventId[];
  readonly origin: Origin;
  /** Whether it is from before what is here, so that it never appears in /sync. */
  readonly isHistoric: boolean;
  readonly transaction: ClientTransaction | null;
}

interface Extremity {
  readonly id: EventId;
  readonly depth: number;
  readonly server: ServerName;
  /** The state after it, or the group where it is stored. */
  readonly state: RoomState | number;
}

export interface DraftStores {
  readonly db: Reader;
  readonly events: EventCache;
  readonly states: StateStore;
}

/**
 * A room under its lock: what is committed of it, and what one operation adds. Nothing is written before the draft
 * is committed (commit.ts).
 */
export class RoomDraft implements AuthorisedRoom {
  readonly room: RoomId;
  readonly version: RoomVersion;
  readonly create: Event;
  readonly entries: DraftEntry[] = [];
  /** The current state and the extremities that are committed. */
  readonly committed: { readonly current: RoomState; readonly extremities: ReadonlySet<EventId> };
  readonly #stores: DraftStores;
  readonly #extremities: Map<EventId, Extremity>;
  readonly #pending = new Map<EventId, FoundEvent>();
  #current: RoomState;
  #joinedDepth: number;

  private constructor(
    stores: DraftStores,
    { create, version }: { readonly create: Event; readonly version: RoomVersion },
    { current, joinedDepth }: { readonly current: RoomState; readonly joinedDepth: number },
    extremities: readonly Extremity[],
  ) {
    this.#stores = stores;
    this.room = create.room;
    this.version = version;
    this.create = create;
    this.#current = current;
    this.#joinedDepth = joinedDepth;
    this.#extremities = new Map(extremities.map((extremity) => [extremity.id, extremity]));
    this.committed = { current, extremities: new Set(this.#extremities.keys()) };
  }

  /** The room as it is stored, or undefined where this server never was in it. */
  static async open(stores: DraftStores, room: RoomId): Promise<RoomDraft | undefined> {
    const found = await findRoom(stores.db, room);
    if (found === undefined || found.currentGroup === null) return undefined;
    const version = roomVersion(found.version);
    assert(version !== undefined, 'a room with state has a version');
    const current = await stores.states.load(found.currentGroup);
    const createId = version.roomIsCreateEvent ? createEventOf(room) : current.get('m.room.create', '');
    const create = createId && (await stores.events.get(createId));
    assert(create !== undefined, 'a room with state has a create event');
    const extremities = await forwardExtremities(stores.db, found.row);
    return new RoomDraft(
      stores,
      { create: create.event, version },
      { current, joinedDepth: found.joinedDepth },
      extremities.map(({ id, depth, sender, stateAfter }) => ({
        ...{ id, depth, server: serverOf(sender), state: stateAfter },
      })),
    );
  }

  /** A room that is not stored, before its create event is added. */
  static begin(stores: DraftStores, create: Event, version: RoomVersion): RoomDraft {
    const current = RoomState.complete(new Map());
    return new RoomDraft(stores, { create, version }, { current, joinedDepth: 0 }, []);
  }

  get current(): RoomState {
    return this.#current;
  }

  /** The depth of the join with which this server last came in through another server; 0: it made the room. */
  get joinedDepth(): number {
    return this.#joinedDepth;
  }

  /** The forward extremities, the deepest first; bounded (MAX_EXTREMITIES). */
  get extremities(): readonly { readonly id: EventId; readonly depth: number }[] {
    return [...this.#extremities.values()].sort((a, b) => b.depth - a.depth || (a.id < b.id ? -1 : 1));
  }

  async find(ids: Iterable<EventId>): Promise<ReadonlyMap<EventId, FoundEvent>> {
    const found = new Map<EventId, FoundEvent>();
    const wanted: EventId[] = [];
    for (const id of ids) {
      const pending = this.#pending.get(id);
      if (pending === undefined) wanted.push(id);
      else found.set(id, pending);
    }
    for (const [id, stored] of await this.#stores.events.find(wanted)) found.set(id, stored);
    return found;
  }

  /** The event that holds a place in the current state. */
  async currentEvent(type: string, key: string): Promise<Event | undefined> {
    const id = this.#current.get(type, key);
    return id === undefined ? undefined : (await this.find([id])).get(id)?.event;
  }

  /**
   * The states after previous events, each once, and those of which none is known.
   */
  async statesAfter(
    prevs: readonly EventId[],
  ): Promise<{ readonly states: readonly RoomState[]; readonly missing: readonly EventId[] }> {
    const distinct = [...new Set(prevs)];
    if (distinct.length === this.#extremities.size && distinct.every((id) => this.#extremities.has(id))) {
      return { states: [this.#current], missing: [] };
    }
    const stored = await this.#stores.events.load(distinct);
    const states: RoomState[] = [];
    const missing: EventId[] = [];
    for (const id of distinct) {
      const added = this.entries.find((entry) => entry.event.id === id)?.after ?? null;
      const found = stored.get(id);
      // An event of another room would bring that room's state along.
      const group = found?.event.room === this.room ? found.stateAfter : null;
      if (added !== null) states.push(added);
      else if (group !== null) states.push(await this.#stores.states.load(group));
      else missing.push(id);
    }
    return { states, missing };
  }

  resolve(states: readonly RoomState[]): Promise<RoomState> {
    return this.#stores.states.resolve(states, this.version, this.#pending);
  }

  /** Adds an event that is known as a state or auth event only. */
  addOutlier(event: Event, rejected: boolean): void {
    const rejectedBy = rejected ? 'auth_events' : null;
    this.#pending.set(event.id, { event, rejected, rejectedBy });
    this.entries.push({
      event,
      status: rejected ? 'rejected' : 'outlier',
      rejectedBy,
      before: null,
      after: null,
      current: this.#current,
      redaction: null,
      redactedBy: null,
      shows: [],
      origin: 'received',
      isHistoric: false,
      transaction: null,
    });
  }

  /** Adds an event on top of the state before it. */
  async add(
    event: Event,
    before: RoomState,
    verdict: Verdict,
    options: {
      readonly origin: Origin;
      /** It is behind an event that is here: it can be no end of the room. */
      readonly isHistoric?: boolean;
      readonly transaction?: ClientTransaction | undefined;
    },
  ): Promise<void> {
    const accepted = verdict.status === 'timeline';
    const after = verdict.status === 'rejected' ? before : before.after(event);
    const redaction = accepted ? await redactionBy(this, event, before, this.#stores.events) : null;
    const earlier = verdict.status === 'rejected' ? [] : await earlierRedactions(this.#stores.db, event);
    const rejectedBy = verdict.status === 'rejected' ? verdict.by : null;
    this.#pending.set(event.id, { event, rejected: rejectedBy !== null, rejectedBy });
    const isHistoric = options.isHistoric === true;
    if (accepted && !isHistoric) await this.#advance(event, after);
    this.entries.push({
      event,
      status: redaction !== null && redaction.applied === null ? 'withheld' : verdict.status,
      rejectedBy,
      before,
      after,
      current: this.#current,
      redaction,
      redactedBy: earlier[0]?.id ?? null,
      shows: accepted ? earlier.flatMap(({ id, status }) => (status === 'withheld' ? [id] : [])) : [],
      origin: options.origin,
      isHistoric,
      transaction: options.transaction ?? null,
    });
  }

  /**
   * Leaves everything behind that was the end of the room so far: a join through another server, to be added next, is
   * the only end.
   */
  comeIn(join: Event): void {
    this.#extremities.clear();
    this.#joinedDepth = depthOf(join.pdu);
  }

  /** Moves the room's end to an accepted event. */
  async #advance(event: Event, after: RoomState): Promise<void> {
    // What comes late from before the join most likely lies behind it, where nobody has shown the way yet. As an end
    // it would lay the state of that time over the join's, which can put the user out again. Where it is a branch of
    // its own, those who know both ends merge them.
    if (depthOf(event.pdu) < this.#joinedDepth) return;
    for (const id of await this.#coveredBy(event)) this.#extremities.delete(id);
    if (!(await this.#hasAcceptedDescendant(event.id))) {
      const server = serverOf(event.pdu.sender);
      this.#extremities.set(event.id, { id: event.id, depth: depthOf(event.pdu), server, state: after });
    }
    while (this.#extremities.size > MAX_EXTREMITIES) this.#extremities.delete(this.#mostCrowding());
    const ends = await Promise.all(
      this.extremities.map(({ id }) => {
        const { state } = this.#extremities.get(id)!;
        return typeof state === 'number' ? this.#stores.states.load(state) : state;
      }),
    );
    if (ends.length > 0) this.#current = await this.resolve(ends);
  }

  /**
   * The extremity to do without: the newest of the server that has the most of them, so that nobody who branches off
   * again and again puts out what others have sent. What it says comes back with an event that has it behind it.
   */
  #mostCrowding(): EventId {
    const counts = new Map<ServerName, number>();
    for (const { server } of this.#extremities.values()) counts.set(server, (counts.get(server) ?? 0) + 1);
    const most = Math.max(...counts.values());
    return [...this.#extremities.values()].findLast(({ server }) => counts.get(server) === most)!.id;
  }

  /** Accepted events that lie right behind an event, or behind it with none but others between. */
  async #coveredBy(event: Event): Promise<EventId[]> {
    const covered: EventId[] = [];
    const seen = new Set<EventId>();
    let next: readonly EventId[] = prevEvents(event.pdu);
    while (next.length > 0 && seen.size < MAX_WALK) {
      const fresh = next.filter((id) => !seen.has(id) && !covered.includes(id));
      covered.push(...fresh.filter((id) => this.#extremities.has(id)));
      const others = fresh.filter((id) => !this.#extremities.has(id));
      for (const id of others) seen.add(id);
      const behind = [...(await this.#stores.events.load(others)).values()];
      next = behind
        .filter(({ status }) => !isAccepted(status))
        .flatMap(({ event: prev }) => prevEvents(prev.pdu));
    }
    return covered;
  }

  /** Whether an accepted event has this one behind it, directly or with none but others between. */
  async #hasAcceptedDescendant(id: EventId): Promise<boolean> {
    const seen = new Set<EventId>();
    let next: EventId[] = [id];
    while (next.length > 0 && seen.size < MAX_WALK) {
      for (const each of next) seen.add(each);
      const children = await childrenOf(this.#stores.db, this.room, next);
      if (children.some(({ status }) => isAccepted(status))) return true;
      next = children.map((child) => child.id).filter((child) => !seen.has(child));
    }
    return false;
  }
}

/** Whether an event of this status can be the end of a room. */
const isAccepted = (status: EventStatus): boolean => status === 'timeline' || status === 'withheld';
