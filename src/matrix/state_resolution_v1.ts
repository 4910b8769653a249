import { sha1Hex } from '../crypto/sha1.ts';
import { authEventKeys, authorise } from './event_auth.ts';
import type { EventId } from './ids.ts';
import { type Event, exactDepthOf, type StateKey, type StateMap, splitStateKey, stateKey } from './pdu.ts';
import { CREATE, ResolutionEvents, type StateResolution } from './resolution_events.ts';
import type { RoomVersion } from './room_version.ts';

/** The types that the others are authorised by, in the order in which their conflicts are resolved. */
const AUTH_TYPES = ['m.room.power_levels', 'm.room.join_rules', 'm.room.member'] as const;

/**
 * State resolution of room version 1 (rooms/v1, "State resolution"). States conflict over a place where they name different
 * events for it; what only some of them have does not conflict.
 *
 * Two things that the text leaves open are as in the other servers: the conflicts of one type do not see each other's
 * outcome, so that their order does not matter; and where no event for a place is allowed, the one of least depth
 * stays.
 */
export function* resolveStateV1(sets: readonly StateMap[], version: RoomVersion): StateResolution {
  const { resolved, conflicts } = partition(sets);
  const store = new ResolutionEvents();
  yield* store.load([...conflicts.values()].flatMap((ids) => [...ids]));

  const lists = new Map<StateKey, Event[]>();
  for (const [place, ids] of conflicts) {
    const events = [...ids].flatMap((id) => store.get(id)?.event ?? []);
    // What does not exist takes no part.
    if (events.length === 1) resolved.set(place, events[0]!.id);
    else if (events.length > 1) lists.set(place, events.sort(byDepth));
  }
  const needed = [...lists.values()].flat().flatMap(({ pdu }) => authEventKeys(pdu, version));
  yield* store.load([CREATE, ...needed].flatMap((place) => resolved.get(place) ?? []));

  for (const type of AUTH_TYPES) {
    const outcomes = new Map<StateKey, EventId>();
    for (const [place, events] of lists) {
      if (splitStateKey(place).type !== type) continue;
      lists.delete(place);
      outcomes.set(place, lastAllowed(place, events, allowedIn(resolved, store, version)));
    }
    for (const [place, id] of outcomes) resolved.set(place, id);
  }
  const isAllowed = allowedIn(resolved, store, version);
  const others = new Map<StateKey, EventId>();
  for (const [place, events] of lists) {
    const deepest = events.findLast((event) => isAllowed(event, undefined)) ?? events[0]!;
    others.set(place, deepest.id);
  }
  return new Map([...resolved, ...others]);
}

function partition(sets: readonly StateMap[]) {
  const all = new Map<StateKey, Set<EventId>>();
  for (const set of sets) {
    for (const [place, id] of set) {
      const ids = all.get(place);
      if (ids === undefined) all.set(place, new Set([id]));
      else ids.add(id);
    }
  }
  const resolved = new Map<StateKey, EventId>();
  const conflicts = new Map<StateKey, Set<EventId>>();
  for (const [place, ids] of all) {
    const [first] = ids;
    if (ids.size > 1) conflicts.set(place, ids);
    else if (first !== undefined) resolved.set(place, first);
  }
  return { resolved, conflicts };
}

/** Ascending depth, then descending SHA-1 of the id. */
function byDepth(a: Event, b: Event): number {
  const [depthA, depthB] = [exactDepthOf(a.pdu), exactDepthOf(b.pdu)];
  if (depthA !== depthB) return depthA < depthB ? -1 : 1;
  return sha1Hex(a.id) < sha1Hex(b.id) ? 1 : -1;
}

type Allowed = (event: Event, held: readonly [StateKey, Event] | undefined) => boolean;

/** Whether the rules allow an event in the state so far, in which another event may hold one place. */
const allowedIn =
  (state: ReadonlyMap<StateKey, EventId>, store: ResolutionEvents, version: RoomVersion): Allowed =>
  (event, held) => {
    const at = (place: StateKey): Event | undefined => {
      if (held?.[0] === place) return held[1];
      const id = state.get(place);
      return id === undefined ? undefined : store.get(id)?.event;
    };
    const context = { create: at(CREATE), state: (type: string, key: string) => at(stateKey(type, key)) };
    return authorise(event, context, version).ok;
  };

/** The last event of a list of which each is allowed where the one before it holds the place. */
function lastAllowed(place: StateKey, events: readonly Event[], isAllowed: Allowed): EventId {
  let held = events[0]!;
  for (const event of events.slice(1)) {
    if (!isAllowed(event, [place, held])) break;
    held = event;
  }
  return held.id;
}
