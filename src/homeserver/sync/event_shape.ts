import { isJsonObject, type JsonObject, type JsonValue, own, parseJson } from '../../matrix/json.ts';
import type { EventRow } from '../../storage/sync.ts';
import type { SyncFilter } from '../filter_events.ts';

/** Shown events as a filter's `event_format` and `event_fields` want them (client-server API, "Filtering"). */
export function shaped(
  shown: readonly JsonObject[],
  rows: readonly EventRow[],
  { eventFormat, eventFields }: Pick<SyncFilter, 'eventFormat' | 'eventFields'>,
): readonly JsonObject[] {
  const events = eventFormat === 'client' ? shown : shown.map((event, at) => federated(event, rows[at]!));
  return eventFields === undefined ? events : events.map((event) => cutDown(event, eventFields));
}

/** The raw event, with its id and what this server adds. */
function federated({ unsigned }: JsonObject, { event_id, json }: EventRow): JsonObject {
  return {
    ...(parseJson(json) as JsonObject),
    event_id,
    ...(unsigned === undefined ? {} : { unsigned }),
  };
}

function cutDown(event: JsonObject, fields: readonly (readonly string[])[]): JsonObject {
  const kept: JsonObject = {};
  for (const path of fields) {
    let from: JsonValue | undefined = event;
    for (const key of path) from = isJsonObject(from) ? own(from, key) : undefined;
    if (from !== undefined) put(kept, path, from);
  }
  return kept;
}

function put(kept: JsonObject, path: readonly string[], value: JsonValue): void {
  let at = kept;
  for (const key of path.slice(0, -1)) {
    const inner = own(at, key);
    const next: JsonObject = isJsonObject(inner) ? inner : {};
    define(at, key, next);
    at = next;
  }
  define(at, path.at(-1)!, value);
}

/** Also where the key is one that assignment takes for the prototype. */
function define(object: JsonObject, key: string, value: JsonValue): void {
  Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
}
