import type { FastifyRequest } from 'fastify';
import type { Result } from '../../base/result.ts';
import { invalidParam } from '../../matrix/error.ts';
import {
  type EventId,
  parseEventId,
  parseRoomId,
  parseUserId,
  type RoomId,
  type UserId,
} from '../../matrix/ids.ts';

/** The identifier that a text is. @throws MatrixError M_INVALID_PARAM */
function parsed<Id>(result: Result<Id>): Id {
  if (!result.ok) throw invalidParam(`This cannot be: ${result.problem}.`);
  return result.value;
}

export const roomIdOf = (text: string): RoomId => parsed(parseRoomId(text));
export const userIdOf = (text: string): UserId => parsed(parseUserId(text));
export const eventIdOf = (text: string): EventId => parsed(parseEventId(text));

/** `preValidation` of routes whose body may be left out. */
export async function emptyBody(request: FastifyRequest): Promise<void> {
  request.body ??= {};
}

/** Why somebody joins, leaves, or is made to. */
export const REASON = { type: 'string', maxLength: 65_536 } as const;
