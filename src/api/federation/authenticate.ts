import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { RequestAuthenticator } from '../../federation/x_matrix.ts';
import { forbidden } from '../../matrix/error.ts';
import { parseRoomId, type RoomId, type ServerName } from '../../matrix/ids.ts';
import type { JsonValue } from '../../matrix/json.ts';

/** What `createApp` calls for requests that no door has proved. */
export function xMatrixAuthentication(
  authenticator: RequestAuthenticator,
): (request: FastifyRequest) => Promise<ServerName> {
  return (request) =>
    authenticator.authenticate({
      method: request.method,
      // As it was in the request line: that is what is signed.
      uri: request.originalUrl,
      content: request.body as JsonValue | undefined,
      authorization: request.headers.authorization,
    });
}

/** Tells, for every authenticated request of a server, that it has spoken. To be called before routes are added. */
export function addServerHook(app: FastifyInstance, peerSpoke: (server: ServerName) => void): void {
  app.addHook('preHandler', async (request) => {
    if (request.routeOptions.config.auth === 'server') peerSpoke(request.origin);
  });
}

/**
 * Refuses another server every route of a room whose access control list denies it (server-server API, "Server Access
 * Control Lists"): 403 M_FORBIDDEN. The specification names fewer routes than there are of rooms; to none of the others
 * has such a server a claim. To be called before routes are added.
 */
export function addAclHook(
  app: FastifyInstance,
  isAllowed: (room: RoomId, server: ServerName) => Promise<boolean>,
): void {
  app.addHook('preHandler', async (request) => {
    if (request.routeOptions.config.auth !== 'server') return;
    const { roomId } = request.params as { readonly roomId?: string };
    const room = roomId === undefined ? undefined : parseRoomId(roomId);
    if (room?.ok && !(await isAllowed(room.value, request.origin)))
      throw forbidden('The access control list of the room denies your server.');
  });
}
