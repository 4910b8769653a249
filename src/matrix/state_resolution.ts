import { authorise } from './event_auth.ts';
import { createEventOf } from './hashes.ts';
import type { EventId } from './ids.ts';
import { own } from './json.ts';
import { type Event, type Pdu, type StateKey, type StateMap, stateKey } from './pdu.ts';
import type { RoomVersion } from './room_version.ts';
import { mainlineOrder, reverseTopologicalPowerOrder } from './state_ordering.ts';

/*
 * State resolution v2.1 (rooms/v12, "State resolution"). When branches of a room's DAG meet, each brings its own
 * state. What all of them agree on is the unconflicted state map and stays. For the rest, the events that ever had a
 * say are replayed from nothing: first those that can take rights away, oldest authority first; then all others,
 * in the order of the power levels that they were sent under. Whatever the rules then allow is the state.
 *
 * The events come from a database, so the algorithm is a generator: it yields the ids that it needs and goes on with
 * what the driver answers. Nothing here reads a clock or depends on the order of the sets.
 */

/** Ours: how many ids one yield asks for at most. */
export const MAX_BATCH = 500;
/** Ours: how many events one resolution reads at most. A room's own history bounds it otherwise. */
export const MAX_RESOLUTION_EVENTS = 50_000;

/** An event, and whether it was rejected when it came in. */
export interface ResolvedEvent {
  readonly event: Event;
  readonly rejected: boolean;
}

/** The driver answers each batch of ids with every one of them that exists. */
export type StateResolution<Outcome = StateMap> = Generator<
  readonly EventId[],
  Outcome,
  ReadonlyMap<EventId, ResolvedEvent>
>;

/** A resolution that would have to read more than `MAX_RESOLUTION_EVENTS` events: the driver has to refuse the event. */
export class ResolutionTooLarge extends Error {
  constructor() {
    super(`state resolution needs more than ${MAX_RESOLUTION_EVENTS} events`);
    this.name = 'ResolutionTooLarge';
  }
}

/**
 * Resolves a set of states. Events that do not exist take no part, except where every set agrees on them.
 * @throws ResolutionTooLarge
 */
