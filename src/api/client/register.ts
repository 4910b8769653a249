import type { FastifyInstance } from 'fastify';
import type { Accounts } from '../../homeserver/accounts.ts';
import type { AuthData } from '../../homeserver/interactive_auth.ts';
import type { RegistrationOutcome } from '../../homeserver/registration.ts';
import { forbidden, invalidParam } from '../../matrix/error.ts';
import { deviceKeyOf } from '../caller.ts';
import { originOf } from '../origin.ts';
import { AUTH_DATA, DEVICE_PROPERTIES } from './schemas.ts';
import { sessionAnswer } from './session_answer.ts';

interface RegisterBody {
  readonly username?: string;
  readonly password?: string;
  readonly device_id?: string;
  readonly initial_device_display_name?: string;
  readonly refresh_token?: boolean;
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
    async (call, reply) => {
      const { body, query, raw, once } = call;
      if (query.kind === 'guest') throw forbidden('Guests are not served here.');
      if (query.kind !== undefined && query.kind !== 'user')
        throw invalidParam('There is no such kind of account.');
      const request = {
        username: body.username,
        password: body.password,
        deviceId: body.device_id,
        displayName: body.initial_device_display_name,
        key: deviceKeyOf(raw),
        refreshes: body.refresh_token,
        origin: originOf(call),
        inhibitLogin: body.inhibit_login,
        auth: body.auth,
      };
      const outcome = await once.step<RegistrationOutcome>('register', (done) =>
        accounts.registration.register(request, done),
      );
      if (outcome.kind === 'challenge') return reply.code(401).send(outcome.body);
      const { user, session } = outcome;
      return session === undefined ? { user_id: user } : sessionAnswer(session);
    },
  );

  app.get<{ Querystring: { username: string } }>(
    '/_matrix/client/v3/register/available',
    { config: { auth: 'none', limited: true }, schema: { querystring: AVAILABLE_QUERY } },
    async ({ query }) => {
      await accounts.registration.checkAvailable(query.username);
      return { available: true };
    },
  );

  app.get<{ Querystring: { token: string } }>(
    '/_matrix/client/v1/register/m.login.registration_token/validity',
    { config: { auth: 'none', limited: true }, schema: { querystring: VALIDITY_QUERY } },
    async ({ query }) => ({ valid: await accounts.registration.isTokenValid(query.token) }),
  );
}
