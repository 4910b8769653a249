import type { FastifyInstance } from 'fastify';
import type { Accounts } from '../../homeserver/accounts.ts';
import type { AuthData } from '../../homeserver/interactive_auth.ts';
import type { Done } from '../../homeserver/once.ts';
import { AUTH_DATA } from './schemas.ts';

interface PasswordBody {
  readonly new_password: string;
  readonly logout_devices?: boolean;
  readonly auth?: AuthData | null;
}

const PASSWORD_BODY = {
  type: 'object',
  required: ['new_password'],
  properties: { new_password: { type: 'string' }, logout_devices: { type: 'boolean' }, auth: AUTH_DATA },
} as const;

/** Client-server API, "Current account information", "Adding account administrative contact information" and "Password management". */
export function accountRoutes(app: FastifyInstance, { accounts }: { readonly accounts: Accounts }): void {
  app.get('/_matrix/client/v3/account/whoami', { config: { auth: 'device' } }, async ({ requester }) => ({
    user_id: requester.user,
    device_id: requester.device,
    is_guest: false,
  }));

  // Email addresses and phone numbers are not taken, as the capability says.
  app.get('/_matrix/client/v3/account/3pid', { config: { auth: 'device' } }, async () => ({ threepids: [] }));

  app.post<{ Body: PasswordBody }>(
    '/_matrix/client/v3/account/password',
    { config: { auth: 'device', limited: true, repeated: 'ledger' }, schema: { body: PASSWORD_BODY } },
    async ({ requester, body, once }, reply) => {
      const refused = await accounts.confirm(requester, body.auth);
      if (refused !== undefined) return reply.code(401).send(refused);
      const logOut = body.logout_devices === false ? 'nobody' : 'others';
      return once.answer(
        (done: Done<void>) => accounts.setPassword(requester, body.new_password, logOut, done),
        () => ({}),
      );
    },
  );
}
