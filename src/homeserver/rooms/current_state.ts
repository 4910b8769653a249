import type { RoomId, UserId } from '../../matrix/ids.ts';
import type { Event } from '../../matrix/pdu.ts';
import { powerLevels } from '../../matrix/power_levels.ts';
import { type RoomVersion, roomVersion } from '../../matrix/room_version.ts';
import type { Reader } from '../../storage/database.ts';
import { membershipOf } from '../../storage/memberships.ts';
import { findRoom } from '../../storage/rooms.ts';
import type { RoomState } from './room_state.ts';
import type { RoomWriter } from './room_writer.ts';

/** A room as it is now, without its lock. */
export interface RoomNow {
  readonly version: RoomVersion;
  readonly state: RoomState;
  /** The event that holds a place. */
  event(type: string, key?: string): Promise<Event | undefined>;
}

/** The current state of a room, or undefined where this server never was in it. */
export async function roomNow(db: Reader, writer: RoomWriter, room: RoomId): Promise<RoomNow | undefined> {
  const found = await findRoom(db, room);
  const version = found && roomVersion(found.version);
  if (found?.currentGroup == null || version === undefined) return undefined;
  const state = await writer.states.load(found.currentGroup);
  return {
    version,
    state,
    async event(type, key = '') {
      const id = state.get(type, key);
      return id === undefined ? undefined : (await writer.events.get(id))?.event;
    },
  };
}

/** Whether a user is joined to a room and has the power for state events of a type. */
export async function maySetState(
  db: Reader,
  now: RoomNow,
  room: RoomId,
  user: UserId,
  type: string,
): Promise<boolean> {
  if ((await membershipOf(db, room, user))?.membership !== 'join') return false;
  const levels = powerLevels(
    await now.event('m.room.create'),
    await now.event('m.room.power_levels'),
    now.version,
  );
  return levels.user(user) >= levels.event(type, true);
}
