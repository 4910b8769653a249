import { isJsonObject, type JsonObject, own } from '../matrix/json.ts';
import type { Reader } from '../storage/database.ts';
import { timelineEvent } from '../storage/sync.ts';
import { contentOf } from './sync/membership.ts';

/** Client-server API, "Threaded read receipts": relations followed from an event to the root of its thread. */
const MAX_HOPS = 3;
/** Of an event's id. */
const MAX_ID_LENGTH = 255;

/**
 * The root of the thread that an event is in, by its own relation or by those of the events that it hangs on; undefined: it
 * is in none.
 * @param room the room's row
 */
export async function threadRoot(
  reader: Reader,
  room: number,
  content: JsonObject,
): Promise<string | undefined> {
  let at: JsonObject | undefined = content;
  for (let hops = 0; at !== undefined && hops <= MAX_HOPS; hops++) {
    const relation = own(at, 'm.relates_to');
    if (!isJsonObject(relation)) return undefined;
    const target = own(relation, 'event_id');
    if (typeof target !== 'string' || target.length > MAX_ID_LENGTH) return undefined;
    if (own(relation, 'rel_type') === 'm.thread') return target;
    if (own(relation, 'rel_type') === undefined) return undefined;
    const row = await timelineEvent(reader, room, target);
    at = row && contentOf(row.json);
  }
  return undefined;
}
