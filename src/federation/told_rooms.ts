import { parseRoomId } from '../matrix/ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../matrix/json.ts';

// Ours.
/** Characters of one text of a summary that are taken. */
const MAX_TEXT = 4_096;
/** Rooms whose members a restricted room admits, that are taken. */
const MAX_ALLOWED_ROOMS = 100;

const TEXTS = ['name', 'topic', 'canonical_alias', 'avatar_url', 'join_rule', 'room_type'] as const;

/** An entry of another server's room directory as clients get it; none where it is not one. */
export function publicRoomIn(value: JsonValue): JsonObject[] {
  const room = isJsonObject(value) ? own(value, 'room_id') : undefined;
  if (!isJsonObject(value) || typeof room !== 'string' || !parseRoomId(room).ok) return [];
  const joined = own(value, 'num_joined_members');
  return [
    {
      room_id: room,
      num_joined_members:
        typeof joined === 'number' && Number.isSafeInteger(joined) ? Math.max(0, joined) : 0,
      world_readable: own(value, 'world_readable') === true,
      guest_can_join: own(value, 'guest_can_join') === true,
      ...textsIn(value, TEXTS),
    },
  ];
}

/** Another server's summary of a room as clients get it; none where it is not one. */
export function roomSummaryIn(value: JsonValue | undefined): JsonObject[] {
  const [entry] = value === undefined ? [] : publicRoomIn(value);
  if (entry === undefined || !isJsonObject(value)) return [];
  const allowed = own(value, 'allowed_room_ids');
  const rooms = (Array.isArray(allowed) ? allowed.slice(0, MAX_ALLOWED_ROOMS) : []).filter(
    (room) => typeof room === 'string' && parseRoomId(room).ok,
  );
  return [
    {
      ...entry,
      ...textsIn(value, ['encryption', 'room_version']),
      ...(rooms.length > 0 && { allowed_room_ids: rooms }),
    },
  ];
}

function textsIn(value: JsonObject, keys: readonly string[]): JsonObject {
  const texts: JsonObject = {};
  for (const key of keys) {
    const text = own(value, key);
    if (typeof text === 'string' && text !== '' && text.length <= MAX_TEXT) texts[key] = text;
  }
  return texts;
}
