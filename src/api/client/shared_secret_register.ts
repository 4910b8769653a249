import type { FastifyInstance } from 'fastify';
import type { Accounts } from '../../homeserver/accounts.ts';
import type { SharedSecret } from '../../homeserver/shared_secret.ts';
import { originOf } from '../origin.ts';
import { sessionAnswer } from './session_answer.ts';

const PATH = '/_synapse/admin/v1/register';

interface Body {
  readonly nonce: string;
  readonly username: string;
  readonly password: string;
  readonly displayname?: string;
  readonly admin?: boolean;
  readonly user_type?: string | null;
  readonly inhibit_login?: boolean;
  readonly mac: string;
}

const BODY = {
  type: 'object',
  required: ['nonce', 'username', 'password', 'mac'],
  properties: {
    nonce: { type: 'string' },
    username: { type: 'string' },
    password: { type: 'string' },
    displayname: { type: 'string' },
    admin: { type: 'boolean' },
    user_type: { type: ['string', 'null'] },
    inhibit_login: { type: 'boolean' },
    mac: { type: 'string' },
  },
} as const;

/**
 * Registration by a secret of the configuration, at the path and in the form that Synapse has for it, since many tools
 * make accounts that way: a nonce first, then a request signed with HMAC-SHA1.
 */
export function sharedSecretRoutes(
  app: FastifyInstance,
  { accounts, sharedSecret }: { readonly accounts: Accounts; readonly sharedSecret: SharedSecret },
): void {
  app.get(PATH, { config: { auth: 'none', limited: true } }, async () => ({ nonce: sharedSecret.nonce() }));

  app.post<{ Body: Body }>(
    PATH,
    {
      config: { auth: 'none', limited: true, repeated: { harmless: 'the nonce is good once' } },
      schema: { body: BODY },
    },
    async (call) => {
      const { nonce, username, password, admin = false, user_type: userType, mac, inhibit_login } = call.body;
      sharedSecret.check({ nonce, username, password, admin, userType: userType ?? undefined, mac });
      const user = await accounts.create(username, password, { admin, displayName: call.body.displayname });
      const homeServer = { home_server: accounts.serverName };
      if (inhibit_login === true) return { user_id: user, ...homeServer };
      const session = await accounts.loginAs(user, { origin: originOf(call) });
      return { ...sessionAnswer(session), ...homeServer };
    },
  );
}
