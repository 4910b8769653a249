import { assert } from '../base/assert.ts';
import { base64url } from '../base/bytes.ts';
import { sha256 } from '../crypto/sha256.ts';
import { canonicalText } from './canonical_json.ts';
import type { EventId, RoomId } from './ids.ts';
import type { Event, Pdu, UnsignedPdu } from './pdu.ts';
import { redact } from './redaction.ts';
import type { RoomVersion } from './room_version.ts';

// Everything here asserts that the event has a canonical form: a parsed PDU has, and so must one of our own.

/** SHA-256 over the unredacted event (server-server API, "Calculating the content hash for an event"). 32 bytes. */
export function contentHash(pdu: UnsignedPdu): Uint8Array {
  const { hashes: _hashes, signatures: _signatures, unsigned: _unsigned, ...covered } = pdu as Pdu;
  return sha256(canonicalText(covered));
}

/**
 * The canonical JSON of what stays of an event when it is redacted, without `signatures` and `unsigned`: what the
 * reference hash is taken over, and what servers sign.
 */
export function protectedText(pdu: Omit<Pdu, 'signatures'>, version: RoomVersion): string {
  const { signatures: _signatures, unsigned: _unsigned, ...covered } = redact(pdu, version) as Pdu;
  return canonicalText(covered);
}

/** SHA-256 over the redacted event (server-server API, "Calculating the reference hash for an event"). 32 bytes. */
export const referenceHash = (pdu: Omit<Pdu, 'signatures'>, version: RoomVersion): Uint8Array =>
  sha256(protectedText(pdu, version));

/** `$` and the reference hash in URL-safe base64 (room versions 4 and up, "Event IDs"). */
export const eventId = (pdu: Omit<Pdu, 'signatures'>, version: RoomVersion): EventId =>
  `$${base64url(referenceHash(pdu, version))}` as EventId;

/**
 * The room of an event: its `room_id`, or for an m.room.create the id that its own hash makes (room version 12).
 * A create event that states a `room_id` does not get to choose the room by it; rule 1.2 rejects it.
 */
export const roomIdOf = (pdu: Pdu, version: RoomVersion): RoomId => identify(pdu, version).room;

/** The event that a PDU is: with its id and its room. */
export function identify(pdu: Pdu, version: RoomVersion): Event {
  const id = eventId(pdu, version);
  if (pdu.type === 'm.room.create') return { id, room: createdRoom(id), pdu };
  assert(pdu.room_id !== undefined, 'only a create event has no room_id');
  return { id, room: pdu.room_id, pdu };
}

/** The room that a create event makes: its event id with another sigil (room version 12). */
export const createdRoom = (create: EventId): RoomId => `!${create.slice(1)}` as RoomId;

/** The id of a room's create event, which the room's id is made of (room version 12). */
export const createEventOf = (room: RoomId): EventId => `$${room.slice(1)}` as EventId;
