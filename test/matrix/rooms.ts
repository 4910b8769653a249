import { authEventKeys, authorise } from '../../src/matrix/event_auth.ts';
import { identify, referencesTo } from '../../src/matrix/hashes.ts';
import type { EventId, RoomId, UserId } from '../../src/matrix/ids.ts';
import { serverOf } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import {
  depthOf,
  type Event,
  type Pdu,
  type StateMap,
  splitStateKey,
  stateKey,
} from '../../src/matrix/pdu.ts';
import { ROOM_VERSIONS, type RoomVersion } from '../../src/matrix/room_version.ts';
import {
  type ChainKnowledge,
  MAX_BATCH,
  type ResolvedEvent,
  resolveState,
  type StateResolution,
} from '../../src/matrix/state_resolution.ts';

export const v12 = ROOM_VERSIONS.get('12')!;
export const VERSIONS: readonly RoomVersion[] = [...ROOM_VERSIONS.values()];

/** Everybody lives on a server of their own: @alice:alice.example. */
export const user = (name: string): UserId => `@${name}:${name}.example` as UserId;

/** An event with fields that are right unless given otherwise; neither hashed nor signed. */
export function makeEvent(fields: Partial<Pdu>, version = v12): Event {
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
    version,
  );
}

/** The create event of a room of Alice's, with what its version asks of it. */
export function createEvent(content: JsonObject = {}, sender = user('alice'), version = v12): Event {
  const fields: Partial<Pdu> = {
    type: 'm.room.create',
    state_key: '',
    sender,
    content: {
      room_version: version.id,
      ...(version.creators === 'content' && { creator: sender }),
      ...content,
    },
  };
  return makeEvent(
    {
      ...fields,
      ...(version.eventIds === 'stated' && { event_id: `$create:${serverOf(sender)}` as EventId }),
      ...(!version.roomIsCreateEvent && { room_id: `!room:${serverOf(sender)}` as RoomId }),
    },
    version,
  );
}

/** What a test says of an event; the rest follows from where it is sent. */
export interface Sent {
  readonly type: string;
  readonly sender: UserId;
  readonly content?: JsonObject;
  readonly state_key?: string;
  readonly ts?: number;
  /** As a top-level key. */
  readonly redacts?: string;
}

/**
 * An event after others, with the auth events that the specification selects from the state before it.
 * @param number makes its id in versions whose events state theirs
 */
export function eventAfter(
  prev: readonly Event[],
  before: StateMap,
  { type, sender, content = {}, state_key, ts = 0, redacts }: Sent,
  room: {
    readonly id: RoomId;
    readonly version: RoomVersion;
    readonly number: number;
    readonly events: ReadonlyMap<EventId, ResolvedEvent>;
  },
): Event {
  const { version } = room;
  const fields = { type, sender, content, ...(state_key === undefined ? {} : { state_key }) };
  const selected = authEventKeys(fields, version).flatMap((key) => before.get(key) ?? []);
  const references = (events: readonly Event[]) => referencesTo(events, version) as EventId[];
  return makeEvent(
    {
      ...fields,
      room_id: room.id,
      depth: Math.max(0, ...prev.map(({ pdu }) => depthOf(pdu))) + 1,
      prev_events: references(prev),
      auth_events: references(selected.map((id) => room.events.get(id)!.event)),
      origin_server_ts: ts,
      ...(redacts === undefined ? {} : { redacts }),
      ...(version.eventIds === 'stated' && { event_id: `$${room.number}:${serverOf(sender)}` as EventId }),
    },
    version,
  );
}

/** A room of which everything is known: each event with its verdict and the state after it. */
export class TestRoom {
  readonly create: Event;
  readonly version: RoomVersion;
  readonly events = new Map<EventId, ResolvedEvent>();
  readonly stateAfter = new Map<EventId, StateMap>();
  #clock = 1_000;

  constructor(create: Event = createEvent(), version = v12) {
    this.create = create;
    this.version = version;
    this.events.set(create.id, { event: create, rejected: false });
    this.stateAfter.set(create.id, new Map([[stateKey('m.room.create', ''), create.id]]));
  }

  /** Sends an event after others, authorised by the resolved state; one that the rules reject is kept as rejected. */
  send(prev: readonly Event[], sent: Sent): Event {
    const before = this.resolve(prev.map((event) => this.stateAfter.get(event.id)!));
    const room = {
      id: this.create.room,
      version: this.version,
      number: this.events.size,
      events: this.events,
    };
    const event = eventAfter(prev, before, { ...sent, ts: sent.ts ?? this.#clock++ }, room);
    const context = { create: this.create, state: (t: string, k: string) => this.at(before, t, k) };
    const rejected = !authorise(event, context, this.version).ok;
    this.events.set(event.id, { event, rejected });
    const after = new Map(before);
    if (sent.state_key !== undefined && !rejected) after.set(stateKey(sent.type, sent.state_key), event.id);
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

  resolve(sets: readonly StateMap[], known?: ChainKnowledge): StateMap {
    return drive(resolveState(sets, this.version, known), this.events);
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
