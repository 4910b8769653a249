import type { EventId, RoomId, UserId } from './ids.ts';
import type { JsonObject } from './json.ts';

/** A persistent event in the federation format of room version 12 (Matrix spec, rooms/v12, "Event format"). */
export interface Pdu {
  readonly type: string;
  readonly sender: UserId;
  /** Absent on the m.room.create event of version 12, whose hash is the room id. */
  readonly room_id?: RoomId;
  readonly state_key?: string;
  readonly content: JsonObject;
  readonly origin_server_ts: number;
  readonly depth: number;
  readonly prev_events: readonly EventId[];
  readonly auth_events: readonly EventId[];
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

/** One place in the room's state: `type` and `state_key`, joined by a NUL so that it can key a Map. */
export type StateKey = string & { readonly __brand: 'StateKey' };

export const stateKey = (type: string, key: string): StateKey => `${type}\u0000${key}` as StateKey;

export function splitStateKey(key: StateKey): { readonly type: string; readonly key: string } {
  const at = key.indexOf('\u0000');
  return { type: key.slice(0, at), key: key.slice(at + 1) };
}

/** The state of a room: which event holds each place. */
export type StateMap = ReadonlyMap<StateKey, EventId>;
