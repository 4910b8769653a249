import type { FastifyInstance } from 'fastify';
import { assert } from '../../base/assert.ts';
import { CoapSocket } from '../../exchange/coap_socket.ts';
import { plainCodec } from '../../exchange/plain_codec.ts';
import type { ExchangeRequest } from '../../exchange/request.ts';
import type { ExchangeResponse } from '../../exchange/response.ts';
import { ExchangeSocket } from '../../exchange/socket.ts';
import type { ServerName } from '../../matrix/ids.ts';
import type { JsonObject } from '../../matrix/json.ts';
import { createDeviceIdentity } from '../../pipe/identity.ts';
import type { World } from './world.ts';

const KEY_BYTES = 32;
const TIMEOUT_MS = 60 * 60 * 1000;

/** A call of the client-server API. */
export interface ClientCall {
  readonly method: 'GET' | 'PUT' | 'POST';
  /** With the query, as in a URL. */
  readonly target: string;
  readonly body?: JsonObject;
}

/** An account at a server that is open for registration. */
export interface Account {
  readonly id: string;
  readonly password: string;
  readonly token: string;
}

/** A user's program on the other side of a link. */
export interface Client {
  /** Its name on the link. */
  readonly name: string;
  /** @throws where the answer is not one of success */
  call(call: ClientCall): Promise<JsonObject>;
  close(): Promise<void>;
}

/** Registers without crossing a link. */
export async function register(app: FastifyInstance, username: string): Promise<Account> {
  const password = `password of ${username}`;
  const answer = await callDirectly(app, undefined, {
    method: 'POST',
    target: '/_matrix/client/v3/register',
    body: { username, password, auth: { type: 'm.login.dummy' } },
  });
  return { id: String(answer.user_id), password, token: String(answer.access_token) };
}

/** Asks a server without crossing a link. */
export async function callDirectly(
  app: FastifyInstance,
  account: Account | undefined,
  { method, target, body }: ClientCall,
): Promise<JsonObject> {
  const answer = await app.inject({
    method,
    url: target,
    headers: account === undefined ? {} : { authorization: `Bearer ${account.token}` },
    ...(body !== undefined && { payload: body }),
  });
  assert(answer.statusCode === 200, `${method} ${target} is answered with 200, not ${answer.body}`);
  return answer.json<JsonObject>();
}

/** Opens a client, which may be asked for what its account may do. */
export type OpenClient = (world: World, server: string, account: Account, name: string) => Promise<Client>;

/** A client in a pipe: a device of its own, whose key stands for its access token once it has logged in. */
export const pipeClient: OpenClient = async (world, server, account, name) => {
  const random = world.dice();
  const socket = new ExchangeSocket({
    link: world.clientLink(name),
    clock: world.time.clock,
    random,
    identity: createDeviceIdentity(random.bytes(KEY_BYTES)),
    trust: { decide: async () => ({ trusted: true }) },
    plain: 'off',
  });
  const serverName = `${server}.example` as ServerName;
  const call = async (one: ClientCall): Promise<JsonObject> =>
    answerOf(
      await socket.request(serverName, server, requestOf(one), { timeoutMs: TIMEOUT_MS, priority: 1 }),
    );
  const login: ClientCall = {
    method: 'POST',
    target: '/_matrix/client/v3/login',
    body: {
      type: 'm.login.password',
      identifier: { type: 'm.id.user', user: account.id },
      password: account.password,
    },
  };
  await world.capture(() => call(login));
  return { name, call, close: () => socket.close() };
};

/** A client that speaks CoAP (RFC 7252) with CBOR bodies, outside of any pipe, and brings its access token each time. */
export const plainClient: OpenClient = async (world, server, account, name) => {
  const { clock } = world.time;
  const socket = new CoapSocket({ link: world.clientLink(name), clock, random: world.dice() });
  return {
    name,
    async call(call) {
      const request = plainCodec.encodeRequest(requestOf(call, account));
      assert(request.ok, 'the request can be written');
      const coap = await socket.request(server, request.value, { timeoutMs: TIMEOUT_MS });
      const answer = plainCodec.decodeResponse(coap);
      assert(answer.ok, 'the answer can be read');
      return answerOf(answer.value);
    },
    close: () => socket.close(),
  };
};

function requestOf({ method, target, body }: ClientCall, account?: Account): ExchangeRequest {
  const [path = '', query = ''] = target.split('?');
  return {
    method,
    path,
    query,
    ...(account !== undefined && { authorization: `Bearer ${account.token}` }),
    ...(body !== undefined && { body: { kind: 'json', value: body } as const }),
  };
}

function answerOf({ status, body }: ExchangeResponse): JsonObject {
  assert(status === 200 && body?.kind === 'json', `the answer has the status 200, not ${status}`);
  return body.value as JsonObject;
}
