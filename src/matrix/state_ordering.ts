import { compareCodePoints } from './canonical_json.ts';
import type { EventId } from './ids.ts';
import { authEvents, type Event } from './pdu.ts';
import { type Level, powerLevels } from './power_levels.ts';
import { CREATE, POWER, type ResolutionEvents } from './resolution_events.ts';
import type { RoomVersion } from './room_version.ts';

/** Below zero where `a` comes first. */
type Order<Item> = (a: Item, b: Item) => number;

/** The last two criteria of both orderings: `origin_server_ts`, then `event_id`. */
const byTimeAndId: Order<Event> = (x, y) =>
  x.pdu.origin_server_ts - y.pdu.origin_server_ts || compareCodePoints(x.id, y.id);

/**
 * The reverse topological power ordering of `events` (rooms/v2 and v12, "State resolution", "Definitions"): Kahn's
 * algorithm over the edges of `auth_events`, which takes the smallest of the candidates at each step.
 * `create`: the room's create event, where it is not among everybody's auth events.
 *
 * Only the edges between two of the `events` are followed, as everywhere. From version 12 on that loses no order: the full
 * conflicted set holds every event on an auth path between two of its own. For let P -> Y -> Z be such a path. P is a
 * conflicted event or in the auth chain of one, so there is a conflicted C with C -> .. -> P. If some auth chain lacks
 * Z then it lacks Y, while the one of C's state has Y: Y is in the auth difference. Otherwise Z is conflicted, or leads
 * to a conflicted event: Y is on a path from C to it, thus in the conflicted state subgraph.
 *
 * In versions 1 and 2, whose ids are no hashes, events might cite each other in a circle: these take no part.
 */
export function reverseTopologicalPowerOrder(
  events: ReadonlySet<EventId>,
  create: Event | undefined,
  store: ResolutionEvents,
  version: RoomVersion,
): Event[] {
  const levels = new Map<EventId, Level>();
  const waitsFor = new Map<EventId, number>();
  const waiting = new Map<EventId, Event[]>();
  const candidates = new Heap<Event>((x, y) => {
    const [levelX, levelY] = [levels.get(x.id)!, levels.get(y.id)!];
    // Not a subtraction: Infinity - Infinity is not a number.
    return levelX === levelY ? byTimeAndId(x, y) : levelX > levelY ? -1 : 1;
  });
  for (const id of events) {
    const { event } = store.get(id)!;
    const [creation, power] = [create ?? store.cited(event, CREATE), store.cited(event, POWER)];
    levels.set(id, powerLevels(creation, power, version).user(event.pdu.sender));
    const before = new Set(authEvents(event.pdu).filter((auth) => events.has(auth)));
    waitsFor.set(id, before.size);
    for (const auth of before) push(waiting, auth, event);
    if (before.size === 0) candidates.push(event);
  }
  const order: Event[] = [];
  for (let next = candidates.pop(); next !== undefined; next = candidates.pop()) {
    order.push(next);
    for (const event of waiting.get(next.id) ?? []) {
      const left = waitsFor.get(event.id)! - 1;
      waitsFor.set(event.id, left);
      if (left === 0) candidates.push(event);
    }
  }
  return order;
}

/**
 * The mainline ordering of `events` based on the power levels event `power` (rooms/v12, "State resolution",
 * "Definitions"). Without one the mainline is empty, and time and id alone decide.
 */
export function mainlineOrder(
  events: readonly Event[],
  power: Event | undefined,
  store: ResolutionEvents,
): Event[] {
  const positions = new Map<EventId, number>();
  for (
    let event = power;
    event !== undefined && !positions.has(event.id);
    event = store.cited(event, POWER)
  ) {
    positions.set(event.id, positions.size);
  }
  const positionOf = new Map(events.map((event) => [event.id, mainlinePosition(event, positions, store)]));
  return [...events].sort((x, y) => {
    const [positionX, positionY] = [positionOf.get(x.id)!, positionOf.get(y.id)!];
    return positionX === positionY ? byTimeAndId(x, y) : positionX > positionY ? -1 : 1;
  });
}

/**
 * The index of the first event of the mainline that is met on the way along power levels events from `event`, which
 * itself does not count; Infinity where none is. What is found is noted in `positions` for all on the way.
 */
function mainlinePosition(event: Event, positions: Map<EventId, number>, store: ResolutionEvents): number {
  const passed: EventId[] = [];
  let position = Infinity;
  for (let at = store.cited(event, POWER); at !== undefined; at = store.cited(at, POWER)) {
    const known = positions.get(at.id);
    if (known !== undefined) {
      position = known;
      break;
    }
    passed.push(at.id);
    // Until it is known; whoever comes by here again goes in a circle.
    positions.set(at.id, Infinity);
  }
  for (const id of passed) positions.set(id, position);
  return position;
}

function push<Key, Item>(lists: Map<Key, Item[]>, key: Key, item: Item): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [item]);
  else list.push(item);
}

/** A binary heap: `pop` takes the smallest item. */
class Heap<Item> {
  readonly #items: Item[] = [];
  readonly #order: Order<Item>;

  constructor(order: Order<Item>) {
    this.#order = order;
  }

  push(item: Item): void {
    const items = this.#items;
    let at = items.push(item) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (this.#order(items[parent]!, item) <= 0) break;
      items[at] = items[parent]!;
      at = parent;
    }
    items[at] = item;
  }

  pop(): Item | undefined {
    const items = this.#items;
    const smallest = items[0];
    const last = items.pop();
    if (last === undefined || items.length === 0) return smallest;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= items.length) break;
      if (child + 1 < items.length && this.#order(items[child + 1]!, items[child]!) < 0) child++;
      if (this.#order(last, items[child]!) <= 0) break;
      items[at] = items[child]!;
      at = child;
    }
    items[at] = last;
    return smallest;
  }
}
