import type { RoomId, UserId } from '../matrix/ids.ts';
import { roomVersion } from '../matrix/room_version.ts';
import { erasedAmong } from '../storage/accounts.ts';
import type { Reader } from '../storage/database.ts';
import { type EventRow, roomRow } from '../storage/sync.ts';
import type { Shown } from './render.ts';
import { redactedCopy } from './rooms/redactions.ts';
import { MembershipHistory } from './sync/membership.ts';

/** Whether an event goes with its sender. Other state stays, without which a room could not be read any more. */
const isErasable = ({ state_key, type }: Pick<EventRow, 'state_key' | 'type'>): boolean =>
  state_key === null || type === 'm.room.member';

/**
 * Events of one room as they are shown to a user: those whose senders have asked for erasure are redacted, unless the user
 * could see them before that ("users which join the room after the erasure request are served redacted copies";
 * client-server API, POST /account/deactivate).
 * @param rows what `shown` was made of, in the same order
 */
export async function withoutErased(
  reader: Reader,
  user: UserId,
  room: RoomId,
  rows: readonly EventRow[],
  shown: readonly Shown[],
): Promise<readonly Shown[]> {
  const senders = rows.filter((row) => isErasable(row) && row.sender !== user).map(({ sender }) => sender);
  const erased = senders.length === 0 ? new Map<string, number>() : await erasedAmong(reader, senders);
  if (erased.size === 0) return shown;
  const found = await roomRow(reader, room);
  const version = roomVersion(found?.version ?? '');
  if (found === undefined || version === undefined) return shown;
  const latest = Math.max(...erased.values());
  const history = await MembershipHistory.load(reader, found.id, user, latest);
  return shown.map((one, at) => {
    const row = rows[at]!;
    const since = erased.get(row.sender);
    if (since === undefined || row.sender === user || !isErasable(row)) return one;
    const sent = row.position ?? 0;
    const sawIt = history.joinedAt(Math.min(sent, since)) || history.joinedWithin(sent, since);
    return sawIt ? one : { ...one, event: redactedCopy(one.event, version) };
  });
}
