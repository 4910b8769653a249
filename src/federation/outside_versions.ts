import type { RoomId } from '../matrix/ids.ts';
import { isJsonObject, type JsonValue, own, parseJson } from '../matrix/json.ts';
import { ROOM_VERSIONS } from '../matrix/room_version.ts';
import type { Reader } from '../storage/database.ts';
import { joinAttemptVersion } from '../storage/join_attempts.ts';
import { inviteStateOf } from '../storage/memberships.ts';

/**
 * The versions that a room may have which this server is not in, by the join that is under way, by the state that came
 * with an invite, or else by the form of an event of it. At least one.
 */
export async function versionsOutside(db: Reader, room: RoomId, pdu: JsonValue): Promise<readonly string[]> {
  const told = (await joinAttemptVersion(db, room)) ?? versionIn(await inviteStateOf(db, room));
  if (told !== undefined && ROOM_VERSIONS.has(told)) return [told];
  const isStated = isJsonObject(pdu) && own(pdu, 'event_id') !== undefined;
  return [...ROOM_VERSIONS.values()]
    .filter(({ eventIds, roomIsCreateEvent }) =>
      room.includes(':') ? !roomIsCreateEvent && (eventIds === 'stated') === isStated : roomIsCreateEvent,
    )
    .map(({ id }) => id);
}

/** What the create event of an invite's state says; versions before 1.16 of the specification may leave it out. */
function versionIn(inviteState: string | undefined): string | undefined {
  const events = inviteState === undefined ? [] : parseJson(inviteState);
  for (const event of Array.isArray(events) ? events : []) {
    if (!isJsonObject(event) || own(event, 'type') !== 'm.room.create') continue;
    const content = own(event, 'content');
    const version = isJsonObject(content) ? (own(content, 'room_version') ?? '1') : undefined;
    if (typeof version === 'string') return version;
  }
  return undefined;
}
