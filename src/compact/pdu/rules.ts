import { base64 } from '../../base/bytes.ts';
import { canonicalText } from '../../matrix/canonical_json.ts';
import { authEventKeys } from '../../matrix/event_auth.ts';
import { contentHash, eventId, referenceHash } from '../../matrix/hashes.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../../matrix/json.ts';
import type { Pdu, StateKey } from '../../matrix/pdu.ts';
import type { RoomVersion } from '../../matrix/room_version.ts';
import type { KnownEvent } from './view.ts';

/** What auth events are selected by. */
export interface Subject {
  readonly type: string;
  readonly sender: string;
  readonly stateKey: string | undefined;
  readonly content: JsonObject;
}

// Hashing asks for an event that has a canonical form.

/** Whether events refer to others by pairs of id and hash. */
export const refersByPairs = (version: RoomVersion): boolean => version.eventIds === 'stated';

/** Whether events of this type state no `room_id`, since they make the room. */
export const statesNoRoom = (type: string, version: RoomVersion): boolean =>
  type === 'm.room.create' && version.roomIsCreateEvent;

/** How an event stands in the `prev_events` or `auth_events` of another; undefined where its hash is not known. */
export function referenceTo(
  id: string,
  known: KnownEvent | undefined,
  version: RoomVersion,
): JsonValue | undefined {
  if (!refersByPairs(version)) return id;
  const hash = known?.referenceHash;
  return hash === undefined ? undefined : [id, { sha256: base64(hash) }];
}

/** The id in an element of `prev_events` or `auth_events`, or undefined where there is none. */
export function idInReference(reference: JsonValue, version: RoomVersion): string | undefined {
  const id = refersByPairs(version) && Array.isArray(reference) ? reference[0] : reference;
  return typeof id === 'string' ? id : undefined;
}

/** The id of an event ("Event IDs"). The event must be well formed. */
export const idOf = (pdu: JsonObject, version: RoomVersion): string =>
  eventId(pdu as unknown as Pdu, version);

/** The places that the specification selects auth events from (server-server API, "Auth events selection"). */
export function authPlaces(subject: Subject, version: RoomVersion): StateKey[] {
  const { type, sender, content, stateKey: key } = subject;
  const fields = { type, sender: sender as Pdu['sender'], content };
  return authEventKeys(key === undefined ? fields : { ...fields, state_key: key }, version);
}

/** What `hashes` says in an event whose content is the one that was hashed. */
export const hashesOf = (pdu: JsonObject, version: RoomVersion): JsonObject => ({
  sha256: base64(contentHash(pdu as unknown as Pdu, version)),
});

/** Whether two values have the same canonical JSON; both have one. */
export const isSame = (a: JsonValue, b: JsonValue): boolean => canonicalText(a) === canonicalText(b);

/**
 * The bytes by which a reader sees whether it made the event that was sent: the first of the event's id, which is the
 * reference hash. That covers the content through `hashes` alone: where this is not the content's hash, the two are
 * added byte by byte (XOR), so that the check always covers the whole event, less `signatures` and `unsigned`.
 */
export function checkOf(pdu: JsonObject, version: RoomVersion, length: number): Uint8Array {
  const check = referenceHash(pdu as unknown as Pdu, version).slice(0, length);
  const hashes = own(pdu, 'hashes');
  const claimed = isJsonObject(hashes) ? own(hashes, 'sha256') : undefined;
  const content = contentHash(pdu as unknown as Pdu, version);
  if (claimed === base64(content)) return check;
  return check.map((byte, i) => byte ^ content[i]!);
}
