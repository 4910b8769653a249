import { authEventKeys, authorise } from '../../src/matrix/event_auth.ts';
import { identify } from '../../src/matrix/hashes.ts';
import type { EventId, UserId } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import { type Event, type Pdu, type StateMap, splitStateKey, stateKey } from '../../src/matrix/pdu.ts';
import { roomVersion } from '../../src/matrix/room_version.ts';
import {
  MAX_BATCH,
  type ResolvedEvent,
  resolveState,
  type StateResolution,
} from '../../src/matrix/state_resolution.ts';

export const v12 = roomVersion('12')!;

/** Everybody lives on a server of their own: @alice:alice.example. */
export const user = (name: string): UserId => `@${name}:${name}.example` as UserId;

/** An event with fields that are right unless given otherwise; neither hashed nor signed. */
export function makeEvent(fields: Partial<Pdu>): Event {
  return identify(
    {
      type: 'm.room.message',
      sender: user('alice'),
      content: {},
      origin_server_ts: 0,
      depth: 1,
      prev_events: [],
      auth_events: [],
      hashes: { sha256: '' },
      signatures: {},
      ...fields,
    },
    v12,
  );
}

export const createEvent = (content: JsonObject = {}, sender = user('alice')): Event =>
  makeEvent({ type: 'm.room.create', state_key: '', sender, content: { room_version: '12', ...content } });

/** What a test says of an event; the rest follows from where it is sent. */
export interface Sent {
  readonly type: string;
  readonly sender: UserId;
  readonly content?: JsonObject;
  readonly state_key?: string;
  readonly ts?: number;
}

/** A room of which everything is known: each event with its verdict and the state after it. */
export class TestRoom {
  readonly create: Event;
  readonly events = new Map<EventId, ResolvedEvent>();
  readonly stateAfter = new Map<EventId, StateMap>();
  #clock = 1_000;

  constructor(create: Event = createEvent()) {
    this.create = create;
    this.events.set(create.id, { event: create, rejected: false });
    this.stateAfter.set(create.id, new Map([[stateKey('m.room.create', ''), create.id]]));
  }

  /** Sends an event after others, authorised by the resolved state; one that the rules reject is kept as rejected. */
  send(prev: readonly Event[], { type, sender, content = {}, state_key, ts }: Sent): Event {
    const before = this.resolve(prev.map((event) => this.stateAfter.get(event.id)!));
    const selected = authEventKeys(
      { type, sender, content, ...(state_key === undefined ? {} : { state_key }) },
      v12,
    );
    const event = makeEvent({
      type,
      sender,
      content,
      ...(state_key === undefined ? {} : { state_key }),
      room_id: this.create.room,
      prev_events: prev.map(({ id }) => id),
      auth_events: selected.map((key) => before.get(key)).filter((id) => id !== undefined),
      origin_server_ts: ts ?? this.#clock++,
    });
    const context = { create: this.create, state: (t: string, k: string) => this.at(before, t, k) };
    const rejected = !authorise(event, context, v12).ok;
    this.events.set(event.id, { event, rejected });
    const after = new Map(before);
    if (state_key !== undefined && !rejected) after.set(stateKey(type, state_key), event.id);
    this.stateAfter.set(event.id, after);
    return event;
  }

  member(prev: readonly Event[], sender: UserId, target: UserId, membership: string, ts?: number): Event {
    const fields = { type: 'm.room.member', sender, state_key: target, content: { membership } };
    return this.send(prev, ts === undefined ? fields : { ...fields, ts });
  }

  state(prev: readonly Event[], sender: UserId, type: string, content: JsonObject, ts?: number): Event {
    const fields = { type, sender, state_key: '', content };
    return this.send(prev, ts === undefined ? fields : { ...fields, ts });
  }

  isRejected = (event: Event): boolean => this.events.get(event.id)!.rejected;

  /** The state that holds after all of `events`. */
  after(...events: readonly Event[]): StateMap {
    return this.resolve(events.map(({ id }) => this.stateAfter.get(id)!));
  }

  at(state: StateMap, type: string, key: string): Event | undefined {
    const id = state.get(stateKey(type, key));
    return id === undefined ? undefined : this.events.get(id)?.event;
  }

  resolve(sets: readonly StateMap[]): StateMap {
    return drive(resolveState(sets, v12), this.events);
  }
}

/** Answers a resolution from a map, and holds it to its promises: bounded batches, nothing asked for twice. */
export function drive(resolution: StateResolution, events: ReadonlyMap<EventId, ResolvedEvent>): StateMap {
  const asked = new Set<EventId>();
  let step = resolution.next();
  while (!step.done) {
    const answer = new Map<EventId, ResolvedEvent>();
    if (step.value.length > MAX_BATCH || step.value.length === 0)
      throw new Error('a batch of the wrong size');
    for (const id of step.value) {
      if (asked.has(id)) throw new Error('an event was asked for twice');
      asked.add(id);
      const found = events.get(id);
      if (found !== undefined) answer.set(id, found);
    }
    step = resolution.next(answer);
  }
  return step.value;
}

/** A state in an order that does not depend on how it was built, to compare. */
export const sorted = (state: StateMap): string[] =>
  [...state].map(([key, id]) => `${Object.values(splitStateKey(key)).join('|')} ${id}`).sort();
