import { isJsonObject, type JsonObject, type JsonValue, own } from '../matrix/json.ts';

/** Whether an answer of /sync tells anything but its position: a room, or an entry of some list. */
export function hasNews(answer: JsonObject): boolean {
  const rooms = own(answer, 'rooms');
  const kinds = isJsonObject(rooms) ? Object.values(rooms) : [];
  return (
    kinds.some((kind) => isJsonObject(kind) && Object.keys(kind).length > 0) ||
    Object.entries(answer).some(([key, value]) => key !== 'rooms' && hasEntry(value))
  );
}

function hasEntry(value: JsonValue): boolean {
  if (Array.isArray(value)) return value.length > 0;
  return isJsonObject(value) && Object.values(value).some(hasEntry);
}
