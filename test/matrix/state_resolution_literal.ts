import { createHash } from 'node:crypto';
import { authorise } from '../../src/matrix/event_auth.ts';
import type { EventId } from '../../src/matrix/ids.ts';
import {
  type Event,
  exactDepthOf,
  authEvents as idsOfAuthEvents,
  type StateKey,
  type StateMap,
  splitStateKey,
  stateKey,
} from '../../src/matrix/pdu.ts';
import { type Level, powerLevels } from '../../src/matrix/power_levels.ts';
import type { RoomVersion } from '../../src/matrix/room_version.ts';
import type { ResolvedEvent } from '../../src/matrix/state_resolution.ts';

/** What came to pass in a resolution, so that a test can tell that it saw the cases. */
export interface Counters {
  conflicts: number;
  differences: number;
  /** Events that only the conflicted state subgraph brought in. */
  subgraphOnly: number;
  refused: number;
  mainlines: number;
  rejectedAuthEvents: number;
  changedByOverlay: number;
}

/**
 * How the definitions are read. `text`: an event is not part of its own auth chain, and what lies between two events
 * of the full conflicted set orders them. `servers`: as those in use do, the other way round.
 */
export type Reading = 'text' | 'servers';

/**
 * State resolution v2 and v2.1 word for word: each definition of rooms/v2 and rooms/v12 is a function over the whole room,
 * with no regard for what it costs.
 */
export function resolveStateLiteral(
  sets: readonly StateMap[],
  events: ReadonlyMap<EventId, ResolvedEvent>,
  create: Event,
  version: RoomVersion,
  counters?: Counters,
  reading: Reading = 'servers',
): StateMap {
  if (version.stateResolution === 'v1') return resolveStateV1Literal(sets, events, version, counters);
  const isV21 = version.stateResolution === 'v2.1';
  const eventOf = (id: EventId): Event => events.get(id)!.event;
  const authEvents = (id: EventId): Event[] => idsOfAuthEvents(eventOf(id).pdu).map(eventOf);

  // "Auth chain": E's auth events, all of their auth events, and so on recursively.
  const chains = new Map<EventId, Set<EventId>>();
  const authChain = (id: EventId): Set<EventId> => {
    let chain = chains.get(id);
    if (chain === undefined) {
      chain = new Set(authEvents(id).flatMap((auth) => [auth.id, ...authChain(auth.id)]));
      chains.set(id, chain);
    }
    return chain;
  };

  // "Unconflicted state map and conflicted state set".
  const unconflicted = new Map<StateKey, EventId>();
  const conflicted = new Set<EventId>();
  for (const set of sets) {
    for (const [key, value] of set) {
      if (sets.every((other) => other.get(key) === value)) unconflicted.set(key, value);
      else conflicted.add(value);
    }
  }
  // "Auth difference".
  const own = (id: EventId): EventId[] => (reading === 'servers' ? [id] : []);
  const fullChains = sets.map(
    (set) => new Set([...set.values()].flatMap((id) => [...own(id), ...authChain(id)])),
  );
  const union = new Set(fullChains.flatMap((chain) => [...chain]));
  const difference = [...union].filter((id) => !fullChains.every((chain) => chain.has(id)));
  // "Conflicted state subgraph": on a path between a pair of conflicted events, endpoints included.
  const subgraph = (isV21 ? [...events.keys()] : []).filter((x) =>
    [...conflicted].some((from) =>
      [...conflicted].some(
        (to) => (from === x || authChain(from).has(x)) && (to === x || authChain(x).has(to)),
      ),
    ),
  );
  const full = new Set([...conflicted, ...subgraph, ...difference]);

  const powerEvent = (id: EventId): boolean => {
    const { type, state_key, sender, content } = eventOf(id).pdu;
    if (type === 'm.room.power_levels' || type === 'm.room.join_rules') return true;
    const removes = content.membership === 'leave' || content.membership === 'ban';
    return type === 'm.room.member' && removes && sender !== state_key;
  };
  const citedPower = (id: EventId): Event | undefined =>
    authEvents(id).find(({ pdu }) => pdu.type === 'm.room.power_levels');
  const before = (x: EventId, y: EventId): boolean => {
    const [a, b] = [eventOf(x).pdu, eventOf(y).pdu];
    const creation = (id: EventId): Event | undefined =>
      isV21 ? create : authEvents(id).find(({ pdu }) => pdu.type === 'm.room.create');
    const levelOf = (id: EventId): Level =>
      powerLevels(creation(id), citedPower(id), version).user(eventOf(id).pdu.sender);
    if (levelOf(x) !== levelOf(y)) return levelOf(x) > levelOf(y);
    return a.origin_server_ts !== b.origin_server_ts ? a.origin_server_ts < b.origin_server_ts : x < y;
  };
  const reverseTopological = (ids: ReadonlySet<EventId>): EventId[] => {
    const left = new Set(ids);
    const order: EventId[] = [];
    while (left.size > 0) {
      const earlier = (id: EventId): EventId[] =>
        reading === 'text' ? [...authChain(id)] : authEvents(id).map((auth) => auth.id);
      const free = [...left].filter((id) => !earlier(id).some((auth) => left.has(auth)));
      const first = free.reduce((best, id) => (before(id, best) ? id : best));
      left.delete(first);
      order.push(first);
    }
    return order;
  };
  // "Mainline ordering": the list [P0, P1, ...], and of an event the list [e1, e2, ...].
  const citedPowers = (id: EventId): EventId[] => {
    const next = citedPower(id);
    return next === undefined ? [] : [next.id, ...citedPowers(next.id)];
  };
  const mainlineOrder = (ids: readonly EventId[], power: EventId | undefined): EventId[] => {
    const mainline = power === undefined ? [] : [power, ...citedPowers(power)];
    const position = (id: EventId): number => {
      const first = citedPowers(id).find((cited) => mainline.includes(cited));
      return first === undefined ? Infinity : mainline.indexOf(first);
    };
    return [...ids].sort((x, y) => {
      if (position(x) !== position(y)) return position(x) > position(y) ? -1 : 1;
      const [a, b] = [eventOf(x).pdu.origin_server_ts, eventOf(y).pdu.origin_server_ts];
      return a !== b ? a - b : x < y ? -1 : 1;
    });
  };
  const iterativeAuthChecks = (initial: StateMap, order: readonly EventId[]): Map<StateKey, EventId> => {
    const state = new Map(initial);
    for (const id of order) {
      const find = (type: string, key: string): Event | undefined => {
        const current = state.get(stateKey(type, key));
        if (current !== undefined) return eventOf(current);
        const cited = authEvents(id).find(({ pdu }) => pdu.type === type && pdu.state_key === key);
        if (cited === undefined) return undefined;
        if (events.get(cited.id)!.rejected && counters) counters.rejectedAuthEvents++;
        return events.get(cited.id)!.rejected ? undefined : cited;
      };
      const event = eventOf(id);
      const creation = isV21 ? create : find('m.room.create', '');
      if (authorise(event, { create: creation, state: find }, version).ok) {
        state.set(stateKey(event.pdu.type, event.pdu.state_key!), id);
      } else if (counters) counters.refused++;
    }
    return state;
  };

  // "Algorithm".
  const x = new Set([...full].filter(powerEvent));
  if (reading === 'text') {
    for (const id of [...x]) for (const auth of authChain(id)) if (full.has(auth)) x.add(auth);
  } else for (const id of x) for (const auth of authEvents(id)) if (full.has(auth.id)) x.add(auth.id);
  const partial = iterativeAuthChecks(isV21 ? new Map() : unconflicted, reverseTopological(x));
  const rest = [...full].filter((id) => !x.has(id));
  const power = partial.get(stateKey('m.room.power_levels', ''));
  const result = iterativeAuthChecks(partial, mainlineOrder(rest, power));
  if (counters) {
    const outside = subgraph.filter((id) => !conflicted.has(id) && !difference.includes(id));
    counters.conflicts += conflicted.size > 0 ? 1 : 0;
    counters.differences += difference.length > 0 ? 1 : 0;
    counters.subgraphOnly += outside.length;
    counters.mainlines += power !== undefined && rest.length > 1 ? 1 : 0;
    counters.changedByOverlay += [...unconflicted].some(([key, id]) => (result.get(key) ?? id) !== id)
      ? 1
      : 0;
  }
  for (const [key, id] of unconflicted) result.set(key, id);
  return result;
}

