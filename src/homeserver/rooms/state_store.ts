import type { EventId } from '../../matrix/ids.ts';
import type { RoomVersion } from '../../matrix/room_version.ts';
import { type ResolvedEvent, resolveState } from '../../matrix/state_resolution.ts';
import type { Reader, Transaction } from '../../storage/database.ts';
import { putGroup, stateOfGroup } from '../../storage/state.ts';
import { authDifference } from './auth_difference.ts';
import type { EventCache } from './event_cache.ts';
import { LastUsed } from './last_used.ts';
import { RoomState } from './room_state.ts';
import { StateNames } from './state_names.ts';

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
  readonly #names: StateNames;
  /** By group. */
  readonly #states = new LastUsed<number, RoomState>(MAX_CACHED_ENTRIES, weightOf);
  /** By the groups that were resolved. */
  readonly #resolutions = new LastUsed<string, RoomState>(MAX_RESOLVED_ENTRIES, weightOf);
  /** How often states that differed were resolved. */
  resolutions = 0;

  constructor(db: Reader, events: EventCache) {
    this.#db = db;
    this.#events = events;
    this.#names = new StateNames(db);
  }

  /** The state that a group stands for. */
  async load(group: number): Promise<RoomState> {
    const cached = this.#states.get(group);
    if (cached !== undefined) return cached;
    const state = RoomState.stored(await this.#names.named(await stateOfGroup(this.#db, group)), group);
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
    const groups = distinct.map((state) => state.group);
    const key = groups.includes(null) ? undefined : groups.sort((a, b) => a! - b!).join();
    const known = key === undefined ? undefined : this.#resolutions.get(key);
    if (known !== undefined) return known;

    const map = await this.#runResolution(distinct, version, pending);
    const resolved = nearest(distinct, map).become(map);
    if (key !== undefined) this.#resolutions.keep(key, resolved);
    return resolved;
  }

  async #runResolution(
    states: readonly RoomState[],
    version: RoomVersion,
    pending: Pending,
  ): Promise<RoomState['map']> {
    this.resolutions++;
    const sets = states.map((state) => state.map);
    const difference =
      version.stateResolution === 'v1' ? undefined : await authDifference(this.#db, sets, pending);
    const known = difference === undefined ? undefined : { authDifference: difference };
    const resolution = resolveState(sets, version, known);
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
   * @returns the group
   */
  async write(
    tx: Transaction,
    room: number,
    state: RoomState,
    written: Map<RoomState, number>,
  ): Promise<number> {
    const known = state.group ?? written.get(state);
    if (known !== undefined) return known;
    const { basis } = state;
    const group =
      basis === null
        ? await putGroup(tx, room, { parent: null, changes: state.map })
        : await putGroup(tx, room, {
            parent: await this.write(tx, room, basis.from, written),
            changes: basis.changes,
          });
    written.set(state, group);
    return group;
  }

  /** Forgets all states in memory: those of a room are about to be removed from the disk. */
  forget(): void {
    this.#states.clear();
    this.#resolutions.clear();
  }

  /** Tells the states where they are stored, and keeps them. Called after the commit. */
  settle(written: ReadonlyMap<RoomState, number>): void {
    for (const [state, group] of written) {
      state.settle(group);
      this.#states.keep(group, state);
    }
  }
}

const weightOf = (state: RoomState): number => state.weight;

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
