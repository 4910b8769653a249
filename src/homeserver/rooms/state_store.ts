import type { EventId } from '../../matrix/ids.ts';
import type { RoomVersion } from '../../matrix/room_version.ts';
import { type ResolvedEvent, resolveState } from '../../matrix/state_resolution.ts';
import type { Reader, Transaction } from '../../storage/database.ts';
import { putGroup, stateOfGroup } from '../../storage/state.ts';
import type { EventCache } from './event_cache.ts';
import { LastUsed } from './last_used.ts';
import { MAX_HOPS, RoomState, type StoredGroup } from './room_state.ts';

/** How many entries the states of groups in memory have together, at most. */
const MAX_CACHED_ENTRIES = 200_000;
/** The same, of the results of resolutions that are remembered. */
const MAX_RESOLVED_ENTRIES = 100_000;

/** Events that are not committed yet, by id. */
export type Pending = ReadonlyMap<EventId, ResolvedEvent>;

/** The states of rooms: read from their groups, resolved, and stored. */
export class StateStore {
  readonly #db: Reader;
  readonly #events: EventCache;
  /** By group. */
  readonly #states = new LastUsed<number, RoomState>(MAX_CACHED_ENTRIES, entriesOf);
  /** By the groups that were resolved. */
  readonly #resolutions = new LastUsed<string, RoomState>(MAX_RESOLVED_ENTRIES, entriesOf);
  /** How often states that differed were resolved. */
  resolutions = 0;

  constructor(db: Reader, events: EventCache) {
    this.#db = db;
    this.#events = events;
  }

  /** The state that a group stands for. */
  async load(group: number): Promise<RoomState> {
    const cached = this.#states.get(group);
    if (cached !== undefined) return cached;
    const { map, hops } = await stateOfGroup(this.#db, group);
    const state = RoomState.stored(map, { id: group, hops });
    this.#states.keep(group, state);
    return state;
  }

  /**
   * Resolves the states after several events into one (room versions, "State resolution").
   * @param pending events of these states that are not committed yet
   */
  async resolve(states: readonly RoomState[], version: RoomVersion, pending: Pending): Promise<RoomState> {
    const distinct = distinctStates(states);
    const [first] = distinct;
    if (first === undefined) return RoomState.complete(new Map());
    if (distinct.length === 1) return first;
    const groups = distinct.map((state) => state.group?.id);
    const key = groups.includes(undefined) ? undefined : groups.sort((a, b) => a! - b!).join();
    const known = key === undefined ? undefined : this.#resolutions.get(key);
    if (known !== undefined) return known;

    const map = await this.#runResolution(distinct, version, pending);
    const resolved = RoomState.near(nearest(distinct, map), map);
    if (key !== undefined) this.#resolutions.keep(key, resolved);
    return resolved;
  }

  async #runResolution(
    states: readonly RoomState[],
    version: RoomVersion,
    pending: Pending,
  ): Promise<RoomState['map']> {
    this.resolutions++;
    const resolution = resolveState(
      states.map((state) => state.map),
      version,
    );
    let step = resolution.next();
    while (!step.done) {
      const answer = new Map<EventId, ResolvedEvent>();
      const stored = await this.#events.find(step.value.filter((id) => !pending.has(id)));
      for (const id of step.value) {
        const found = pending.get(id) ?? stored.get(id);
        if (found !== undefined) answer.set(id, found);
      }
      step = resolution.next(answer);
    }
    return step.value;
  }

  /**
   * Stores a state as a group, with those that it is made from. `written` holds what this run of the transaction has
   * stored; the states themselves are told by `settle` after the commit.
   */
  async write(
    tx: Transaction,
    room: number,
    state: RoomState,
    written: Map<RoomState, StoredGroup>,
  ): Promise<StoredGroup> {
    const known = state.group ?? written.get(state);
    if (known !== undefined) return known;
    const { basis } = state;
    const parent = basis === null ? undefined : await this.write(tx, room, basis.from, written);
    let group: StoredGroup;
    if (basis === null || parent === undefined || parent.hops >= MAX_HOPS) {
      group = { id: await putGroup(tx, room, { parent: null, hops: 0, entries: state.map }), hops: 0 };
    } else {
      const hops = parent.hops + 1;
      group = { id: await putGroup(tx, room, { parent: parent.id, hops, entries: basis.changes }), hops };
    }
    written.set(state, group);
    return group;
  }

  /** Tells the states where they are stored, and keeps them. Called after the commit. */
  settle(written: ReadonlyMap<RoomState, StoredGroup>): void {
    for (const [state, group] of written) {
      state.settle(group);
      this.#states.keep(group.id, state);
    }
  }
}

const entriesOf = (state: RoomState): number => state.map.size;

function distinctStates(states: readonly RoomState[]): RoomState[] {
  const distinct: RoomState[] = [];
  for (const state of states) {
    if (!distinct.some((other) => other === state || state.changesSince(other).size === 0))
      distinct.push(state);
  }
  return distinct;
}

/** The state that differs least from a map. */
function nearest(states: readonly RoomState[], map: RoomState['map']): RoomState {
  let best = states[0]!;
  let least = Number.POSITIVE_INFINITY;
  for (const state of states) {
    let difference = 0;
    for (const [place, event] of map) if (state.map.get(place) !== event) difference++;
    if (difference < least) [best, least] = [state, difference];
  }
  return best;
}
