import type { Result } from '../base/result.ts';
import { invalidParam } from '../matrix/error.ts';
import {
  type EventId,
  parseEventId,
  parseRoomAlias,
  parseRoomId,
  parseServerName,
  parseUserId,
  type RoomAlias,
  type RoomId,
  type ServerName,
  type UserId,
} from '../matrix/ids.ts';

/** @throws MatrixError M_INVALID_PARAM */
export const roomParameter = (text: string): RoomId => valid('room id', parseRoomId(text));

/** @throws MatrixError M_INVALID_PARAM */
export const eventParameter = (text: string): EventId => valid('event id', parseEventId(text));

/** @throws MatrixError M_INVALID_PARAM */
export const aliasParameter = (text: string): RoomAlias => valid('room alias', parseRoomAlias(text));

/** @throws MatrixError M_INVALID_PARAM */
export const userParameter = (text: string): UserId => valid('user id', parseUserId(text));

/** @throws MatrixError M_INVALID_PARAM */
export const serverParameter = (text: string): ServerName => valid('server name', parseServerName(text));

function valid<Id>(kind: string, id: Result<Id>): Id {
  if (!id.ok) throw invalidParam(`The ${kind} is not valid: ${id.problem}.`);
  return id.value;
}
