import { assert } from '../base/assert.ts';
import { base64, base64url } from '../base/bytes.ts';
import type { Random } from '../base/random.ts';
import { sha256 } from '../crypto/sha256.ts';
import { canonicalText, type NumberRange } from './canonical_json.ts';
import type { EventId, RoomId, ServerName } from './ids.ts';
import type { Event, EventReference, Pdu, UnsignedPdu } from './pdu.ts';
import { redact } from './redaction.ts';
import type { RoomVersion } from './room_version.ts';

// Everything here asserts that the event has a canonical form: a parsed PDU has, and so must one of our own.

/** Ours: the bytes of chance in an event id that does not follow from the event (room versions 1 and 2). */
const STATED_ID_BYTES = 18;

/** The numbers that events of a room version may have. */
export const numbersOf = (version: RoomVersion): NumberRange => (version.strictJson ? 'integers' : 'any');

/** SHA-256 over the unredacted event (server-server API, "Calculating the content hash for an event"). 32 bytes. */
export function contentHash(pdu: UnsignedPdu, version: RoomVersion): Uint8Array {
  const { hashes: _hashes, signatures: _signatures, unsigned: _unsigned, ...covered } = pdu as Pdu;
  return sha256(canonicalText(covered, numbersOf(version)));
}

/**
 * The canonical JSON of what stays of an event when it is redacted, without `signatures` and `unsigned`: what the
 * reference hash is taken over, and what servers sign.
 */
export function protectedText(pdu: Omit<Pdu, 'signatures'>, version: RoomVersion): string {
  const { signatures: _signatures, unsigned: _unsigned, ...covered } = redact(pdu, version) as Pdu;
  return canonicalText(covered, numbersOf(version));
}

/** SHA-256 over the redacted event (server-server API, "Calculating the reference hash for an event"). 32 bytes. */
export const referenceHash = (pdu: Omit<Pdu, 'signatures'>, version: RoomVersion): Uint8Array =>
  sha256(protectedText(pdu, version));

/** The id of an event ("Event IDs"): what it states, or `$` and its reference hash in the version's alphabet. */
export function eventId(pdu: Omit<Pdu, 'signatures'>, version: RoomVersion): EventId {
  if (version.eventIds === 'stated') {
    assert(pdu.event_id !== undefined, 'an event of this version states its id');
    return pdu.event_id;
  }
  const hash = referenceHash(pdu, version);
  return `$${version.eventIds === 'base64' ? base64(hash) : base64url(hash)}` as EventId;
}

/** An id for an event of a version whose events state theirs (room versions 1 and 2, "Event IDs"). */
export const newEventId = (server: ServerName, random: Random): EventId =>
  `$${base64url(random.bytes(STATED_ID_BYTES))}:${server}` as EventId;

/** How events stand in the `prev_events` and `auth_events` of others. */
export const referencesTo = (events: readonly Event[], version: RoomVersion): EventReference[] =>
  events.map(({ id, pdu }) =>
    version.eventIds === 'stated' ? [id, { sha256: base64(referenceHash(pdu, version)) }] : id,
  );

/** The room of an event (see `identify`). */
export const roomIdOf = (pdu: Pdu, version: RoomVersion): RoomId => identify(pdu, version).room;

/**
 * The event that a PDU is: with its id and its room. The room is its `room_id`, or for an m.room.create of version 12
 * the id that its own hash makes: one that states a `room_id` does not get to choose the room by it; rule 1.2 rejects it.
 */
export function identify(pdu: Pdu, version: RoomVersion): Event {
  const id = eventId(pdu, version);
  if (version.roomIsCreateEvent && pdu.type === 'm.room.create') return { id, room: createdRoom(id), pdu };
  assert(pdu.room_id !== undefined, 'only a create event has no room_id');
  return { id, room: pdu.room_id, pdu };
}

/** The room that a create event makes: its event id with another sigil (room version 12). */
export const createdRoom = (create: EventId): RoomId => `!${create.slice(1)}` as RoomId;

/** The id of a room's create event, which the room's id is made of (room version 12). */
export const createEventOf = (room: RoomId): EventId => `$${room.slice(1)}` as EventId;
