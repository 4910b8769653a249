import type { FastifyInstance } from 'fastify';
import type { Accounts, Registration } from '../../homeserver/accounts.ts';
import type { AuthData } from '../../homeserver/interactive_auth.ts';
import { forbidden } from '../../matrix/error.ts';
import { deviceKeyOf } from '../caller.ts';
import { AUTH_DATA, DEVICE_PROPERTIES } from './schemas.ts';

interface RegisterBody {
  readonly username?: string;
  readonly password?: string;
  readonly device_id?: string;
  readonly initial_device_display_name?: string;
  readonly inhibit_login?: boolean;
  readonly auth?: AuthData | null;
}

const REGISTER_BODY = {
  type: 'object',
  properties: {
    username: { type: 'string' },
    password: { type: 'string' },
    ...DEVICE_PROPERTIES,
    inhibit_login: { type: 'boolean' },
    auth: AUTH_DATA,
  },
} as const;

const queryWith = (name: string) =>
  ({ type: 'object', required: [name], properties: { [name]: { type: 'string' } } }) as const;
const AVAILABLE_QUERY = queryWith('username');
const VALIDITY_QUERY = queryWith('token');

/** Client-server API, "Account registration". */
export function registerRoutes(app: FastifyInstance, { accounts }: { readonly accounts: Accounts }): void {
  app.post<{ Body: RegisterBody; Querystring: { kind?: string } }>(
    '/_matrix/client/v3/register',
    { config: { auth: 'none', limited: true, repeated: 'ledger' }, schema: { body: REGISTER_BODY } },
    async ({ body, query, raw, once }, reply) => {
      if (query.kind !== undefined && query.kind !== 'user') throw forbidden('Guests are not served here.');
      const request = {
        username: body.username,
        password: body.password,
        deviceId: body.device_id,
        displayName: body.initial_device_display_name,
        key: deviceKeyOf(raw),
        inhibitLogin: body.inhibit_login,
        auth: body.auth,
      };
      const outcome = await once.step<Registration>('register', (done) => accounts.register(request, done));
      if (outcome.kind === 'challenge') return reply.code(401).send(outcome.body);
      const { user, session } = outcome;
      return session === undefined
        ? { user_id: user }
        : { user_id: user, device_id: session.device, access_token: session.accessToken };
    },
  );

  app.get<{ Querystring: { username: string } }>(
    '/_matrix/client/v3/register/available',
    { config: { auth: 'none' }, schema: { querystring: AVAILABLE_QUERY } },
    async ({ query }) => {
      await accounts.checkAvailable(query.username);
      return { available: true };
    },
  );

  app.get<{ Querystring: { token: string } }>(
    '/_matrix/client/v1/register/m.login.registration_token/validity',
    { config: { auth: 'none' }, schema: { querystring: VALIDITY_QUERY } },
    async ({ query }) => ({ valid: await accounts.isRegistrationTokenValid(query.token) }),
  );
}
