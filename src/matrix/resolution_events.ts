import type { EventId } from './ids.ts';
import { authEvents, type Event, type StateKey, type StateMap, stateKey } from './pdu.ts';

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

/** The events that a resolution has read. */
export class ResolutionEvents {
  readonly #events = new Map<EventId, ResolvedEvent>();
  readonly #asked = new Set<EventId>();

  /** An event that was read and exists. */
  get(id: EventId): ResolvedEvent | undefined {
    return this.#events.get(id);
  }

  has(id: EventId): boolean {
    return this.#events.has(id);
  }

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
        if (found !== undefined) this.#events.set(id, found);
      }
    }
  }

  /** Reads events and everything that their `auth_events` lead to, one generation after another. */
  *loadWithAuthChains(ids: Iterable<EventId>): StateResolution<void> {
    let generation = new Set(ids);
    const seen = new Set(generation);
    while (generation.size > 0) {
      yield* this.load(generation);
      const next = new Set<EventId>();
      for (const id of generation) {
        for (const auth of this.authEvents(id)) if (!seen.has(auth)) next.add(auth);
      }
      for (const id of next) seen.add(id);
      generation = next;
    }
  }

  /** Reads, of events that have been read, all power levels events that lead on from one to another, and what these cite. */
  *loadPowerChains(ids: Iterable<EventId>): StateResolution<void> {
    let generation = new Set(ids);
    const seen = new Set(generation);
    while (generation.size > 0) {
      yield* this.load([...generation].flatMap((id) => this.authEvents(id)));
      const next = new Set<EventId>();
      for (const id of generation) {
        const event = this.get(id)?.event;
        const power = event && this.cited(event, POWER);
        if (power !== undefined && !seen.has(power.id)) next.add(power.id);
      }
      for (const id of next) seen.add(id);
      generation = next;
    }
  }

  /** The ids of the `auth_events` of an event that was read; none of one that was not. */
  authEvents(id: EventId): readonly EventId[] {
    const found = this.#events.get(id);
    return found === undefined ? [] : authEvents(found.event.pdu);
  }

  /** The auth chain of a set of events, as far as it has been read: what `auth_events` lead to from them. */
  authChain(ids: Iterable<EventId>): Set<EventId> {
    const chain = new Set<EventId>();
    const queue = [...ids];
    for (let id = queue.pop(); id !== undefined; id = queue.pop()) {
      for (const auth of this.authEvents(id)) {
        if (chain.has(auth) || !this.#events.has(auth)) continue;
        chain.add(auth);
        queue.push(auth);
      }
    }
    return chain;
  }

  /** The event for a place among an event's `auth_events`, as far as these have been read. */
  cited(event: Event, place: StateKey): Event | undefined {
    for (const id of authEvents(event.pdu)) {
      const auth = this.#events.get(id)?.event;
      if (auth !== undefined && placeOf(auth) === place) return auth;
    }
    return undefined;
  }
}

export const POWER = stateKey('m.room.power_levels', '');
export const CREATE = stateKey('m.room.create', '');

/** The place in the state that an event holds, or undefined of one that is no state event. */
export const placeOf = ({ pdu }: Event): StateKey | undefined =>
  pdu.state_key === undefined ? undefined : stateKey(pdu.type, pdu.state_key);
