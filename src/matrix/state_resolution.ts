import { authEventKeys, authorise } from './event_auth.ts';
import { createEventOf } from './hashes.ts';
import type { EventId } from './ids.ts';
import { own } from './json.ts';
import { type Event, type StateKey, type StateMap, stateKey } from './pdu.ts';
import { CREATE, POWER, placeOf, ResolutionEvents, type StateResolution } from './resolution_events.ts';
import type { RoomVersion } from './room_version.ts';
import { mainlineOrder, reverseTopologicalPowerOrder } from './state_ordering.ts';
import { resolveStateV1 } from './state_resolution_v1.ts';

/*
 * State resolution v2 (rooms/v2, "State resolution") and v2.1 (rooms/v12); v1 is in state_resolution_v1.ts. When branches
 * of a room's DAG meet, each brings its own state. What all of them agree on is the unconflicted state map and stays. For
 * the rest, the events that ever had a say are replayed: first those that can take rights away, oldest authority first;
 * then all others, in the order of the power levels that they were sent under. Whatever the rules then allow is the
 * state. v2 replays on top of the unconflicted state map; v2.1 from nothing, and with all events in between.
 *
 * The events come from a database, so the algorithm is a generator: it yields the ids that it needs and goes on with
 * what the driver answers. Nothing here reads a clock or depends on the order of the sets.
 */

// This file is the door to state resolution: what its callers name comes from here.
export {
  MAX_BATCH,
  MAX_RESOLUTION_EVENTS,
  ResolutionTooLarge,
  type ResolvedEvent,
  type StateResolution,
} from './resolution_events.ts';

/** What an index knows of the states' auth chains, which otherwise are read. */
export interface ChainKnowledge {
  /**
   * The auth difference of the sets: what is in the full auth chain of some, but not of all. The full auth chain
   * of a state is its events and all that their `auth_events` lead to.
   */
  readonly authDifference: ReadonlySet<EventId>;
}

/**
 * Resolves a set of states. Events that do not exist take no part, except where every set agrees on them.
 * @throws ResolutionTooLarge
 */
export function* resolveState(
  sets: readonly StateMap[],
  version: RoomVersion,
  known?: ChainKnowledge,
): StateResolution {
  const { unconflicted, conflicted } = partition(sets);
  if (conflicted.every((ids) => ids.length === 0)) return unconflicted;
  if (version.stateResolution === 'v1') return yield* resolveStateV1(sets, version);
  const isFromNothing = version.stateResolution === 'v2.1';

  const store = new ResolutionEvents();
  const conflictedSet = new Set(conflicted.flat());
  if (known === undefined || isFromNothing) yield* store.loadWithAuthChains(conflictedSet);
  const create = version.roomIsCreateEvent ? yield* loadCreate(store, conflictedSet) : undefined;
  // A rejected or unknown create event authorises nothing.
  if (version.roomIsCreateEvent && create === undefined) return unconflicted;

  const full = new Set(conflictedSet);
  if (isFromNothing) for (const id of conflictedSubgraph(conflictedSet, store)) full.add(id);
  const difference = known?.authDifference ?? (yield* authDifference(conflicted, unconflicted, store));
  for (const id of difference) full.add(id);
  yield* store.load(full);
  for (const id of full) if (!store.has(id)) full.delete(id);
  yield* store.loadPowerChains(full);

  // The five steps of "Algorithm".
  const state = new Map<StateKey, EventId>(isFromNothing ? [] : unconflicted);
  yield* store.load(heldPlaces(full, store, state, version));
  const room: Replay = { state, create, store, version };
  const powerEvents = withAuthChains([...full].filter(isPowerEvent(store)), full, store);
  applyAllowed(reverseTopologicalPowerOrder(powerEvents, create, store, version), room);

  const others = [...full].filter((id) => !powerEvents.has(id)).map((id) => store.get(id)!.event);
  const power = state.get(POWER);
  if (power !== undefined) {
    yield* store.load([power]);
    yield* store.loadPowerChains([power]);
  }
  applyAllowed(mainlineOrder(others, power && store.get(power)?.event, store), room);

  return new Map([...state, ...unconflicted]);
}

/** The unconflicted state map, and of each set the events that belong to the conflicted state set. */
function partition(sets: readonly StateMap[]): { unconflicted: StateMap; conflicted: EventId[][] } {
  const unconflicted = new Map<StateKey, EventId>();
  for (const [key, id] of sets[0] ?? []) {
    if (sets.every((set) => set.get(key) === id)) unconflicted.set(key, id);
  }
  const conflicted = sets.map((set) =>
    set.size === unconflicted.size
      ? []
      : [...set].filter(([key]) => !unconflicted.has(key)).map(([, id]) => id),
  );
  return { unconflicted, conflicted };
}

/** The create event that the room's id stands for, unless it was rejected. */
function* loadCreate(
  store: ResolutionEvents,
  conflicted: ReadonlySet<EventId>,
): StateResolution<Event | undefined> {
  for (const id of conflicted) {
    const room = store.get(id)?.event.room;
    if (room === undefined) continue;
    const createId = createEventOf(room);
    yield* store.load([createId]);
    const create = store.get(createId);
    return create === undefined || create.rejected ? undefined : create.event;
  }
  return undefined;
}

