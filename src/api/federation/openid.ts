import type { FastifyInstance } from 'fastify';
import type { OpenId } from '../../homeserver/openid.ts';
import { MatrixError } from '../../matrix/error.ts';

/** Server-server API, "OpenID": whoever holds the token may ask, server or not. */
export function openIdUserRoutes(app: FastifyInstance, { openId }: { readonly openId: OpenId }): void {
  app.get<{ Querystring: { access_token?: unknown } }>(
    '/_matrix/federation/v1/openid/userinfo',
    { config: { auth: 'none', limited: true } },
    async ({ query }) => {
      const { access_token: token } = query;
      if (typeof token !== 'string')
        throw new MatrixError(401, 'M_MISSING_TOKEN', 'The OpenID token is missing.');
      return { sub: await openId.userOf(token) };
    },
  );
}