export function* resolveState(sets: readonly StateMap[], version: RoomVersion): StateResolution {
  const { unconflicted, conflicted } = partition(sets);
  if (conflicted.every((ids) => ids.length === 0)) return unconflicted;

  const store = new EventStore();
  const conflictedSet = new Set(conflicted.flat());
  yield* store.loadWithAuthChains(conflictedSet);
  const create = yield* loadCreate(store, conflictedSet);
  // A rejected or unknown create event authorises nothing.
  if (create === undefined) return unconflicted;

  const full = new Set([...conflictedSet].filter((id) => store.events.has(id)));
  for (const id of conflictedSubgraph(conflictedSet, store)) full.add(id);
  for (const id of yield* authDifference(conflicted, unconflicted, store)) full.add(id);

  // The five steps of "Algorithm".
  const powerEvents = withAuthChains([...full].filter(isPowerEvent(store)), full, store);
  const state = new Map<StateKey, Event>();
  applyAllowed(
    state,
    reverseTopologicalPowerOrder(powerEvents, create, store.events),
    create,
    store,
    version,
  );

  const others = [...full].filter((id) => !powerEvents.has(id)).map((id) => store.events.get(id)!.event);
  const power = state.get(stateKey('m.room.power_levels', ''));
  applyAllowed(state, mainlineOrder(others, power, store.events), create, store, version);

  const resolved = new Map<StateKey, EventId>(unconflicted);
  for (const [key, event] of state) if (!unconflicted.has(key)) resolved.set(key, event.id);
  return resolved;
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

/** The events that a resolution has read. */
class EventStore {
  readonly events = new Map<EventId, ResolvedEvent>();
  readonly #asked = new Set<EventId>();

  /** Reads what has not been asked for, whatever comes of it. */
  *load(ids: Iterable<EventId>): StateResolution<void> {
    const wanted = [...new Set(ids)].filter((id) => !this.#asked.has(id));
    if (this.#asked.size + wanted.length > MAX_RESOLUTION_EVENTS) throw new ResolutionTooLarge();
    for (const id of wanted) this.#asked.add(id);
    for (let at = 0; at < wanted.length; at += MAX_BATCH) {
      const batch = wanted.slice(at, at + MAX_BATCH);
      const answer = yield batch;
      for (const id of batch) {
        const found = answer.get(id);
        if (found !== undefined) this.events.set(id, found);
      }
    }
  }

  /** Reads events and everything that their `auth_events` lead to, one generation after another. */
  *loadWithAuthChains(ids: Iterable<EventId>): StateResolution<void> {
    let generation = new Set(ids);
    while (generation.size > 0) {
      yield* this.load(generation);
      const next = new Set<EventId>();
      for (const id of generation) {
        for (const auth of this.authEvents(id)) if (!this.#asked.has(auth)) next.add(auth);
      }
      generation = next;
    }
  }

  /** The `auth_events` of an event that was read; none of one that was not. */
  authEvents(id: EventId): readonly EventId[] {
    return this.events.get(id)?.event.pdu.auth_events ?? [];
  }

  /** The auth chain of a set of events, as far as it has been read: what `auth_events` lead to from them. */
  authChain(ids: Iterable<EventId>): Set<EventId> {
    const chain = new Set<EventId>();
    const queue = [...ids];
    for (let id = queue.pop(); id !== undefined; id = queue.pop()) {
      for (const auth of this.authEvents(id)) {
        if (chain.has(auth) || !this.events.has(auth)) continue;
        chain.add(auth);
        queue.push(auth);
      }
    }
    return chain;
  }
}

/** The create event that the room's id stands for, unless it was rejected. */
function* loadCreate(
  store: EventStore,
  conflicted: ReadonlySet<EventId>,
): StateResolution<Event | undefined> {
  for (const id of conflicted) {
    const room = store.events.get(id)?.event.room;
    if (room === undefined) continue;
    const createId = createEventOf(room);
    yield* store.load([createId]);
    const create = store.events.get(createId);
    return create === undefined || create.rejected ? undefined : create.event;
  }
  return undefined;
}

/** The conflicted state subgraph: what is on a path of auth events from one conflicted event to another. */
function conflictedSubgraph(conflicted: ReadonlySet<EventId>, store: EventStore): Set<EventId> {
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
 * The auth difference: what is in the full auth chain of some states but not of all. The auth chain of the
 * unconflicted events belongs to every state, so it only takes away from what the conflicted events bring, and is
 * read only when they bring anything.
 */
function* authDifference(
  conflicted: readonly (readonly EventId[])[],
  unconflicted: StateMap,
  store: EventStore,
): StateResolution<Set<EventId>> {
  const chainsWith = new Map<EventId, number>();
  for (const ids of conflicted) {
    for (const id of store.authChain(ids)) chainsWith.set(id, (chainsWith.get(id) ?? 0) + 1);
  }
  const difference = new Set<EventId>();
  for (const [id, chains] of chainsWith) if (chains < conflicted.length) difference.add(id);

  let generation: Set<EventId> = new Set(unconflicted.values());
  const seen = new Set<EventId>();
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
  (store: EventStore) =>
  (id: EventId): boolean => {
    const { type, state_key, sender, content } = store.events.get(id)!.event.pdu;
    if (state_key === undefined) return false;
    if (type === 'm.room.power_levels' || type === 'm.room.join_rules') return true;
    const membership = own(content, 'membership');
    return (
      type === 'm.room.member' && (membership === 'leave' || membership === 'ban') && sender !== state_key
    );
  };

/** The events and those of their auth chains that are in the full conflicted set (see reverseTopologicalPowerOrder). */
function withAuthChains(
  ids: readonly EventId[],
  full: ReadonlySet<EventId>,
  store: EventStore,
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

/**
 * The iterative auth checks: puts each event in turn into `state` if the rules allow it there. A place that `state`
 * does not have yet is taken from the event's own `auth_events`, less those that were rejected.
 */
function applyAllowed(
  state: Map<StateKey, Event>,
  events: readonly Event[],
  create: Event,
  store: EventStore,
  version: RoomVersion,
): void {
  for (const event of events) {
    const { type, state_key } = event.pdu;
    if (state_key === undefined) continue;
    const cited = acceptedAuthEvents(event.pdu, store);
    const context = {
      create,
      state(wantedType: string, wantedKey: string): Event | undefined {
        const key = stateKey(wantedType, wantedKey);
        return state.get(key) ?? cited.get(key);
      },
    };
    if (authorise(event, context, version).ok) state.set(stateKey(type, state_key), event);
  }
}

function acceptedAuthEvents(pdu: Pdu, store: EventStore): Map<StateKey, Event> {
  const accepted = new Map<StateKey, Event>();
  for (const id of pdu.auth_events) {
    const auth = store.events.get(id);
    const key = auth?.event.pdu.state_key;
    if (auth === undefined || auth.rejected || key === undefined) continue;
    const place = stateKey(auth.event.pdu.type, key);
    if (!accepted.has(place)) accepted.set(place, auth.event);
  }
  return accepted;
}
