import { assert } from '../../base/assert.ts';
import type { EventId } from '../../matrix/ids.ts';
import type { Event, StateKey, StateMap } from '../../matrix/pdu.ts';
import { stateKey } from '../../matrix/pdu.ts';
import type { StateChanges } from '../../storage/state.ts';
import { LayeredMap } from './layered_map.ts';

/** What makes a state that is not stored yet out of another. */
interface Basis {
  readonly from: RoomState;
  /** What is laid over `from`. */
  readonly changes: StateChanges;
}

/**
 * The state of a room at one point. The map never changes; what changes, once, is that it gets stored as a state
 * group, by which time nothing refers to the state that it was made from any more.
 */
export class RoomState {
  readonly #map: LayeredMap<StateKey, EventId>;
  #group: number | null;
  #basis: Basis | null;

  private constructor(map: LayeredMap<StateKey, EventId>, group: number | null, basis: Basis | null) {
    this.#map = map;
    this.#group = group;
    this.#basis = basis;
  }

  /** A state read from storage. */
  static stored(map: StateMap, group: number): RoomState {
    return new RoomState(LayeredMap.of(map), group, null);
  }

  /** A state that is new as a whole. */
  static complete(map: StateMap): RoomState {
    return new RoomState(LayeredMap.of(map), null, null);
  }

  get map(): StateMap {
    return this.#map;
  }

  /** How many entries it weighs in memory. */
  get weight(): number {
    return this.#map.weight;
  }

  /** The state group in which it is stored. */
  get group(): number | null {
    return this.#group;
  }

  get basis(): Basis | null {
    return this.#basis;
  }

  get(type: string, key: string): EventId | undefined {
    return this.#map.get(stateKey(type, key));
  }

  /** This state with one entry set. */
  with(place: StateKey, event: EventId): RoomState {
    if (this.#map.get(place) === event) return this;
    return this.#changed(new Map([[place, event]]));
  }

  /** The state after an event that this one is before. */
  after(event: Event): RoomState {
    const { type, state_key: key } = event.pdu;
    return key === undefined ? this : this.with(stateKey(type, key), event.id);
  }

  /** The state with this map, made from this one. */
  become(map: StateMap): RoomState {
    const changes = this.#map.changesTo(map);
    return changes.size === 0 ? this : this.#changed(changes);
  }

  #changed(changes: StateChanges): RoomState {
    return new RoomState(this.#map.with(changes), null, { from: this, changes });
  }

  /** Says where it is stored now. */
  settle(group: number): void {
    assert(this.#group === null || this.#group === group, 'a state is stored once');
    this.#group = group;
    this.#basis = null;
  }

  /** What has to change to get from `before` to this state; undefined: the entry goes away. */
  changesSince(before: RoomState): StateChanges {
    if (before === this) return new Map();
    return this.#basis?.from === before ? this.#basis.changes : before.#map.changesTo(this.#map);
  }
}
