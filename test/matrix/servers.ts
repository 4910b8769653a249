import type { Random } from '../../src/base/random.ts';
import { authorise, checkAuthEvents } from '../../src/matrix/event_auth.ts';
import type { EventId } from '../../src/matrix/ids.ts';
import { authEvents, type Event, prevEvents, type StateMap, stateKey } from '../../src/matrix/pdu.ts';
import type { RoomVersion } from '../../src/matrix/room_version.ts';
import { type ResolvedEvent, resolveState } from '../../src/matrix/state_resolution.ts';
import { beginRoom, pick, randomEvent } from './random_rooms.ts';
import { drive, eventAfter, type Sent } from './rooms.ts';

/** What came to pass among servers, so that a test can tell that it saw the cases. */
export interface ServerCounters {
  conflicted: number;
  rejected: number;
  softFailed: number;
  accepted: number;
}

/** A server as far as the rules go: it takes events in some order, with the checks on receipt 4 to 6. */
export class RuleServer {
  readonly events = new Map<EventId, ResolvedEvent>();
  readonly stateAfter = new Map<EventId, StateMap>();
  readonly extremities = new Set<EventId>();
  readonly version: RoomVersion;
  readonly #counters: ServerCounters;

  constructor(create: Event, version: RoomVersion, counters: ServerCounters) {
    this.version = version;
    this.#counters = counters;
    this.events.set(create.id, { event: create, rejected: false });
    this.stateAfter.set(create.id, new Map([[stateKey('m.room.create', ''), create.id]]));
    this.extremities.add(create.id);
  }

  /** Whether everything that an event follows on is here. */
  canTake = (event: Event): boolean => prevEvents(event.pdu).every((id) => this.events.has(id));

  /** Takes an event once; a sender that is no liar has it accepted. */
  take(event: Event): 'accepted' | 'soft-failed' | 'rejected' {
    const before = this.#resolve(prevEvents(event.pdu));
    const cited = authEvents(event.pdu).map((id) => this.events.get(id)!);
    const byAuthEvents = new Map(
      cited.map(({ event: { id, pdu } }) => [stateKey(pdu.type, pdu.state_key ?? ''), id]),
    );
    const allowed =
      checkAuthEvents(event, cited, this.version).ok &&
      this.#allows(event, byAuthEvents) &&
      this.#allows(event, before);
    this.events.set(event.id, { event, rejected: !allowed });
    const after = new Map(before);
    const { type, state_key } = event.pdu;
    if (allowed && state_key !== undefined) after.set(stateKey(type, state_key), event.id);
    this.stateAfter.set(event.id, after);
    if (!allowed) {
      this.#counters.rejected++;
      return 'rejected';
    }
    if (!this.#allows(event, this.current())) {
      this.#counters.softFailed++;
      return 'soft-failed';
    }
    this.#counters.accepted++;
    for (const id of prevEvents(event.pdu)) this.extremities.delete(id);
    this.extremities.add(event.id);
    return 'accepted';
  }

  /** An event after `prev`, by default the forward extremities; who lies has no regard for the rules. */
  make(sent: Sent, number: number, prev: readonly EventId[] = [...this.extremities]): Event {
    const [first] = this.events.values();
    const room = { id: first!.event.room, version: this.version, number, events: this.events };
    const events = prev.map((id) => this.events.get(id)!.event);
    return eventAfter(events, this.#resolve(prev), sent, room);
  }

  current = (): StateMap => this.#resolve([...this.extremities]);

  #resolve(prevs: readonly EventId[]): StateMap {
    const sets = prevs.map((id) => this.stateAfter.get(id)!);
    const [first] = sets;
    if (sets.some((set) => set.size !== first!.size || [...set].some(([key, id]) => first!.get(key) !== id)))
      this.#counters.conflicted++;
    return drive(resolveState(sets, this.version), this.events);
  }

  #allows(event: Event, state: StateMap): boolean {
    const find = (type: string, key: string): Event | undefined => {
      const id = state.get(stateKey(type, key));
      return id === undefined ? undefined : this.events.get(id)?.event;
    };
    const [first] = this.events.values();
    return authorise(event, { create: first!.event, state: find }, this.version).ok;
  }
}

/** All events of a room of several servers that hear of each other late, some of them liars; in the order of their making. */
export function quarrel(random: Random, version: RoomVersion, count: number, counters: ServerCounters) {
  const { room, creators } = beginRoom(random, version);
  const all: Event[] = [...room.events.values()].map(({ event }) => event);
  const servers = [0, 1, 2].map(() => new RuleServer(room.create, version, counters));
  for (const event of all.slice(1)) for (const server of servers) server.take(event);
  for (let i = 0; i < count; i++) {
    const server = pick(random, servers);
    const told = all.filter((event) => !server.events.has(event.id));
    for (const event of told.slice(0, random.integer(6))) if (server.canTake(event)) server.take(event);
    const isLiar = random.fraction() < 0.15;
    // An event on an old end of the room is how one gets round a ban, so the others' state must keep it out.
    const prev = isLiar ? [pick(random, [...server.events.keys()].slice(-12))] : undefined;
    const event = server.make(randomEvent(random, creators, version), all.length, prev);
    // What is not allowed even here goes out from liars only, and stays in the minds of others.
    const verdict = server.take(event);
    if (verdict === 'accepted' || isLiar) all.push(event);
    else forget(server, event);
  }
  return { create: room.create, all };
}

function forget(server: RuleServer, event: Event): void {
  server.events.delete(event.id);
  server.stateAfter.delete(event.id);
}

/** The same events in another order, each after those that it follows on. */
export function reordered(random: Random, events: readonly Event[]): Event[] {
  const left = [...events];
  const done = new Set<EventId>();
  const order: Event[] = [];
  while (left.length > 0) {
    const free = left.filter(({ pdu }) =>
      [...prevEvents(pdu), ...authEvents(pdu)].every((id) => done.has(id)),
    );
    // Now the first that is free, now any: near the order of their making, and far from it.
    const next = random.fraction() < 0.5 ? free[0]! : pick(random, free);
    left.splice(left.indexOf(next), 1);
    done.add(next.id);
    order.push(next);
  }
  return order;
}
