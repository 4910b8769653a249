import type { FastifyRequest } from 'fastify';
import type { Directory } from '../../homeserver/directory.ts';
import type { ResolvedAlias } from '../../homeserver/ports.ts';
import { aliasParameter, roomParameter } from '../parameters.ts';

/** `preValidation` of routes whose body may be left out. */
export async function emptyBody(request: FastifyRequest): Promise<void> {
  request.body ??= {};
}

/** Why somebody joins, leaves, or is made to. */
export const REASON = { type: 'string', maxLength: 65_536 } as const;

/**
 * The room that a path names by its id or by an alias, and the servers that the alias leads to.
 * @throws MatrixError M_INVALID_PARAM, M_NOT_FOUND, or as the alias's server answered
 */
export async function roomOf(
  roomIdOrAlias: string,
  directory: Pick<Directory, 'resolve'>,
): Promise<ResolvedAlias> {
  if (roomIdOrAlias.startsWith('#')) return directory.resolve(aliasParameter(roomIdOrAlias));
  return { room: roomParameter(roomIdOrAlias), servers: [] };
}
