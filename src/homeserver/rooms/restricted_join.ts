import { forbidden, MatrixError } from '../../matrix/error.ts';
import type { RoomId, ServerName, UserId } from '../../matrix/ids.ts';
import { isJsonObject, own } from '../../matrix/json.ts';
import { powerLevels } from '../../matrix/power_levels.ts';
import type { Reader } from '../../storage/database.ts';
import { isServerJoined, joinedUsers, membershipOf } from '../../storage/memberships.ts';
import type { RoomDraft } from './room_draft.ts';

/** How many conditions of a join rule are looked at. */
const MAX_CONDITIONS = 100;

/**
 * Who of this server vouches for a user that joins a restricted room (client-server API, "Restricted rooms"), to go
 * into `join_authorised_via_users_server`; undefined where the user needs nobody.
 * @throws MatrixError M_FORBIDDEN where the user fulfils no condition, M_UNABLE_TO_AUTHORISE_JOIN where this server
 *   cannot tell, M_UNABLE_TO_GRANT_JOIN where it has nobody who may invite
 */
export async function authorisingUser(
  db: Reader,
  draft: RoomDraft,
  user: UserId,
  serverName: ServerName,
): Promise<UserId | undefined> {
  const rules = (await draft.currentEvent('m.room.join_rules', ''))?.pdu.content ?? {};
  const rule = own(rules, 'join_rule');
  if (rule !== 'restricted' && rule !== 'knock_restricted') return undefined;
  const member = (await draft.currentEvent('m.room.member', user))?.pdu.content.membership;
  if (member === 'invite' || member === 'join') return undefined;

  await checkConditions(db, own(rules, 'allow'), user, serverName);
  const levels = powerLevels(
    draft.create,
    await draft.currentEvent('m.room.power_levels', ''),
    draft.version,
  );
  const inviters = (await joinedUsers(db, draft.room, serverName)).filter(
    (local) => levels.user(local) >= levels.invite,
  );
  if (inviters[0] === undefined) {
    throw new MatrixError(400, 'M_UNABLE_TO_GRANT_JOIN', 'This server cannot let anybody into the room');
  }
  return inviters[0];
}

async function checkConditions(
  db: Reader,
  allow: unknown,
  user: UserId,
  serverName: ServerName,
): Promise<void> {
  const rooms = (Array.isArray(allow) ? allow.slice(0, MAX_CONDITIONS) : []).flatMap((condition) => {
    if (!isJsonObject(condition) || own(condition, 'type') !== 'm.room_membership') return [];
    const room = own(condition, 'room_id');
    return typeof room === 'string' ? [room as RoomId] : [];
  });
  let known = 0;
  for (const room of rooms) {
    if (!(await isServerJoined(db, room, serverName))) continue;
    known++;
    if ((await membershipOf(db, room, user))?.membership === 'join') return;
  }
  if (known < rooms.length) {
    throw new MatrixError(
      400,
      'M_UNABLE_TO_AUTHORISE_JOIN',
      'This server cannot tell whether the user may join',
    );
  }
  throw forbidden('The user is in none of the rooms whose members may join');
}
