import { invalidParam } from '../../matrix/error.ts';
import {
  type EventId,
  parseEventId,
  parseRoomId,
  parseUserId,
  type RoomId,
  type UserId,
} from '../../matrix/ids.ts';

/** @throws MatrixError M_INVALID_PARAM */
export function roomParameter(text: string): RoomId {
  const room = parseRoomId(text);
  if (!room.ok) throw invalidParam(`The room id is not valid: ${room.problem}.`);
  return room.value;
}

/** @throws MatrixError M_INVALID_PARAM */
export function eventParameter(text: string): EventId {
  const event = parseEventId(text);
  if (!event.ok) throw invalidParam(`The event id is not valid: ${event.problem}.`);
  return event.value;
}

/** @throws MatrixError M_INVALID_PARAM */
export function userParameter(text: string): UserId {
  const user = parseUserId(text);
  if (!user.ok) throw invalidParam(`The user id is not valid: ${user.problem}.`);
  return user.value;
}
