import type { FastifyInstance } from 'fastify';
import type { Accounts } from '../../homeserver/accounts.ts';

/** Client-server API, POST /logout and POST /logout/all. */
export function logoutRoutes(app: FastifyInstance, { accounts }: { readonly accounts: Accounts }): void {
  app.post('/_matrix/client/v3/logout', { config: { auth: 'device' } }, async ({ requester }) => {
    await accounts.logout(requester);
    return {};
  });

  app.post('/_matrix/client/v3/logout/all', { config: { auth: 'device' } }, async ({ requester }) => {
    await accounts.logoutAll(requester.user);
    return {};
  });
}
