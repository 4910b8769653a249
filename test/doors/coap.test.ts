import type { FastifyInstance } from 'fastify';
import { beforeEach, describe, expect, test } from 'vitest';
import { createApp } from '../../src/api/app.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { decodeJson, encodeJson } from '../../src/compact/cbor.ts';
import { openCoapDoor } from '../../src/doors/coap.ts';
import type { Caller, ExchangeRequest } from '../../src/exchange/request.ts';
import type { RequestHandler } from '../../src/exchange/serving.ts';
import { MatrixError } from '../../src/matrix/error.ts';
import type { DeviceId, ServerName, UserId } from '../../src/matrix/ids.ts';

const SERVER: Caller = { kind: 'server', name: 'a.example' as ServerName };
const PLAIN: Caller = { kind: 'plain', address: '127.0.0.1:1' };
const ALICE = { user: '@alice:b.example' as UserId, device: 'D' as DeviceId };

describe('the CoAP door', () => {
  let app: FastifyInstance;
  let ask: (
    request: Partial<ExchangeRequest>,
    caller?: Caller,
    signal?: AbortSignal,
  ) => ReturnType<RequestHandler>;

  beforeEach(async () => {
    const cbor = { encode: encodeJson, decode: decodeJson };
    app = createApp({
      clock: new VirtualClock(),
      cbor,
      authenticate: async (token) => (token === 'good' ? ALICE : undefined),
    });
    const server = { config: { auth: 'server' } } as const;
    const device = { config: { auth: 'device' } } as const;
    const none = { config: { auth: 'none' } } as const;
    app.put('/federation/:id', server, async (request) => ({
      origin: request.origin,
      params: request.params,
      query: request.query,
      body: request.body,
    }));
    app.get('/whoami', device, async (request) => request.requester);
    app.get('/limited', none, async () => {
      throw new MatrixError(429, 'M_LIMIT_EXCEEDED', 'slow', { retry_after_ms: 10 });
    });
    app.get('/image', none, async (_, reply) =>
      reply
        .type('image/png')
        .header('content-disposition', 'inline')
        .send(Buffer.from([1, 2])),
    );
    app.get('/redirect', none, async (_, reply) => reply.redirect('/elsewhere', 307));
    app.get(
      '/hang',
      none,
      (request) => new Promise((resolve) => request.signal.addEventListener('abort', () => resolve({}))),
    );
    let handle: RequestHandler | undefined;
    const source = {
      onRequest: (given: RequestHandler): void => {
        handle = given;
      },
    };
    await openCoapDoor(app, source, cbor);
    ask = (request, caller = PLAIN, signal = new AbortController().signal) =>
      handle!(caller, { method: 'GET', path: '/', query: '', ...request }, signal);
  });

  test('tells the app which server the pipe has proved', async () => {
    const body = { kind: 'json', value: { big: 2 ** 53 - 1, float: 1.5, text: '\ufeffé' } } as const;
    const response = await ask(
      { method: 'PUT', path: '/federation/%24id%2Fx', query: 'v=1&v=2', body },
      SERVER,
    );
    expect(response).toEqual({
      status: 200,
      headers: {},
      body: {
        kind: 'json',
        value: { origin: 'a.example', params: { id: '$id/x' }, query: { v: ['1', '2'] }, body: body.value },
      },
    });
  });

  test('does not take a plain caller for a server', async () => {
    const response = await ask({ method: 'PUT', path: '/federation/x', body: { kind: 'json', value: {} } });
    expect(response).toMatchObject({ status: 401, body: { value: { errcode: 'M_UNAUTHORIZED' } } });
  });

  test('hands on the access token', async () => {
    expect(await ask({ path: '/whoami' })).toMatchObject({
      status: 401,
      body: { value: { errcode: 'M_MISSING_TOKEN' } },
    });
    expect(await ask({ path: '/whoami', authorization: 'Bearer bad' })).toMatchObject({
      status: 401,
      body: { value: { errcode: 'M_UNKNOWN_TOKEN' } },
    });
    expect(await ask({ path: '/whoami', authorization: 'Bearer good' })).toMatchObject({
      status: 200,
      body: { value: ALICE },
    });
  });

  test('keeps the exact status, headers and media types', async () => {
    expect(await ask({ path: '/limited' })).toMatchObject({
      status: 429,
      body: { value: { errcode: 'M_LIMIT_EXCEEDED', retry_after_ms: 10 } },
    });
    expect(await ask({ path: '/image' })).toEqual({
      status: 200,
      headers: { 'content-disposition': 'inline' },
      body: { kind: 'bytes', contentType: 'image/png', bytes: Uint8Array.of(1, 2) },
    });
    expect(await ask({ path: '/redirect' })).toEqual({ status: 307, headers: { location: '/elsewhere' } });
  });

  test.each(['/nowhere', '//evil.example/whoami', '/%zz'])('answers %s with a Matrix error', async (path) => {
    const response = await ask({ path });
    expect(response.status).toBeGreaterThanOrEqual(400);
    expect(response).toMatchObject({
      body: { kind: 'json', value: { errcode: expect.stringMatching(/^M_(UNRECOGNIZED|INVALID_PARAM)$/) } },
    });
  });

  test('routes the path that was asked for, not one that a browser would make of it', async () => {
    expect((await ask({ path: '/x/../whoami', authorization: 'Bearer good' })).status).toBe(404);
    expect((await ask({ path: '//whoami', authorization: 'Bearer good' })).status).toBe(404);
  });

  test('is discovered by CoAP clients', async () => {
    expect(await ask({ path: '/.well-known/core' })).toMatchObject({
      status: 200,
      body: { contentType: 'application/link-format' },
    });
  });

  test('lets go of a request that nobody waits for', async () => {
    const controller = new AbortController();
    const outcome = ask({ path: '/hang' }, PLAIN, controller.signal);
    await new Promise((resolve) => setImmediate(resolve));
    controller.abort();
    expect(await outcome).toMatchObject({ status: 503 });
  });

  test('answers so many at a time and asks the others to come again', async () => {
    const controller = new AbortController();
    const hanging = Array.from({ length: 256 }, () => ask({ path: '/hang' }, PLAIN, controller.signal));
    expect(await ask({ path: '/whoami' })).toEqual({ status: 503, headers: { 'retry-after': '10' } });
    controller.abort();
    await Promise.all(hanging);
    expect((await ask({ path: '/whoami' })).status).toBe(401);
  });

  const deviceOf = (i: number): Caller => ({
    ...{ kind: 'device', key: i.toString(16).padStart(64, '0'), address: '192.0.2.1:1' },
  });

  test('keeps no server waiting for the long polls of devices', async () => {
    const controller = new AbortController();
    const hanging = Array.from({ length: 256 }, (_, i) =>
      ask({ path: '/hang' }, deviceOf(i >> 4), controller.signal),
    );
    expect((await ask({ path: '/whoami' }, deviceOf(16))).status).toBe(503);
    expect((await ask({ method: 'PUT', path: '/federation/x' }, SERVER)).status).toBe(200);
    controller.abort();
    await Promise.all(hanging);
  });

  test('keeps no device waiting for those of another', async () => {
    const controller = new AbortController();
    const hanging = Array.from({ length: 64 }, () => ask({ path: '/hang' }, deviceOf(0), controller.signal));
    expect((await ask({ path: '/whoami' }, deviceOf(0))).status).toBe(503);
    expect((await ask({ path: '/whoami' }, deviceOf(1))).status).toBe(401);
    controller.abort();
    await Promise.all(hanging);
    expect((await ask({ path: '/whoami' }, deviceOf(0))).status).toBe(401);
  });
});
