import type { EventId, RoomId, UserId } from './ids.ts';
import { isLooseInteger, isLooseNumber, type JsonObject, type LooseNumber } from './json.ts';

/**
 * How an event stands in `prev_events` and `auth_events`: by its id; in room versions 1 and 2 with its reference hash in
 * base64, which some servers leave out ("Event format").
 */
export type EventReference = EventId | [EventId, { readonly sha256?: string }];

/** A persistent event in the federation format (Matrix spec, room versions, "Event format"). */
export interface Pdu {
  readonly type: string;
  readonly sender: UserId;
  /** Absent on the m.room.create event of version 12, whose hash is the room id. */
  readonly room_id?: RoomId;
  /** Room versions 1 and 2 only; computed since. */
  readonly event_id?: EventId;
  /** The event that an m.room.redaction names, up to room version 10; see `redactedId`. */
  readonly redacts?: string;
  readonly state_key?: string;
  readonly content: JsonObject;
  readonly origin_server_ts: number;
  /** See `depthOf`. */
  readonly depth: number | LooseNumber;
  readonly prev_events: readonly EventReference[];
  readonly auth_events: readonly EventReference[];
  readonly hashes: { readonly sha256: string };
  readonly signatures: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly unsigned?: JsonObject;
}

/** An event that has not been hashed and signed. */
export type UnsignedPdu = Omit<Pdu, 'hashes' | 'signatures'>;

/** A PDU with the id that its room version computes for it, and the room that it belongs to. */
export interface Event {
  readonly id: EventId;
  readonly room: RoomId;
  readonly pdu: Pdu;
}

/** An event's depth, rounded: in room versions 1 to 5 it may be more than a number can tell exactly. */
export const depthOf = ({ depth }: Pick<Pdu, 'depth'>): number =>
  typeof depth === 'number' ? depth : Number(depth.rawJSON);

/** The depth as it is. */
export const exactDepthOf = ({ depth }: Pick<Pdu, 'depth'>): bigint =>
  BigInt(typeof depth === 'number' ? depth : depth.rawJSON);

/** Whether a value can be a depth, but for how large it is. */
export const isDepth = (value: unknown): value is Pdu['depth'] =>
  typeof value === 'number' ? Number.isInteger(value) : isLooseNumber(value) && isLooseInteger(value);

/** The ids of an event's previous events. */
export const prevEvents = ({ prev_events }: Pick<Pdu, 'prev_events'>): readonly EventId[] =>
  idsOf(prev_events);

/** The ids of an event's auth events. */
export const authEvents = ({ auth_events }: Pick<Pdu, 'auth_events'>): readonly EventId[] =>
  idsOf(auth_events);

function idsOf(references: readonly EventReference[]): readonly EventId[] {
  // The usual case costs no copy.
  if (references.every((reference) => typeof reference === 'string')) return references;
  return references.map((reference) => (typeof reference === 'string' ? reference : reference[0]));
}

/** One place in the room's state: `type` and `state_key`, joined by a NUL so that it can key a Map. */
export type StateKey = string & { readonly __brand: 'StateKey' };

export const stateKey = (type: string, key: string): StateKey => `${type}\u0000${key}` as StateKey;

export function splitStateKey(key: StateKey): { readonly type: string; readonly key: string } {
  const at = key.indexOf('\u0000');
  return { type: key.slice(0, at), key: key.slice(at + 1) };
}

/** The state of a room: which event holds each place. */
export type StateMap = ReadonlyMap<StateKey, EventId>;