/** State resolution of room version 1 word for word. */
function resolveStateV1Literal(
  sets: readonly StateMap[],
  events: ReadonlyMap<EventId, ResolvedEvent>,
  version: RoomVersion,
  counters?: Counters,
): StateMap {
  const sha1 = (text: string): string => createHash('sha1').update(text).digest('hex');
  const eventOf = (id: EventId): Event => events.get(id)!.event;
  const places = [...new Set(sets.flatMap((set) => [...set.keys()]))];
  const idsAt = (place: StateKey): EventId[] => [...new Set(sets.flatMap((set) => set.get(place) ?? []))];
  // "Start by setting R to the union of the states to be resolved, excluding any conflicting events."
  const r = new Map<StateKey, EventId>();
  for (const place of places) if (idsAt(place).length === 1) r.set(place, idsAt(place)[0]!);
  const isAllowed = (id: EventId, state: StateMap): boolean => {
    const find = (type: string, key: string): Event | undefined => {
      const held = state.get(stateKey(type, key));
      return held === undefined ? undefined : eventOf(held);
    };
    const allowed = authorise(eventOf(id), { create: find('m.room.create', ''), state: find }, version).ok;
    if (!allowed && counters) counters.refused++;
    return allowed;
  };
  // "Sort the list by ascending depth then descending sha1(event_id)."
  const list = (place: StateKey): EventId[] =>
    idsAt(place).sort((x, y) => {
      const [a, b] = [exactDepthOf(eventOf(x).pdu), exactDepthOf(eventOf(y).pdu)];
      return a !== b ? (a < b ? -1 : 1) : sha1(x) < sha1(y) ? 1 : -1;
    });
  const conflicts = places.filter((place) => idsAt(place).length > 1);
  if (counters) counters.conflicts += conflicts.length > 0 ? 1 : 0;
  const passes = ['m.room.power_levels', 'm.room.join_rules', 'm.room.member'];
  for (const type of passes) {
    const before = new Map(r);
    for (const place of conflicts.filter((one) => splitStateKey(one).type === type)) {
      const mine = new Map(before);
      const [first, ...others] = list(place);
      mine.set(place, first!);
      for (const id of others) {
        if (!isAllowed(id, mine)) break;
        mine.set(place, id);
      }
      r.set(place, mine.get(place)!);
    }
  }
  const authorised = new Map(r);
  for (const place of conflicts.filter((one) => !passes.includes(splitStateKey(one).type))) {
    const [highest] = list(place)
      .reverse()
      .filter((id) => isAllowed(id, authorised));
    r.set(place, highest ?? list(place)[0]!);
  }
  return r;
}
