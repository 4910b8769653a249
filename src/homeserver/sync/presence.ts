import type { JsonObject } from '../../matrix/json.ts';
import type { Reader } from '../../storage/database.ts';
import { type PresenceRow, presenceChanges, presenceInRoom } from '../../storage/presence.ts';
import type { SyncRoomRow } from '../../storage/sync.ts';
import { allowsSender, allowsType, type SyncFilter } from '../filter_events.ts';
import type { Presence } from '../presence.ts';

/** Whose presence is asked for, and what they know. */
export interface PresenceRequest {
  readonly user: string;
  /** Undefined on a first sync. */
  readonly since: number | undefined;
  readonly now: number;
  readonly filter: SyncFilter;
  readonly ignored: ReadonlySet<string>;
}

/**
 * The presence of those who share a room with a user (client-server API, "Presence"): where it has changed, and of those who
 * have come into one of the rooms since, or into whose rooms the user has come.
 */
export async function loadPresence(
  reader: Reader,
  presence: Presence,
  rooms: readonly SyncRoomRow[],
  { user, since, now, filter, ignored }: PresenceRequest,
): Promise<JsonObject[]> {
  if (!presence.enabled || !allowsType(filter.presence, 'm.presence')) return [];
  const told = new Map<string, PresenceRow>();
  for (const row of await presenceChanges(reader, user, { after: since ?? 0, upTo: now })) {
    // Who has never been told of somebody takes them to be offline.
    if (since !== undefined || row.presence !== 'offline' || row.status_msg !== null)
      told.set(row.user_id, row);
  }
  for (const room of since === undefined ? [] : rooms) {
    const isNew = room.position > since!;
    if (room.membership !== 'join' || (!isNew && (room.last_change ?? 0) <= since!)) continue;
    const range = { joinedAfter: isNew ? 0 : since!, upTo: now };
    for (const row of await presenceInRoom(reader, room.room_id, range)) told.set(row.user_id, row);
  }
  told.delete(user);
  return [...told.values()]
    .filter(({ user_id }) => !ignored.has(user_id) && allowsSender(filter.presence, user_id))
    .map((row) => presence.event(row));
}
