import type { EventId } from './ids.ts';
import { isJsonObject, type JsonObject, own } from './json.ts';
import type { Pdu, UnsignedPdu } from './pdu.ts';
import type { RoomVersion } from './room_version.ts';

/**
 * The event with nothing left but what its room version protects (room versions, "Redactions"): what the reference
 * hash and the signatures cover. `unsigned` goes too.
 */
export function redact<Whole extends UnsignedPdu>(pdu: Whole, version: RoomVersion): Whole {
  const { topLevel } = version.redaction;
  const kept = Object.fromEntries(Object.entries(pdu).filter(([key]) => topLevel.has(key)));
  return { ...kept, content: redactContent(pdu.type, pdu.content, version) } as Whole;
}

/** What redaction leaves of the content of an event of a type. */
export function redactContent(type: string, content: JsonObject, version: RoomVersion): JsonObject {
  const allowed = version.redaction.content.get(type);
  if (allowed === 'all') return content;
  const kept: JsonObject = {};
  for (const key of allowed ?? []) {
    const value = own(content, key);
    if (value !== undefined) kept[key] = value;
  }
  if (type === 'm.room.member' && version.redaction.keepsThirdPartySigned) {
    const invite = own(content, 'third_party_invite');
    // An object stays an object, empty where it had no `signed`: the hashes of other servers have it so.
    if (isJsonObject(invite)) {
      const signed = own(invite, 'signed');
      kept.third_party_invite = signed === undefined ? {} : { signed };
    }
  }
  return kept;
}

/** The event that an m.room.redaction names; undefined where it names none, or the event is no redaction. */
export function redactedId(pdu: Pdu, version: RoomVersion): EventId | undefined {
  if (pdu.type !== 'm.room.redaction' || pdu.state_key !== undefined) return undefined;
  const redacts = version.redactsIn === 'event' ? pdu.redacts : own(pdu.content, 'redacts');
  return typeof redacts === 'string' ? (redacts as EventId) : undefined;
}
