import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { createApp } from '../../src/api/app.ts';
import { xMatrixAuthentication } from '../../src/api/federation/authenticate.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { decodeJson, encodeJson } from '../../src/compact/cbor.ts';
import { openCoapDoor } from '../../src/doors/coap.ts';
import type { Caller } from '../../src/exchange/request.ts';
import type { RequestHandler } from '../../src/exchange/serving.ts';
import { authorizationHeader, RequestAuthenticator } from '../../src/federation/x_matrix.ts';
import type { ServerName } from '../../src/matrix/ids.ts';
import { A, B, C, testKey } from '../federation/fixtures.ts';

/* A server that has proved one name acts under no other: this server is A, the peer B, and C the one he would like to be. */

const keys = new Map([
  [B, testKey(2)],
  [C, testKey(3)],
]);
const path = '/_matrix/federation/v1/send/1';
const signedBy = (server: ServerName, key = keys.get(server)!): string =>
  authorizationHeader(
    { origin: server, destination: A, method: 'PUT', uri: path, content: { origin: C } },
    key,
  );

let app: FastifyInstance;
let handle: RequestHandler | undefined;

beforeEach(async () => {
  const clock = new VirtualClock();
  const cbor = { encode: encodeJson, decode: decodeJson };
  const requestKey = async (server: ServerName) => keys.get(server)?.publicKey;
  app = createApp({
    clock,
    cbor,
    authenticate: async () => undefined,
    authenticateServer: xMatrixAuthentication(
      new RequestAuthenticator({ serverName: A, keys: { requestKey }, clock }),
    ),
  });
  app.put(path, { config: { auth: 'server' } }, async (request) => ({ origin: request.origin }));
  const source = {
    onRequest: (given: RequestHandler): void => {
      handle = given;
    },
  };
  await openCoapDoor(app, source, cbor);
  onTestFinished(() => app.close());
});

const ask = (caller: Caller, authorization?: string) =>
  handle!(
    caller,
    {
      method: 'PUT',
      path,
      query: '',
      body: { kind: 'json', value: { origin: C } },
      ...(authorization !== undefined && { authorization }),
    },
    new AbortController().signal,
  );

describe('a server that a pipe has proved', () => {
  const inPipe: Caller = { kind: 'server', name: B };

  test('is that server, whatever its body says', async () => {
    expect(await ask(inPipe)).toMatchObject({ status: 200, body: { value: { origin: B } } });
  });

  test('is not another by a signed header, not even by one that is right', async () => {
    expect(await ask(inPipe, signedBy(C))).toMatchObject({ status: 200, body: { value: { origin: B } } });
  });

  test('is nobody outside of the pipe, where the signature alone decides', async () => {
    const outside: Caller = { kind: 'plain', address: '192.0.2.1:5683' };
    expect(await ask(outside)).toMatchObject({ status: 401 });
    expect(await ask(outside, signedBy(C, testKey(2)))).toMatchObject({ status: 401 });
    expect(await ask(outside, signedBy(B))).toMatchObject({ status: 200, body: { value: { origin: B } } });
  });
});

test('no header over HTTP makes anybody a proved server', async () => {
  const server = createServer((request, response) => app.routing(request, response));
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  onTestFinished(() => new Promise<void>((done) => server.close(() => done())));
  const { port } = server.address() as AddressInfo;
  const put = (headers: Record<string, string>) =>
    fetch(`http://127.0.0.1:${port}${path}`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json', connection: 'close', ...headers },
      body: JSON.stringify({ origin: C }),
    });
  const claims = { caller: `{"kind":"server","name":"${C}"}`, 'x-caller': C, origin: C };
  expect((await put(claims)).status).toBe(401);
  expect((await put({ authorization: signedBy(C, testKey(2)) })).status).toBe(401);
  expect(await (await put({ ...claims, authorization: signedBy(B) })).json()).toEqual({ origin: B });
});
