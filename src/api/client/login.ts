import type { FastifyInstance } from 'fastify';
import type { Accounts, Session } from '../../homeserver/accounts.ts';
import { forbidden, missingParam, unknownError } from '../../matrix/error.ts';
import { deviceKeyOf } from '../caller.ts';
import { DEVICE_PROPERTIES } from './schemas.ts';

const PASSWORD_LOGIN = 'm.login.password';

interface LoginBody {
  readonly type: string;
  readonly identifier?: { readonly type: string; readonly user?: string };
  /** Deprecated, and still sent. */
  readonly user?: string;
  readonly password?: string;
  readonly device_id?: string;
  readonly initial_device_display_name?: string;
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
    password: { type: 'string' },
    ...DEVICE_PROPERTIES,
  },
} as const;

/** Client-server API, "Legacy login". */
export function loginRoutes(app: FastifyInstance, { accounts }: { readonly accounts: Accounts }): void {
  app.get('/_matrix/client/v3/login', { config: { auth: 'none' } }, async () => ({
    flows: [{ type: PASSWORD_LOGIN }],
  }));

  app.post<{ Body: LoginBody }>(
    '/_matrix/client/v3/login',
    { config: { auth: 'none', limited: true, repeated: 'ledger' }, schema: { body: LOGIN_BODY } },
    async ({ body, raw, once }) => {
      if (body.type !== PASSWORD_LOGIN) throw unknownError(400, 'This type of login is not offered.');
      const { password } = body;
      if (password === undefined) throw missingParam('The password is missing.');
      const user = userOf(body);
      const device = {
        deviceId: body.device_id,
        displayName: body.initial_device_display_name,
        key: deviceKeyOf(raw),
      };
      return once.answer(
        (done) => accounts.login(user, password, device, done),
        (session: Session) => ({
          user_id: session.user,
          device_id: session.device,
          access_token: session.accessToken,
        }),
      );
    },
  );
}

function userOf({ identifier, user }: LoginBody): string {
  // Email addresses and phone numbers are not known here: "the homeserver must respond with 403 Forbidden".
  if (identifier !== undefined && identifier.type !== 'm.id.user')
    throw forbidden('The user or the password is wrong.');
  const name = identifier?.user ?? user;
  if (name === undefined) throw missingParam('The user is missing.');
  return name;
}
