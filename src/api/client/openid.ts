import type { FastifyInstance } from 'fastify';
import type { OpenId } from '../../homeserver/openid.ts';
import { forbidden } from '../../matrix/error.ts';
import type { ServerName } from '../../matrix/ids.ts';
import { userParameter } from '../parameters.ts';

const BODY = { type: ['object', 'null'] } as const;

/** Client-server API, "OpenID". */
export function openIdRoutes(
  app: FastifyInstance,
  { openId, serverName }: { readonly openId: OpenId; readonly serverName: ServerName },
): void {
  app.post<{ Params: { userId: string } }>(
    '/_matrix/client/v3/user/:userId/openid/request_token',
    {
      config: { auth: 'device', repeated: { harmless: 'each token is good by itself' } },
      schema: { body: BODY },
    },
    async ({ requester, params }) => {
      if (userParameter(params.userId) !== requester.user) throw forbidden('That is not your user id.');
      const { token, expiresInMs } = await openId.issue(requester.user);
      return {
        access_token: token,
        token_type: 'Bearer',
        matrix_server_name: serverName,
        expires_in: Math.floor(expiresInMs / 1000),
      };
    },
  );
}
