import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Accounts, Requester } from '../../homeserver/accounts.ts';
import type { Deactivation } from '../../homeserver/deactivation.ts';
import type { AuthData } from '../../homeserver/interactive_auth.ts';
import type { Done } from '../../homeserver/once.ts';
import type { JsonObject } from '../../matrix/json.ts';
import { originOf } from '../origin.ts';
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

interface DeactivateBody {
  readonly auth?: AuthData | null;
  readonly erase?: boolean;
}

const DEACTIVATE_BODY = {
  type: ['object', 'null'],
  properties: { auth: AUTH_DATA, id_server: { type: 'string' }, erase: { type: 'boolean' } },
} as const;

const UNSAFE = { auth: 'device', limited: true, repeated: 'ledger' } as const;

/** Client-server API, "Current account information", "Password management" and "Account deactivation". */
export function accountRoutes(
  app: FastifyInstance,
  { accounts, deactivation }: { readonly accounts: Accounts; readonly deactivation: Deactivation },
): void {
  app.get('/_matrix/client/v3/account/whoami', { config: { auth: 'device' } }, async ({ requester }) => ({
    user_id: requester.user,
    device_id: requester.device,
    is_guest: false,
  }));

  app.post<{ Body: PasswordBody }>(
    '/_matrix/client/v3/account/password',
    { config: UNSAFE, schema: { body: PASSWORD_BODY } },
    async ({ requester, body, once }, reply) => {
      const refused = await accounts.confirm(requester, 'set the password', body.auth);
      if (refused !== undefined) return reply.code(401).send(refused);
      const logOut = body.logout_devices === false ? 'nobody' : 'others';
      return once.answer(
        (done: Done<void>) => accounts.setPassword(requester, body.new_password, logOut, done),
        () => ({}),
      );
    },
  );

  app.post<{ Body: DeactivateBody | null }>(
    '/_matrix/client/v3/account/deactivate',
    { config: { ...UNSAFE, auth: 'optional' }, schema: { body: DEACTIVATE_BODY } },
    async (request, reply) => {
      const { body, once } = request;
      const proof = await proved(accounts, request, body?.auth);
      if ('refused' in proof) return reply.code(401).send(proof.refused);
      return once.answer(
        (done: Done<void>) => deactivation.deactivate(proof, body?.erase === true, done),
        // "This must be `success` if the homeserver has no identifiers to unbind for the user."
        () => ({ id_server_unbind_result: 'success' }),
      );
    },
  );
}

/** Who deactivates an account: "An access token should be submitted to this endpoint if the client has an active session." */
async function proved(
  accounts: Accounts,
  request: FastifyRequest,
  auth: AuthData | null | undefined,
): Promise<Pick<Requester, 'user'> | { readonly refused: JsonObject }> {
  const { knownRequester: requester } = request;
  if (requester === undefined) return accounts.confirmStranger(originOf(request).place, 'deactivate', auth);
  const refused = await accounts.confirm(requester, 'deactivate', auth);
  return refused === undefined ? requester : { refused };
}
