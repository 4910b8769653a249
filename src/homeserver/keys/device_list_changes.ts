import type { Reader } from '../../storage/database.ts';
import {
  changedDeviceLists,
  changedMembers,
  joinedTo,
  memberChanges,
  membershipAt,
  type PositionRange,
  sharedRooms,
  sharers,
} from '../../storage/device_lists.ts';
import type { SyncRoomRow } from '../../storage/sync.ts';

/** How closely it is looked at who was where. Past that, users are told of though they need not be. */
export interface LookLimits {
  /** Changes of one room's members that are followed one by one. */
  readonly changes: number;
  /** Users of whom it is looked up whether they share other rooms. */
  readonly users: number;
}
const LIMITS: LookLimits = { changes: 2_000, users: 200 };

/** Users by id, each once. */
export interface DeviceListChanges {
  readonly changed: readonly string[];
  readonly left: readonly string[];
}

/** How somebody was in a room from the beginning of a range to its end. */
interface Stay {
  readonly atStart: boolean;
  readonly atEnd: boolean;
  /** Joined all along. */
  readonly isSteady: boolean;
}

/**
 * Whose keys a user has to ask for again, having known everything up to a position: those that have changed, and of those
 * with whom the user has shared no room at some time since and does now, of whose changes they have not been told; and with
 * whom they share no room any more (client-server API, "Tracking the device list for a user").
 * @param rooms all rooms of the user
 */
export async function deviceListChanges(
  reader: Reader,
  rooms: readonly SyncRoomRow[],
  { viewer, after, upTo }: PositionRange & { readonly viewer: string },
  limits = LIMITS,
): Promise<DeviceListChanges> {
  const changed = new Set(await changedDeviceLists(reader, viewer, { after, upTo }));
  const met = new Set<string>();
  const parted = new Set<string>();
  /** By room id: who was not in it all along, of the rooms that the viewer was in all along. */
  const unsteady = new Map<string, ReadonlySet<string>>();
  for (const { room, room_id, membership, last_change } of rooms) {
    if (room === null) continue;
    const hasChanged = (last_change ?? 0) > after;
    const stays: ReadonlyMap<string, Stay> = hasChanged
      ? await staysIn(reader, { row: room, id: room_id }, { after, upTo }, limits)
      : new Map();
    const own = stays.get(viewer) ?? steady(membership === 'join');
    if (own.isSteady) unsteady.set(room_id, newcomers(stays));
    if (!hasChanged || (!own.atStart && !own.atEnd)) continue;
    if (own.atEnd && !own.isSteady) for (const user of await joinedTo(reader, room_id)) met.add(user);
    if (own.isSteady) for (const user of newcomers(stays)) met.add(user);
    if (!own.atStart) continue;
    if (!own.atEnd)
      for (const user of await joinedTo(reader, room_id))
        if (stays.get(user)?.atStart !== false) parted.add(user);
    for (const [user, { atStart, atEnd }] of stays) if (atStart && !atEnd) parted.add(user);
  }
  met.delete(viewer);
  parted.delete(viewer);
  const looksUp = met.size <= limits.users;
  for (const user of met) {
    if (changed.has(user)) continue;
    const shared = looksUp ? await sharedRooms(reader, viewer, user) : [];
    if (!shared.some((room) => unsteady.get(room)?.has(user) === false)) changed.add(user);
  }
  const left: string[] = [];
  const near = parted.size > limits.users ? await sharers(reader, viewer) : undefined;
  for (const user of parted) {
    const shares = near?.has(user) ?? (await sharedRooms(reader, viewer, user)).length > 0;
    if (!shares) left.push(user);
  }
  return { changed: [...changed].sort(), left: left.sort() };
}

const steady = (isJoined: boolean): Stay => ({ atStart: isJoined, atEnd: isJoined, isSteady: isJoined });

/** Those who are in the room, and were not at some time. */
const newcomers = (stays: ReadonlyMap<string, Stay>): Set<string> =>
  new Set([...stays].flatMap(([user, { atEnd, isSteady }]) => (atEnd && !isSteady ? [user] : [])));

/** Of everybody whose member event changed in the range. */
async function staysIn(
  reader: Reader,
  room: { readonly row: number; readonly id: string },
  range: PositionRange,
  limits: LookLimits,
): Promise<Map<string, Stay>> {
  const changes = await memberChanges(reader, room.row, range, limits.changes + 1);
  if (changes.length > limits.changes) return roughStays(reader, room.id, range);
  const memberships = new Map<string, (string | null)[]>();
  for (const { user, membership } of changes) {
    const known = memberships.get(user);
    if (known === undefined) memberships.set(user, [membership]);
    else known.push(membership);
  }
  const stays = new Map<string, Stay>();
  for (const [user, later] of memberships) {
    const before = await membershipAt(reader, room.row, user, range.after);
    const atStart = before === undefined ? mayHaveBeenJoined(later[0]) : before.membership === 'join';
    stays.set(user, {
      atStart,
      atEnd: later.at(-1) === 'join',
      isSteady: atStart && later.every((membership) => membership === 'join'),
    });
  }
  return stays;
}

/** The same by what they are now alone: as if all of them had left and come back. */
async function roughStays(
  reader: Reader,
  room: string,
  { after }: PositionRange,
): Promise<Map<string, Stay>> {
  const changes = await changedMembers(reader, room, after);
  return new Map(
    changes.map(({ user, membership }) => [
      user,
      { atStart: true, atEnd: membership === 'join', isSteady: false },
    ]),
  );
}

/** Whether somebody may have been joined of whom a purge has left nothing before what they became next. */
const mayHaveBeenJoined = (next: string | null | undefined): boolean => next === 'leave' || next === null;
