import { bad, ok, type Result } from '../../base/result.ts';
import { writeInnerPdu } from '../../compact/pdu/compact.ts';
import { PduHistory } from '../../compact/pdu/history.ts';
import { readInnerPdu, understandPdu } from '../../compact/pdu/restore.ts';
import type { CompactReader } from '../../compact/value_reader.ts';
import type { CompactWriter } from '../../compact/value_writer.ts';
import { parsePdu } from '../../matrix/event_format.ts';
import { parseRoomId, type RoomId } from '../../matrix/ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, numberOf, own } from '../../matrix/json.ts';
import { type RoomVersion, roomVersion } from '../../matrix/room_version.ts';

// Answers that are lists of events of one room in their short form:
//
//   body  = version, [room], lists, [rest]   digits; a name, unless the path has the room
//   list  = varint how many, events          each ends itself
//   rest  = a map                            the answer's other fields, where there are some
//
// Each event is read by those in front of it, as if the next was built on the last. So a list goes in the order of depth.

/** What the lists of an answer are called, and which other fields of it are not told. */
export interface EventLists {
  readonly names: readonly string[];
  readonly untold: readonly string[];
}

/** Events in one answer: the state of a large room and its auth chain. */
const MAX_EVENTS = 40_000;

/** Writes an answer for which `hasEventLists` holds. */
export function writeEventLists(
  writer: CompactWriter,
  answer: JsonObject,
  lists: EventLists,
  { version, room, isRoomTold }: { version: RoomVersion; room: RoomId; isRoomTold: boolean },
): void {
  const history = new PduHistory({ version, room });
  writer.digits(version.id);
  if (isRoomTold) writer.named(room, 'room');
  for (const name of lists.names) {
    const pdus = objectsIn(answer, name) ?? [];
    writer.varint(pdus.length);
    for (const pdu of pdus.toSorted((a, b) => depthOf(a) - depthOf(b))) {
      writeInnerPdu(writer, pdu, { view: history, isLast: false });
      learn(history, pdu, version);
    }
  }
  const rest = Object.entries(answer).filter(
    ([key]) => !lists.names.includes(key) && !lists.untold.includes(key),
  );
  if (rest.length > 0) writer.value(Object.fromEntries(rest));
}

/** Whether the answer has its lists, and only objects in them. */
export const hasEventLists = (answer: JsonValue, { names }: EventLists): answer is JsonObject =>
  isJsonObject(answer) && names.every((name) => objectsIn(answer, name) !== undefined);

/** The room of the first event that says one. */
export function roomOfLists(answer: JsonObject, { names }: EventLists): RoomId | undefined {
  for (const name of names) {
    for (const pdu of objectsIn(answer, name) ?? []) {
      const room = own(pdu, 'room_id');
      const parsed = typeof room === 'string' ? parseRoomId(room) : undefined;
      if (parsed?.ok) return parsed.value;
    }
  }
  return undefined;
}

/** Reads what `writeEventLists` wrote. @param pathRoom the room that the path has */
export function readEventLists(
  reader: CompactReader,
  lists: EventLists,
  pathRoom: string | undefined,
): Result<JsonObject> {
  const version = roomVersion(reader.digits() ?? '');
  const room = parseRoomId(pathRoom ?? reader.named('room') ?? '');
  if (version === undefined || !room.ok) return bad('no room of a version that is known here');
  const history = new PduHistory({ version, room: room.value });
  const answer: JsonObject = {};
  let left = MAX_EVENTS;
  for (const name of lists.names) {
    const count = reader.varint() ?? Number.POSITIVE_INFINITY;
    left -= count;
    if (left < 0) return bad('too many events');
    const pdus: JsonObject[] = [];
    while (pdus.length < count) {
      const read = readInnerPdu(reader, version, false);
      const restored = read.ok ? understandPdu(read.value, history) : read;
      if (!restored.ok) return bad(`an event cannot be read: ${restored.problem.kind}`);
      pdus.push(restored.value.pdu);
      learn(history, restored.value.pdu, version);
    }
    answer[name] = pdus;
  }
  const rest = reader.atEnd ? {} : reader.value();
  if (!isJsonObject(rest) || !reader.atEnd) return bad('trailing bytes');
  return ok({ ...rest, ...answer });
}

function learn(history: PduHistory, pdu: JsonObject, version: RoomVersion): void {
  if (parsePdu(pdu, version).ok) history.add(pdu);
}

function objectsIn(answer: JsonObject, name: string): JsonObject[] | undefined {
  const list = own(answer, name);
  return Array.isArray(list) && list.every(isJsonObject) ? list : undefined;
}

const depthOf = (pdu: JsonObject): number => numberOf(own(pdu, 'depth')) || 0;