/** The conflicted state subgraph: what is on a path of auth events from one conflicted event to another. */
function conflictedSubgraph(conflicted: ReadonlySet<EventId>, store: ResolutionEvents): Set<EventId> {
  const below = store.authChain(conflicted);
  const citedBy = new Map<EventId, EventId[]>();
  for (const id of new Set([...conflicted, ...below])) {
    for (const auth of store.authEvents(id)) {
      const citing = citedBy.get(auth);
      if (citing === undefined) citedBy.set(auth, [id]);
      else citing.push(id);
    }
  }
  const above = new Set<EventId>();
  const queue = [...conflicted];
  for (let id = queue.pop(); id !== undefined; id = queue.pop()) {
    for (const citing of citedBy.get(id) ?? []) {
      if (above.has(citing)) continue;
      above.add(citing);
      queue.push(citing);
    }
  }
  return new Set([...below].filter((id) => above.has(id)));
}

/**
 * The auth difference: what is in the full auth chain of some states but not of all. A state's own events count as
 * part of its chain: the text's "auth chain" of an event leaves the event out, but every other server counts it in, and
 * rooms fall apart where servers differ. The unconflicted events and their chains belong to every state, so they
 * only take away from what the conflicted events bring, and are read only when these bring anything.
 */
function* authDifference(
  conflicted: readonly (readonly EventId[])[],
  unconflicted: StateMap,
  store: ResolutionEvents,
): StateResolution<Set<EventId>> {
  const chainsWith = new Map<EventId, number>();
  for (const ids of conflicted) {
    for (const id of new Set([...ids, ...store.authChain(ids)]))
      chainsWith.set(id, (chainsWith.get(id) ?? 0) + 1);
  }
  const difference = new Set<EventId>();
  for (const [id, chains] of chainsWith) if (chains < conflicted.length) difference.add(id);

  let generation: Set<EventId> = new Set(unconflicted.values());
  for (const id of generation) difference.delete(id);
  const seen = new Set<EventId>(generation);
  while (difference.size > 0 && generation.size > 0) {
    yield* store.load(generation);
    const next = new Set<EventId>();
    for (const id of generation) {
      for (const auth of store.authEvents(id)) {
        // Nothing of the difference is behind an event that is in every chain.
        if (seen.has(auth) || chainsWith.get(auth) === conflicted.length) continue;
        seen.add(auth);
        difference.delete(auth);
        next.add(auth);
      }
    }
    generation = next;
  }
  return difference;
}

const isPowerEvent =
  (store: ResolutionEvents) =>
  (id: EventId): boolean => {
    const { type, state_key, sender, content } = store.get(id)!.event.pdu;
    if (type === 'm.room.power_levels' || type === 'm.room.join_rules') return state_key === '';
    const membership = own(content, 'membership');
    return (
      type === 'm.room.member' &&
      (membership === 'leave' || membership === 'ban') &&
      state_key !== undefined &&
      sender !== state_key
    );
  };

/** The events and those of their auth chains that are in the full conflicted set (see reverseTopologicalPowerOrder). */
function withAuthChains(
  ids: readonly EventId[],
  full: ReadonlySet<EventId>,
  store: ResolutionEvents,
): Set<EventId> {
  const all = new Set(ids);
  const queue = [...ids];
  for (let id = queue.pop(); id !== undefined; id = queue.pop()) {
    for (const auth of store.authEvents(id)) {
      if (all.has(auth) || !full.has(auth)) continue;
      all.add(auth);
      queue.push(auth);
    }
  }
  return all;
}

/** The events of a state that the rules may look at where they authorise one of `ids`. */
function heldPlaces(
  ids: ReadonlySet<EventId>,
  store: ResolutionEvents,
  state: StateMap,
  version: RoomVersion,
): EventId[] {
  const places = [...ids].flatMap((id) => authEventKeys(store.get(id)!.event.pdu, version));
  return places.flatMap((place) => state.get(place) ?? []);
}

/** A state that events are put into. */
interface Replay {
  readonly state: Map<StateKey, EventId>;
  /** The room's create event, where it is not that of the state. */
  readonly create: Event | undefined;
  readonly store: ResolutionEvents;
  readonly version: RoomVersion;
}

/**
 * The iterative auth checks: puts each event in turn into the state if the rules allow it there. A place that the state
 * does not have yet is taken from the event's own `auth_events`, less those that were rejected.
 */
function applyAllowed(events: readonly Event[], { state, create, store, version }: Replay): void {
  for (const event of events) {
    const place = placeOf(event);
    if (place === undefined) continue;
    const cited = acceptedAuthEvents(event, store);
    const at = (wanted: StateKey): Event | undefined => {
      const held = state.get(wanted);
      return (held === undefined ? undefined : store.get(held)?.event) ?? cited.get(wanted);
    };
    const context = {
      create: create ?? at(CREATE),
      state: (type: string, key: string) => at(stateKey(type, key)),
    };
    if (authorise(event, context, version).ok) state.set(place, event.id);
  }
}

function acceptedAuthEvents(event: Event, store: ResolutionEvents): Map<StateKey, Event> {
  const accepted = new Map<StateKey, Event>();
  for (const id of store.authEvents(event.id)) {
    const auth = store.get(id);
    const place = auth && placeOf(auth.event);
    if (auth === undefined || auth.rejected || place === undefined) continue;
    if (!accepted.has(place)) accepted.set(place, auth.event);
  }
  return accepted;
}
