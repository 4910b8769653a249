import type { ReceivedReceipt } from '../../homeserver/receipts.ts';
import { parseEventId, parseRoomId, type RoomId } from '../../matrix/ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../../matrix/json.ts';
import type { QueuedReceipt } from '../../storage/outbox_receipts.ts';
import { userOf } from './parts.ts';

// Server-server API, "Receipts": { room: { 'm.read': { user: { data: { ts, thread_id }, event_ids: [event] } } } }. One EDU has one
// receipt of each user in a room, so that those of several threads take several.

export const RECEIPT = 'm.receipt';

/** The EDUs that tell these receipts, as few as will do. */
export function receiptEdus(receipts: readonly QueuedReceipt[]): readonly JsonObject[] {
  const contents: Map<RoomId, Map<string, JsonObject>>[] = [];
  for (const { room, user, thread, event, ts } of receipts) {
    let content = contents.find((each) => each.get(room)?.has(user) !== true);
    if (content === undefined) {
      content = new Map();
      contents.push(content);
    }
    const users = content.get(room) ?? new Map<string, JsonObject>();
    content.set(room, users);
    const data: JsonObject = thread === '' ? { ts } : { ts, thread_id: thread };
    users.set(user, { data, event_ids: [event] });
  }
  return contents.map((content) => ({
    edu_type: RECEIPT,
    content: Object.fromEntries(
      [...content].map(([room, users]) => [room, { 'm.read': Object.fromEntries(users) }]),
    ),
  }));
}

/** The receipts in an EDU of another server that are its own users'; what is malformed is left out. */
export function* receiptsIn(
  origin: string,
  content: JsonObject,
): Generator<{ readonly room: RoomId; readonly receipt: ReceivedReceipt }> {
  for (const [roomId, types] of Object.entries(content)) {
    const room = parseRoomId(roomId);
    const users = room.ok && isJsonObject(types) ? own(types, 'm.read') : undefined;
    if (!room.ok || !isJsonObject(users)) continue;
    for (const [userId, given] of Object.entries(users)) {
      const receipt = receiptOf(origin, userId, given);
      if (receipt !== undefined) yield { room: room.value, receipt };
    }
  }
}

function receiptOf(origin: string, userId: string, given: JsonValue): ReceivedReceipt | undefined {
  const user = userOf(origin, userId);
  if (user === undefined || !isJsonObject(given)) return undefined;
  const [data, events] = [own(given, 'data'), own(given, 'event_ids')];
  const last = Array.isArray(events) ? events.at(-1) : undefined;
  const event = typeof last === 'string' ? parseEventId(last) : undefined;
  if (event?.ok !== true || !isJsonObject(data)) return undefined;
  const [ts, threadId] = [own(data, 'ts'), own(data, 'thread_id')];
  if (typeof ts !== 'number' || !Number.isSafeInteger(ts) || ts < 0) return undefined;
  if (threadId !== undefined && typeof threadId !== 'string') return undefined;
  return { user, event: event.value, ts, threadId };
}
