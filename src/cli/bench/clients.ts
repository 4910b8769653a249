import type { FastifyInstance } from 'fastify';
import { assert } from '../../base/assert.ts';
import type { Millis } from '../../base/time.ts';
import { Device } from '../../device/device.ts';
import { CoapSocket } from '../../exchange/coap_socket.ts';
import { plainCodec } from '../../exchange/plain_codec.ts';
import type { ExchangeRequest } from '../../exchange/request.ts';
import type { ExchangeResponse } from '../../exchange/response.ts';
import type { ServerName } from '../../matrix/ids.ts';
import type { JsonObject } from '../../matrix/json.ts';
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
  /** Sends an event and answers its id. @param n tells it from the others that the client sends */
  send(
    room: string,
    event: { readonly type: string; readonly content: JsonObject },
    n: number,
  ): Promise<string>;
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

/** A device in a pipe, whose key stands for its access token once it has logged in. */
export async function openDevice(
  world: World,
  server: string,
  account: Account,
  name: string,
  keepAliveMs?: Millis,
): Promise<Device> {
  const random = world.dice();
  const device = new Device({
    link: world.clientLink(name),
    clock: world.time.clock,
    random,
    secret: random.bytes(KEY_BYTES),
    server: `${server}.example` as ServerName,
    address: server,
    trust: { decide: async () => ({ trusted: true }) },
    socket: {
      models: await world.models(),
      ...(world.layers && { layers: world.layers }),
      ...(keepAliveMs !== undefined && { keepAliveMs }),
    },
  });
  await world.capture(() => device.logIn(account.id, account.password));
  return device;
}

/** A client in a pipe that knows its rooms. */
export const pipeClient: OpenClient = async (world, server, account, name) => {
  const device = await openDevice(world, server, account, name);
  const { value } = await world.capture(() => device.sync());
  // Coming back with the position says that it was reached.
  await world.capture(() => device.sync({ since: String(value.next_batch) }));
  return {
    name,
    call: (call) => device.call(call),
    send: (room, { type, content }) => device.send(room, type, content),
    close: () => device.close(),
  };
};

/** A client that speaks CoAP (RFC 7252) with CBOR bodies, outside of any pipe, and brings its access token each time. */
export const plainClient: OpenClient = async (world, server, account, name) => {
  const { clock } = world.time;
  const socket = new CoapSocket({ link: world.clientLink(name), clock, random: world.dice() });
  const call = async (one: ClientCall): Promise<JsonObject> => {
    const request = plainCodec.encodeRequest(requestOf(one, account));
    assert(request.ok, 'the request can be written');
    const coap = await socket.request(server, request.value, { timeoutMs: TIMEOUT_MS });
    const answer = plainCodec.decodeResponse(coap);
    assert(answer.ok, 'the answer can be read');
    return answerOf(answer.value);
  };
  return {
    name,
    call,
    send: async (room, event, n) => String((await call(sendCall(room, event, n))).event_id),
    close: () => socket.close(),
  };
};

/** Unix time in milliseconds of a transaction id; that of the virtual clock's start. */
const TRANSACTION_EPOCH = Date.UTC(2026, 0, 1);

/** A send as clients make it; transaction ids have the form of matrix-js-sdk's. */
export const sendCall = (
  room: string,
  { type, content }: { readonly type: string; readonly content: JsonObject },
  n: number,
): ClientCall => ({
  method: 'PUT',
  target: `/_matrix/client/v3/rooms/${encodeURIComponent(room)}/send/${type}/m${TRANSACTION_EPOCH + n * 1000}.${n}`,
  body: content,
});

function requestOf({ method, target, body }: ClientCall, account: Account): ExchangeRequest {
  const [path = '', query = ''] = target.split('?');
  return {
    method,
    path,
    query,
    authorization: `Bearer ${account.token}`,
    ...(body !== undefined && { body: { kind: 'json', value: body } as const }),
  };
}

function answerOf({ status, body }: ExchangeResponse): JsonObject {
  assert(status === 200 && body?.kind === 'json', `the answer has the status 200, not ${status}`);
  return body.value as JsonObject;
}
