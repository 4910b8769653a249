import type { Result } from '../base/result.ts';
import { invalidParam } from '../matrix/error.ts';
import {
  type EventId,
  parseEventId,
  parseRoomId,
  parseUserId,
  type RoomId,
  type UserId,
} from '../matrix/ids.ts';

/** @throws MatrixError M_INVALID_PARAM */
export const roomParameter = (text: string): RoomId => valid('room', parseRoomId(text));

/** @throws MatrixError M_INVALID_PARAM */
export const eventParameter = (text: string): EventId => valid('event', parseEventId(text));

/** @throws MatrixError M_INVALID_PARAM */
export const userParameter = (text: string): UserId => valid('user', parseUserId(text));

function valid<Id>(kind: string, id: Result<Id>): Id {
  if (!id.ok) throw invalidParam(`The ${kind} id is not valid: ${id.problem}.`);
  return id.value;
}
