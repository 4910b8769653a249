import { authorise } from '../../src/matrix/event_auth.ts';
import type { EventId } from '../../src/matrix/ids.ts';
import { type Event, type StateKey, type StateMap, stateKey } from '../../src/matrix/pdu.ts';
import { powerLevels } from '../../src/matrix/power_levels.ts';
import type { ResolvedEvent } from '../../src/matrix/state_resolution.ts';
import { v12 } from './rooms.ts';

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
 * State resolution v2.1 word for word: each definition of rooms/v12 is a function over the whole room, with no regard
 * for what it costs.
 */
export function resolveStateLiteral(
  sets: readonly StateMap[],
  events: ReadonlyMap<EventId, ResolvedEvent>,
  create: Event,
  counters?: Counters,
): StateMap {
  const eventOf = (id: EventId): Event => events.get(id)!.event;
  const authEvents = (id: EventId): Event[] => eventOf(id).pdu.auth_events.map(eventOf);

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
  const fullChains = sets.map((set) => new Set([...set.values()].flatMap((id) => [...authChain(id)])));
  const union = new Set(fullChains.flatMap((chain) => [...chain]));
  const difference = [...union].filter((id) => !fullChains.every((chain) => chain.has(id)));
  // "Conflicted state subgraph": on a path between a pair of conflicted events, endpoints included.
  const subgraph = [...events.keys()].filter((x) =>
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
    const levelOf = (id: EventId): number => powerLevels(create, citedPower(id)).user(eventOf(id).pdu.sender);
    if (levelOf(x) !== levelOf(y)) return levelOf(x) > levelOf(y);
    return a.origin_server_ts !== b.origin_server_ts ? a.origin_server_ts < b.origin_server_ts : x < y;
  };
  const reverseTopological = (ids: ReadonlySet<EventId>): EventId[] => {
    const left = new Set(ids);
    const order: EventId[] = [];
    while (left.size > 0) {
      const free = [...left].filter((id) => ![...authChain(id)].some((auth) => left.has(auth)));
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
      if (authorise(event, { create, state: find }, v12).ok) {
        state.set(stateKey(event.pdu.type, event.pdu.state_key!), id);
      } else if (counters) counters.refused++;
    }
    return state;
  };

  // "Algorithm".
  const x = new Set([...full].filter(powerEvent));
  for (const id of [...x]) for (const auth of authChain(id)) if (full.has(auth)) x.add(auth);
  const partial = iterativeAuthChecks(new Map(), reverseTopological(x));
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
