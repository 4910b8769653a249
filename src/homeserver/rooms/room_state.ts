import { assert } from '../../base/assert.ts';
import type { EventId } from '../../matrix/ids.ts';
import type { Event, StateKey, StateMap } from '../../matrix/pdu.ts';
import { stateKey } from '../../matrix/pdu.ts';

/** How many groups may lie between one and the next complete one. */
export const MAX_HOPS = 64;

/** Where a state is stored. */
export interface StoredGroup {
  readonly id: number;
  /** Parents to the next complete group. */
  readonly hops: number;
}

/** What makes a state that is not stored yet out of another. */
interface Basis {
  readonly from: RoomState;
  /** What is laid over `from`. */
  readonly changes: StateMap;
}

/**
 * The state of a room at one point. The map never changes; what changes, once, is that it gets stored as a state
 * group, by which time nothing refers to the state that it was made from any more.
 */
export class RoomState {
  readonly map: StateMap;
  #stored: StoredGroup | null;
  #basis: Basis | null;

  private constructor(map: StateMap, stored: StoredGroup | null, basis: Basis | null) {
    this.map = map;
    this.#stored = stored;
    this.#basis = basis;
  }

  /** A state read from storage. */
  static stored(map: StateMap, group: StoredGroup): RoomState {
    return new RoomState(map, group, null);
  }

  /** A state that is new as a whole. */
  static complete(map: StateMap): RoomState {
    return new RoomState(map, null, null);
  }

  get group(): StoredGroup | null {
    return this.#stored;
  }

  get basis(): Basis | null {
    return this.#basis;
  }

  get(type: string, key: string): EventId | undefined {
    return this.map.get(stateKey(type, key));
  }

  /** This state with one entry set. */
  with(place: StateKey, event: EventId): RoomState {
    if (this.map.get(place) === event) return this;
    return new RoomState(new Map(this.map).set(place, event), null, {
      from: this,
      changes: new Map([[place, event]]),
    });
  }

  /** The state after an event that this one is before. */
  after(event: Event): RoomState {
    const { type, state_key: key } = event.pdu;
    return key === undefined ? this : this.with(stateKey(type, key), event.id);
  }

  /** A state with this map, to be stored as a difference to `near` where that is small and only adds or replaces. */
  static near(near: RoomState, map: StateMap): RoomState {
    const changes = differences(near.map, map);
    if (changes.size === 0) return near;
    const added = new Map<StateKey, EventId>();
    for (const [place, event] of changes) {
      if (event === undefined) return RoomState.complete(map);
      added.set(place, event);
    }
    return new RoomState(map, null, added.size * 2 < map.size ? { from: near, changes: added } : null);
  }

  /** Says where it is stored now. */
  settle(group: StoredGroup): void {
    assert(this.#stored === null || this.#stored.id === group.id, 'a state is stored once');
    this.#stored = group;
    this.#basis = null;
  }

  /** What has to change to get from `before` to this state; undefined: the entry goes away. */
  changesSince(before: RoomState): ReadonlyMap<StateKey, EventId | undefined> {
    if (before === this) return new Map();
    return this.#basis?.from === before ? this.#basis.changes : differences(before.map, this.map);
  }
}

function differences(from: StateMap, to: StateMap): Map<StateKey, EventId | undefined> {
  const changes = new Map<StateKey, EventId | undefined>();
  for (const [place, event] of to) if (from.get(place) !== event) changes.set(place, event);
  if (from.size + changes.size > to.size) {
    for (const place of from.keys()) if (!to.has(place)) changes.set(place, undefined);
  }
  return changes;
}
