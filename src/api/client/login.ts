import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Accounts } from '../../homeserver/accounts.ts';
import type { AuthData } from '../../homeserver/interactive_auth.ts';
import type { DeviceRequest } from '../../homeserver/sessions.ts';
import { forbidden, missingParam, unknownError } from '../../matrix/error.ts';
import { deviceKeyOf } from '../caller.ts';
import { originOf } from '../origin.ts';
import { AUTH_DATA, DEVICE_PROPERTIES } from './schemas.ts';
import { sessionAnswer } from './session_answer.ts';

const PASSWORD_LOGIN = 'm.login.password';
const TOKEN_LOGIN = 'm.login.token';

interface LoginBody {
  readonly type: string;
  readonly identifier?: { readonly type: string; readonly user?: string };
  /** These three are deprecated, and still sent. */
  readonly user?: string;
  readonly medium?: string;
  readonly address?: string;
  readonly password?: string;
  readonly token?: string;
  readonly device_id?: string;
  readonly initial_device_display_name?: string;
  readonly refresh_token?: boolean;
}

const LOGIN_BODY = {
  type: 'object',
  required: ['type'],
  properties: {
    type: { type: 'string' },
    identifier: {
      type: 'object',
      required: ['type'],
      properties: { type: { type: 'string' }, user: { type: 'string' } },
    },
    user: { type: 'string' },
    medium: { type: 'string' },
    address: { type: 'string' },
    password: { type: 'string' },
    token: { type: 'string' },
    ...DEVICE_PROPERTIES,
  },
} as const;

const GET_TOKEN_BODY = { type: ['object', 'null'], properties: { auth: AUTH_DATA } } as const;

const REFRESH_BODY = {
  type: 'object',
  required: ['refresh_token'],
  properties: { refresh_token: { type: 'string' } },
} as const;

/** Client-server API, "Legacy login" and "Refreshing access tokens". */
export function loginRoutes(app: FastifyInstance, { accounts }: { readonly accounts: Accounts }): void {
  app.get('/_matrix/client/v3/login', { config: { auth: 'none' } }, async () => ({
    flows: [{ type: PASSWORD_LOGIN }, { type: TOKEN_LOGIN, get_login_token: true }],
  }));

  app.post<{ Body: LoginBody }>(
    '/_matrix/client/v3/login',
    { config: { auth: 'none', limited: true, repeated: 'ledger' }, schema: { body: LOGIN_BODY } },
    async (call) => {
      const { body, once } = call;
      const device = deviceOf(call);
      if (body.type === TOKEN_LOGIN) {
        const { token } = body;
        if (token === undefined) throw missingParam('The login token is missing.');
        return once.answer((done) => accounts.loginWithToken(token, device, done), sessionAnswer);
      }
      if (body.type !== PASSWORD_LOGIN) throw unknownError(400, 'This type of login is not offered.');
      const { password } = body;
      if (password === undefined) throw missingParam('The password is missing.');
      const user = userOf(body);
      return once.answer((done) => accounts.login(user, password, device, done), sessionAnswer);
    },
  );

  app.post<{ Body: { auth?: AuthData | null } | null }>(
    '/_matrix/client/v1/login/get_token',
    {
      // Its answer is not kept, as a ledger would do it: it is as good as a password for two minutes.
      config: { auth: 'device', limited: true, repeated: { harmless: 'each token is good by itself' } },
      schema: { body: GET_TOKEN_BODY },
    },
    async ({ requester, body }, reply) => {
      const refused = await accounts.confirm(requester, 'get a login token', body?.auth);
      if (refused !== undefined) return reply.code(401).send(refused);
      const { token, expiresInMs } = await accounts.issueLoginToken(requester);
      return { login_token: token, expires_in_ms: expiresInMs };
    },
  );

  app.post<{ Body: { refresh_token: string } }>(
    '/_matrix/client/v3/refresh',
    {
      config: {
        ...{ auth: 'none', limited: true },
        repeated: { harmless: 'the old token stays valid until a new one has been used' },
      },
      schema: { body: REFRESH_BODY },
    },
    async ({ body }) => {
      const { accessToken, refreshToken, expiresInMs } = await accounts.sessions.refresh(body.refresh_token);
      return { access_token: accessToken, refresh_token: refreshToken, expires_in_ms: expiresInMs };
    },
  );
}

const deviceOf = (call: FastifyRequest<{ Body: LoginBody }>): DeviceRequest => ({
  deviceId: call.body.device_id,
  displayName: call.body.initial_device_display_name,
  key: deviceKeyOf(call.raw),
  refreshes: call.body.refresh_token,
  origin: originOf(call),
});

function userOf({ identifier, user, medium, address }: LoginBody): string {
  // Email addresses and phone numbers are not known here: "the homeserver must respond with 403 Forbidden".
  const isThirdParty = identifier === undefined && (medium !== undefined || address !== undefined);
  if (isThirdParty || (identifier !== undefined && identifier.type !== 'm.id.user'))
    throw forbidden('The user or the password is wrong.');
  const name = identifier?.user ?? user;
  if (name === undefined) throw missingParam('The user is missing.');
  return name;
}
