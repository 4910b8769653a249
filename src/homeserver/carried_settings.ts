import { MatrixError } from '../matrix/error.ts';
import type { RoomId, UserId } from '../matrix/ids.ts';
import { isJsonObject, own } from '../matrix/json.ts';
import type { AccountData } from './account_data.ts';
import type { PushRules } from './push/push_rules.ts';
import type { RoomQueries } from './rooms/queries.ts';

/**
 * Takes a user's tags of a room, and their push rules about it, over to the room that replaces it, when they come into that
 * one (client-server API, "Room Upgrades", the last paragraph). Only where the old room says that it is replaced so: anybody can make a room that calls
 * another one its predecessor. What the user has tagged there already stays.
 */
export async function carrySettings(
  user: UserId,
  room: RoomId,
  services: {
    readonly queries: Pick<RoomQueries, 'currentEvent'>;
    readonly accountData: Pick<AccountData, 'tags' | 'putTag'>;
    readonly pushRules: Pick<PushRules, 'carry'>;
  },
): Promise<void> {
  const { queries, accountData, pushRules } = services;
  const create = await queries.currentEvent(room, 'm.room.create', '');
  const predecessor = create && own(create.pdu.content, 'predecessor');
  const old = isJsonObject(predecessor) ? own(predecessor, 'room_id') : undefined;
  if (typeof old !== 'string') return;
  const tombstone = await queries.currentEvent(old as RoomId, 'm.room.tombstone', '');
  if (tombstone === undefined || own(tombstone.pdu.content, 'replacement_room') !== room) return;
  try {
    await pushRules.carry(user, old as RoomId, room);
    if (Object.keys(await accountData.tags(user, room)).length > 0) return;
    for (const [tag, content] of Object.entries(await accountData.tags(user, old as RoomId))) {
      if (isJsonObject(content)) await accountData.putTag(user, room, tag, content);
    }
  } catch (error) {
    // Whoever has no room for more comes in all the same.
    if (!(error instanceof MatrixError)) throw error;
  }
}
