import type { FastifyInstance } from 'fastify';
import type { Accounts } from '../../homeserver/accounts.ts';
import type { Done } from '../../homeserver/once.ts';

/** Client-server API, POST /logout and POST /logout/all. */
export function logoutRoutes(app: FastifyInstance, { accounts }: { readonly accounts: Accounts }): void {
  const config = { auth: 'device', locked: 'may', repeated: 'ledger' } as const;

  app.post('/_matrix/client/v3/logout', { config }, async ({ requester, once }) =>
    once.answer(
      (done: Done<void>) => accounts.sessions.logout(requester, done),
      () => ({}),
    ),
  );

  app.post('/_matrix/client/v3/logout/all', { config }, async ({ requester, once }) =>
    once.answer(
      (done: Done<void>) => accounts.sessions.logoutAll(requester, done),
      () => ({}),
    ),
  );
}
