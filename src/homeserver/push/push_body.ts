import type { RoomId, UserId } from '../../matrix/ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, own, parseJson } from '../../matrix/json.ts';
import type { Pdu } from '../../matrix/pdu.ts';
import type { Reader } from '../../storage/database.ts';
import { displayNameIn } from '../../storage/memberships.ts';
import { type NotificationRow, notifiedEvent } from '../../storage/push_notifications.ts';
import type { PusherRow } from '../../storage/pushers.ts';
import { currentStateEvent } from '../../storage/state.ts';
import { tweaksOf } from './ruling.ts';

/**
 * The body of a request to a push gateway (push gateway API, POST /_matrix/push/v1/notify) that tells a count, and no event.
 * @param unread how much the user has not read
 */
export function badgeBody(pusher: PusherRow, unread: number): JsonObject {
  return { notification: { counts: countsOf(unread), devices: [deviceOf(pusher, undefined)] } };
}

/** The same about an event; undefined where that is not here any more. */
export async function eventBody(
  reader: Reader,
  pusher: PusherRow,
  { position, room, actions }: NotificationRow,
  unread: number,
): Promise<JsonObject | undefined> {
  const { user } = pusher;
  const found = await notifiedEvent(reader, user, room, position);
  if (found === undefined) return undefined;
  const pdu = parseJson(found.json) as unknown as Pdu;
  const tweaks = tweaksOf(JSON.parse(actions) as JsonValue[]);
  const about =
    own(dataOf(pusher), 'format') === 'event_id_only' ? {} : await descriptionOf(reader, user, room, pdu);
  return {
    notification: {
      ...{ event_id: found.event_id, room_id: room, ...about },
      prio: isUrgent(pdu, tweaks) ? 'high' : 'low',
      counts: countsOf(unread),
      devices: [deviceOf(pusher, tweaks)],
    },
  };
}

/** What can be read only by those who can decrypt it may be anything. */
const isUrgent = ({ type }: Pdu, tweaks: JsonObject): boolean =>
  type === 'm.room.encrypted' || tweaks.highlight === true || tweaks.sound !== undefined;

async function descriptionOf(reader: Reader, user: UserId, room: RoomId, pdu: Pdu): Promise<JsonObject> {
  const { type, sender, content } = pdu;
  const name = await displayNameIn(reader, room, sender);
  const textAt = async (place: string, key: string): Promise<string | undefined> => {
    const event = await currentStateEvent(reader, room, place, '');
    const value = event && own(event.pdu.content, key);
    return typeof value === 'string' && value !== '' ? value : undefined;
  };
  const roomName = await textAt('m.room.name', 'name');
  const alias = await textAt('m.room.canonical_alias', 'alias');
  return {
    ...{ type, sender, content },
    ...(name !== undefined && { sender_display_name: name }),
    ...(roomName !== undefined && { room_name: roomName }),
    ...(alias !== undefined && { room_alias: alias }),
    ...(type === 'm.room.member' && { user_is_target: pdu.state_key === user }),
  };
}

const countsOf = (unread: number): JsonObject => (unread === 0 ? {} : { unread });

function deviceOf(pusher: PusherRow, tweaks: JsonObject | undefined): JsonObject {
  const { url: _, ...data } = dataOf(pusher);
  return {
    ...{
      app_id: pusher.appId,
      pushkey: pusher.pushkey,
      pushkey_ts: Math.floor(pusher.pushkeyTs / 1000),
      data,
    },
    ...(tweaks !== undefined && { tweaks }),
  };
}

/** What the client has given for the gateway. */
function dataOf({ content }: PusherRow): JsonObject {
  const data = own(JSON.parse(content) as JsonObject, 'data');
  return isJsonObject(data) ? data : {};
}

/** Where a pusher's gateway is. */
export const gatewayOf = (pusher: PusherRow): string => String(own(dataOf(pusher), 'url'));
