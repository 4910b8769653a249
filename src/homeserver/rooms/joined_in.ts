import { type EventId, parseUserId, type ServerName, serverOf } from '../../matrix/ids.ts';
import { splitStateKey } from '../../matrix/pdu.ts';
import type { RoomState } from './room_state.ts';
import type { EventSource } from './verdict.ts';

/** The memberships that users of a server have by a state. */
export async function membershipsIn(
  state: RoomState,
  server: ServerName,
  events: EventSource,
): Promise<ReadonlySet<string>> {
  const members: EventId[] = [];
  for (const [place, id] of state.map) {
    const { type, key } = splitStateKey(place);
    if (type !== 'm.room.member') continue;
    const user = parseUserId(key);
    if (user.ok && serverOf(user.value) === server) members.push(id);
  }
  const found = await events.find(members);
  return new Set([...found.values()].map(({ event }) => String(event.pdu.content.membership)));
}
