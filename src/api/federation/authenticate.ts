import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { RequestAuthenticator } from '../../federation/x_matrix.ts';
import type { ServerName } from '../../matrix/ids.ts';
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
