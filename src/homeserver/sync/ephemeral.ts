import type { JsonObject } from '../../matrix/json.ts';
import type { Reader } from '../../storage/database.ts';
import { type ReceiptRow, receiptChanges } from '../../storage/receipts.ts';
import { typingChange } from '../../storage/typing.ts';
import { allowsRoom, allowsSender, allowsType, type RoomEventFilter } from '../filter_events.ts';

/** What is told of a room besides its events. */
export interface EphemeralRequest {
  readonly room: string;
  readonly user: string;
  readonly filter: RoomEventFilter;
  readonly ignored: ReadonlySet<string>;
  /** The position up to which the client knows it; null: it knows nothing. */
  readonly since: number | null;
  readonly upTo: number;
}

/** Who types in a room, and its receipts (client-server API, "Typing Notifications", "Receipts"). */
export async function loadEphemeral(reader: Reader, request: EphemeralRequest): Promise<JsonObject[]> {
  const { room, user, filter, ignored, since, upTo } = request;
  if (!allowsRoom(filter, room)) return [];
  const range = { after: since ?? 0, upTo };
  const isTold = (sender: string): boolean => !ignored.has(sender) && allowsSender(filter, sender);
  const events: JsonObject[] = [];
  if (allowsType(filter, 'm.typing')) {
    const typing = await typingChange(reader, room, range);
    // Who knows nothing takes it that nobody types.
    if (typing !== undefined && (since !== null || typing.length > 0))
      events.push({
        type: 'm.typing',
        content: { user_ids: typing.filter(isTold) },
      });
  }
  if (allowsType(filter, 'm.receipt')) {
    const receipts = await receiptChanges(reader, room, user, range);
    events.push(...receiptEvents(receipts.filter(({ user_id }) => isTold(user_id))));
  }
  return events;
}

/**
 * As few events as can hold all: content has one place for each event, type and user, so that of a user's receipts at one
 * event for several threads each goes into another event.
 */
function receiptEvents(receipts: readonly ReceiptRow[]): JsonObject[] {
  const contents: Map<string, Map<string, Map<string, JsonObject>>>[] = [];
  for (const { event_id, type, user_id, ts, thread } of receipts) {
    const isFree = (content: (typeof contents)[number]): boolean =>
      content.get(event_id)?.get(type)?.has(user_id) !== true;
    let content = contents.find(isFree);
    if (content === undefined) {
      content = new Map();
      contents.push(content);
    }
    const types = content.get(event_id) ?? new Map<string, Map<string, JsonObject>>();
    const users = types.get(type) ?? new Map<string, JsonObject>();
    users.set(user_id, { ts, ...(thread === '' ? {} : { thread_id: thread }) });
    content.set(event_id, types.set(type, users));
  }
  return contents.map((content) => ({
    type: 'm.receipt',
    content: Object.fromEntries(
      [...content].map(([event, types]) => [
        event,
        Object.fromEntries([...types].map(([type, users]) => [type, Object.fromEntries(users)])),
      ]),
    ),
  }));
}
