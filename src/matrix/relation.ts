import { type EventId, fitsIdLimit } from './ids.ts';
import { isJsonObject, type JsonObject, own } from './json.ts';

/** How an event relates to another one of its room (client-server API, "Forming relationships between events"). */
export interface Relation {
  /** As the event says: it need not be known, nor be an event id. */
  readonly parent: EventId;
  /** `rel_type`, such as "m.thread". */
  readonly type: string;
}

/** The relation in an event's content. Rich replies alone are none. */
export function relationOf(content: JsonObject): Relation | undefined {
  const relates = own(content, 'm.relates_to');
  if (!isJsonObject(relates)) return undefined;
  const parent = own(relates, 'event_id');
  const type = own(relates, 'rel_type');
  return isShort(parent) && isShort(type) ? { parent: parent as EventId, type } : undefined;
}

const isShort = (value: unknown): value is string => typeof value === 'string' && fitsIdLimit(value);
