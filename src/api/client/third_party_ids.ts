import type { FastifyInstance } from 'fastify';
import type { Accounts } from '../../homeserver/accounts.ts';
import type { AuthData } from '../../homeserver/interactive_auth.ts';
import { invalidParam, MatrixError } from '../../matrix/error.ts';
import { AUTH_DATA } from './schemas.ts';

/** Which message is asked for, and through whom. */
interface TokenRequest {
  readonly email?: string;
  readonly phone_number?: string;
  readonly id_server?: string;
}

const CLIENT_SECRET = { type: 'string', pattern: '^[0-9a-zA-Z.=_-]{1,255}$' } as const;
const REQUEST = {
  client_secret: CLIENT_SECRET,
  send_attempt: { type: 'integer' },
  next_link: { type: 'string' },
  id_server: { type: 'string' },
  id_access_token: { type: 'string' },
} as const;

const EMAIL_BODY = {
  type: 'object',
  required: ['client_secret', 'email', 'send_attempt'],
  properties: { ...REQUEST, email: { type: 'string' } },
} as const;

const MSISDN_BODY = {
  type: 'object',
  required: ['client_secret', 'country', 'phone_number', 'send_attempt'],
  properties: { ...REQUEST, country: { type: 'string' }, phone_number: { type: 'string' } },
} as const;

const ADD_BODY = {
  type: 'object',
  required: ['client_secret', 'sid'],
  properties: { auth: AUTH_DATA, client_secret: CLIENT_SECRET, sid: { type: 'string' } },
} as const;

const BIND_BODY = {
  type: 'object',
  required: ['client_secret', 'id_server', 'id_access_token', 'sid'],
  properties: {
    client_secret: CLIENT_SECRET,
    id_server: { type: 'string' },
    id_access_token: { type: 'string' },
    sid: { type: 'string' },
  },
} as const;

const OLD_ADD_BODY = {
  type: 'object',
  required: ['three_pid_creds'],
  properties: { three_pid_creds: BIND_BODY },
} as const;

const REMOVE_BODY = {
  type: 'object',
  required: ['medium', 'address'],
  properties: {
    medium: { enum: ['email', 'msisdn'] },
    address: { type: 'string' },
    id_server: { type: 'string' },
  },
} as const;

const HARMLESS = { harmless: 'nothing is stored' } as const;
const OWN = { auth: 'device', repeated: HARMLESS } as const;
const OPEN = { auth: 'none', limited: true, repeated: HARMLESS } as const;

/**
 * Email addresses and phone numbers (client-server API, "Adding account administrative contact information"), as a server
 * answers that sends no mail, asks no identity server and so knows none.
 */
export function thirdPartyIdRoutes(
  app: FastifyInstance,
  { accounts }: { readonly accounts: Accounts },
): void {
  app.get('/_matrix/client/v3/account/3pid', { config: { auth: 'device' } }, async () => ({ threepids: [] }));

  app.post('/_matrix/client/v3/account/3pid', { config: OWN, schema: { body: OLD_ADD_BODY } }, async () => {
    throw notVerified(403);
  });

  app.post<{ Body: { auth?: AuthData | null } }>(
    '/_matrix/client/v3/account/3pid/add',
    { config: { ...OWN, limited: true }, schema: { body: ADD_BODY } },
    async ({ requester, body }, reply) => {
      const refused = await accounts.confirm(requester, 'add a third-party id', body.auth);
      if (refused !== undefined) return reply.code(401).send(refused);
      throw notVerified(400);
    },
  );

  app.post('/_matrix/client/v3/account/3pid/bind', { config: OWN, schema: { body: BIND_BODY } }, async () => {
    throw notTrusted();
  });

  for (const remove of ['delete', 'unbind'])
    app.post(
      `/_matrix/client/v3/account/3pid/${remove}`,
      { config: OWN, schema: { body: REMOVE_BODY } },
      async () => ({ id_server_unbind_result: 'no-support' }),
    );

  requestTokenRoutes(app);
}

/** Each asks for a message to an address that is not the account's yet, or that it should be. */
function requestTokenRoutes(app: FastifyInstance): void {
  const places = [
    {
      of: 'account/3pid',
      config: OWN,
      errcode: 'M_THREEPID_MEDIUM_NOT_SUPPORTED',
      status: 400,
      message: 'No addresses of this kind are taken.',
    },
    {
      of: 'account/password',
      config: OPEN,
      errcode: 'M_THREEPID_NOT_FOUND',
      status: 400,
      message: 'No account has this address.',
    },
    {
      of: 'register',
      config: OPEN,
      errcode: 'M_THREEPID_DENIED',
      status: 403,
      message: 'Accounts are made without addresses of this kind.',
    },
  ] as const;
  for (const { of, config, errcode, status, message } of places)
    for (const [medium, body] of [
      ['email', EMAIL_BODY],
      ['msisdn', MSISDN_BODY],
    ] as const)
      app.post<{ Body: TokenRequest }>(
        `/_matrix/client/v3/${of}/${medium}/requestToken`,
        { config, schema: { body } },
        async ({ body }) => {
          if (body.id_server !== undefined) throw notTrusted();
          if (!isAddress(body)) throw invalidParam('That is no address of this kind.');
          throw new MatrixError(status, errcode, message);
        },
      );
}

const isAddress = ({ email, phone_number: phone }: TokenRequest): boolean =>
  email === undefined ? /^[0-9 ()+-]+$/.test(phone ?? '') : /^[^@\s]+@[^@\s]+$/.test(email);

const notTrusted = (): MatrixError =>
  new MatrixError(400, 'M_SERVER_NOT_TRUSTED', 'No identity server is asked from here.');

const notVerified = (status: number): MatrixError =>
  new MatrixError(status, 'M_THREEPID_AUTH_FAILED', 'No address was verified in that session.');
