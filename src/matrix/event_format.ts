import { bad, ok, type Result } from '../base/result.ts';
import { canonicalJson } from './canonical_json.ts';
import { identify, numbersOf } from './hashes.ts';
import {
  fitsIdLimit,
  MAX_ID_BYTES,
  parseEventId,
  parseRoomId,
  parseStatedEventId,
  parseUserId,
} from './ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, nestsDeeperThan, own } from './json.ts';
import { depthOf, type Event, exactDepthOf, isDepth, type Pdu } from './pdu.ts';
import type { RoomVersion } from './room_version.ts';

/** Client-server API, "Size limits": of the whole event as canonical JSON, signatures included. */
export const MAX_PDU_BYTES = 65_536;
/** Room versions 4 and up, "Event format". */
export const MAX_PREV_EVENTS = 20;
export const MAX_AUTH_EVENTS = 10;
/** Ours, of events that are made here: what room versions 6 and up allow ("Event format"). */
export const MAX_DEPTH = Number.MAX_SAFE_INTEGER;

/**
 * Ours: how deep a PDU nests at most. Wherever one is wrapped (a transaction, an answer to /sync or send_join) there is
 * room for that beneath the limits of the parsers, 128 levels for JSON over HTTP being the least.
 */
export const MAX_PDU_NESTING = 100;

/**
 * Takes a PDU that another server sent (server-server API, "Checks performed on receipt of a PDU", 1): right shape,
 * within the limits, with a canonical form. What comes back has its id and room computed; signatures, hash and
 * authorisation are still to be checked. A problem means that the event has to be dropped.
 */
export function parsePdu(value: unknown, version: RoomVersion): Result<Event> {
  if (!isJsonObject(value)) return bad('a PDU is an object');
  // First, since what follows walks it by recursion.
  if (nestsDeeperThan(MAX_PDU_NESTING, value))
    return bad(`the event nests deeper than ${MAX_PDU_NESTING} levels`);
  const problem =
    fieldProblem(value, version) ??
    idsProblem(value, version) ??
    signaturesProblem(value) ??
    sizeProblem(value, version);
  return problem === undefined ? ok(identify(value as unknown as Pdu, version)) : bad(problem);
}

/**
 * Size of an event as the limit counts it: canonical JSON, without `unsigned`, which every server fills for itself,
 * so that all agree on whether an event id is too large. A problem where there is no canonical form.
 */
export function pduBytes(pdu: JsonObject, version: RoomVersion): Result<number> {
  const { unsigned: _unsigned, ...event } = pdu;
  const text = canonicalJson(event, numbersOf(version));
  return text.ok ? ok(Buffer.byteLength(text.value)) : text;
}

function sizeProblem(pdu: JsonObject, version: RoomVersion): string | undefined {
  const size = pduBytes(pdu, version);
  if (!size.ok) return size.problem;
  return size.value <= MAX_PDU_BYTES ? undefined : `the event is larger than ${MAX_PDU_BYTES} bytes`;
}

function fieldProblem(pdu: JsonObject, version: RoomVersion): string | undefined {
  const type = own(pdu, 'type');
  if (typeof type !== 'string' || !fitsIdLimit(type))
    return `type is not text of at most ${MAX_ID_BYTES} bytes`;
  const key = own(pdu, 'state_key');
  if (key !== undefined && (typeof key !== 'string' || !fitsIdLimit(key))) {
    return `state_key is not text of at most ${MAX_ID_BYTES} bytes`;
  }
  if (!isJsonObject(own(pdu, 'content'))) return 'content is not an object';
  const unsigned = own(pdu, 'unsigned');
  if (unsigned !== undefined && !isJsonObject(unsigned)) return 'unsigned is not an object';
  if (!Number.isSafeInteger(own(pdu, 'origin_server_ts'))) return 'origin_server_ts is not an integer';
  const depth = own(pdu, 'depth');
  if (!isDepth(depth) || depthOf({ depth }) < 0 || exactDepthOf({ depth }) > version.maxDepth) {
    return `depth is not an integer from 0 to ${version.maxDepth}`;
  }
  return undefined;
}

function idsProblem(pdu: JsonObject, version: RoomVersion): string | undefined {
  const sender = own(pdu, 'sender');
  if (typeof sender !== 'string') return 'sender is not text';
  const user = parseUserId(sender);
  if (!user.ok) return `sender: ${user.problem}`;
  const room = own(pdu, 'room_id');
  if (room === undefined) {
    if (!version.roomIsCreateEvent || own(pdu, 'type') !== 'm.room.create') return 'room_id is missing';
  } else if (typeof room !== 'string' || !parseRoomId(room).ok) return 'room_id is not a room id';
  if (version.eventIds === 'stated') {
    const id = own(pdu, 'event_id');
    if (typeof id !== 'string' || !parseStatedEventId(id).ok)
      return 'event_id is not an event id with a domain';
  }
  if (!isReferences(own(pdu, 'prev_events'), MAX_PREV_EVENTS, version)) {
    return `prev_events is not a list of at most ${MAX_PREV_EVENTS} event ids`;
  }
  if (!isReferences(own(pdu, 'auth_events'), MAX_AUTH_EVENTS, version)) {
    return `auth_events is not a list of at most ${MAX_AUTH_EVENTS} event ids`;
  }
  return undefined;
}

function signaturesProblem(pdu: JsonObject): string | undefined {
  const hashes = own(pdu, 'hashes');
  if (!isJsonObject(hashes) || typeof own(hashes, 'sha256') !== 'string') return 'hashes has no sha256';
  const signatures = own(pdu, 'signatures');
  const valid =
    isJsonObject(signatures) &&
    Object.values(signatures).every(
      (ofServer) =>
        isJsonObject(ofServer) && Object.values(ofServer).every((text) => typeof text === 'string'),
    );
  return valid ? undefined : 'signatures is not an object of objects of text';
}

const isReferences = (value: JsonValue | undefined, most: number, version: RoomVersion): boolean =>
  Array.isArray(value) &&
  value.length <= most &&
  value.every(version.eventIds === 'stated' ? isIdWithHash : isEventId);

const isEventId = (value: JsonValue | undefined): boolean =>
  typeof value === 'string' && parseEventId(value).ok;

/** The hash is never asked for: the id alone says which event is meant, and Synapse leaves it out at times. */
function isIdWithHash(value: JsonValue): boolean {
  return Array.isArray(value) && value.length === 2 && isJsonObject(value[1]) && isEventId(value[0]);
}
