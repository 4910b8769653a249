import { Writable } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import { inject } from 'light-my-request';
import { pino } from 'pino';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type AppOptions, createApp } from '../../src/api/app.ts';
import { type BodyCodec, CLIENT_BODY_LIMIT, FEDERATION_BODY_LIMIT } from '../../src/api/bodies.ts';
import { CALLER } from '../../src/api/caller.ts';
import { fromUtf8, utf8 } from '../../src/base/bytes.ts';
import { bad, ok } from '../../src/base/result.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { MatrixError } from '../../src/matrix/error.ts';
import type { DeviceId, ServerName, UserId } from '../../src/matrix/ids.ts';
import type { JsonValue } from '../../src/matrix/json.ts';

const requester = { user: '@alice:a.example' as UserId, device: 'PHONE' as DeviceId };

/** Stands in for CBOR: JSON with a byte before it. */
const prefixed: BodyCodec = {
  encode: (value) => Uint8Array.of(0xcb, ...utf8(JSON.stringify(value))),
  decode: (bytes) =>
    bytes[0] === 0xcb ? ok(JSON.parse(fromUtf8(bytes.subarray(1)) ?? '') as JsonValue) : bad('not prefixed'),
};

const NAME_BODY = { type: 'object', required: ['name'], properties: { name: { type: 'string' } } } as const;
const LIMIT_QUERY = {
  type: 'object',
  required: ['from'],
  properties: { from: { type: 'string' }, limit: { type: 'string', pattern: '^[0-9]+$' } },
} as const;

async function exampleApp(options: Partial<AppOptions> = {}): Promise<FastifyInstance> {
  const app = createApp({
    clock: new VirtualClock(),
    authenticate: async (token) => (token === 'secret' ? requester : undefined),
    cbor: prefixed,
    ...options,
  });
  onTestFinished(() => app.close());
  app.get('/_matrix/client/v3/open', { config: { auth: 'none' } }, async () => ({ open: true }));
  app.get('/_matrix/client/v3/mine', { config: { auth: 'device' } }, async (request) => ({
    ...request.requester,
  }));
  app.post(
    '/_matrix/client/v3/name',
    { config: { auth: 'none' }, schema: { body: NAME_BODY } },
    async (request) => ({
      got: request.body as JsonValue,
    }),
  );
  app.get(
    '/_matrix/client/v3/list',
    { config: { auth: 'none' }, schema: { querystring: LIMIT_QUERY } },
    async () => ({}),
  );
  app.get<{ Params: { room: string; key: string } }>(
    '/_matrix/client/v3/rooms/:room/state/:key',
    { config: { auth: 'none' } },
    async (request) => ({ ...request.params }),
  );
  app.put(
    '/_matrix/federation/v1/send/:txnId',
    { config: { auth: 'server' }, bodyLimit: FEDERATION_BODY_LIMIT },
    async (request) => ({ origin: request.origin }),
  );
  app.get('/_matrix/client/v3/broken', { config: { auth: 'none' } }, async () => {
    throw new Error('the password is hunter2');
  });
  app.get('/_matrix/client/v3/limited', { config: { auth: 'none' } }, async () => {
    throw new MatrixError(429, 'M_LIMIT_EXCEEDED', 'Too many requests.', { retry_after_ms: 1500 });
  });
  await app.ready();
  return app;
}

describe('errors', () => {
  test.each([
    ['GET', '/_matrix/client/v3/nothing', 404],
    ['GET', '/_matrix/client/v3/open/further', 404],
    ['GET', '/', 404],
    ['DELETE', '/_matrix/client/v3/open', 405],
    ['HEAD', '/_matrix/client/v3/open', 405],
    ['POST', '/_matrix/client/v3/rooms/!r/state/x', 405],
    ['POST', '/_matrix/client/v3/open?query=1', 405],
  ] as const)('%s %s is %d M_UNRECOGNIZED, whatever the body', async (method, url, status) => {
    const app = await exampleApp();
    const body = method === 'GET' || method === 'HEAD' ? {} : { payload: '{not json' };
    const response = await app.inject({
      method,
      url,
      ...body,
      headers: { 'content-type': 'application/json' },
    });
    expect(response.statusCode).toBe(status);
    if (method !== 'HEAD')
      expect(response.json()).toMatchObject({ errcode: 'M_UNRECOGNIZED', error: expect.any(String) });
    expect(response.headers['content-type']).toMatch(/^application\/json/);
  });

  test.each([
    ['no body', undefined, 'application/json', 400, 'M_NOT_JSON'],
    ['text that is not JSON', '{"name": ', 'application/json', 400, 'M_NOT_JSON'],
    ['bytes that are not UTF-8', Buffer.from([0x22, 0xff, 0x22]), 'application/json', 400, 'M_NOT_JSON'],
    ['an array', '[]', 'application/json', 400, 'M_BAD_JSON'],
    ['a missing key', '{}', 'application/json', 400, 'M_BAD_JSON'],
    ['a number where text is due', '{"name": 7}', 'application/json', 400, 'M_BAD_JSON'],
    [
      'too many levels',
      `{"name":"x","deep":${'['.repeat(200)}${']'.repeat(200)}}`,
      'application/json',
      400,
      'M_BAD_JSON',
    ],
    ['a form', 'name=x', 'application/x-www-form-urlencoded', 400, 'M_NOT_JSON'],
    ['a picture', 'GIF89a', 'image/gif', 415, 'M_NOT_JSON'],
    ['a type that is no type', '{"name":"x"}', 'json!', 415, 'M_NOT_JSON'],
    ['broken CBOR', 'oops', 'application/cbor', 400, 'M_NOT_JSON'],
    ['too many bytes', ' '.repeat(CLIENT_BODY_LIMIT + 1), 'application/json', 413, 'M_TOO_LARGE'],
  ] as const)('a body with %s is refused', async (_, payload, type, status, errcode) => {
    const app = await exampleApp();
    const response = await app.inject({
      method: 'POST',
      url: '/_matrix/client/v3/name',
      headers: { 'content-type': type },
      ...(payload === undefined ? {} : { payload }),
    });
    expect(response.json()).toMatchObject({ errcode });
    expect(response.statusCode).toBe(status);
  });

  test('query parameters that are missing or wrong have their own codes', async () => {
    const app = await exampleApp();
    const missing = await app.inject('/_matrix/client/v3/list?limit=1');
    expect([missing.statusCode, missing.json().errcode]).toEqual([400, 'M_MISSING_PARAM']);
    const wrong = await app.inject('/_matrix/client/v3/list?from=a&limit=many');
    expect([wrong.statusCode, wrong.json().errcode]).toEqual([400, 'M_INVALID_PARAM']);
    expect((await app.inject('/_matrix/client/v3/list?from=a&limit=5')).statusCode).toBe(200);
  });

  test('a bug of ours is a 500 that gives nothing away', async () => {
    const app = await exampleApp();
    const response = await app.inject('/_matrix/client/v3/broken');
    expect(response.statusCode).toBe(500);
    expect(response.json()).toEqual({ errcode: 'M_UNKNOWN', error: expect.any(String) });
    expect(response.body).not.toContain('hunter2');
  });

  test('a 429 says in a header when to come back', async () => {
    const app = await exampleApp();
    const response = await app.inject('/_matrix/client/v3/limited');
    expect(response.headers['retry-after']).toBe('2');
    expect(response.json()).toMatchObject({ errcode: 'M_LIMIT_EXCEEDED', retry_after_ms: 1500 });
  });
});

describe('bodies', () => {
  const post = async (payload: string | Buffer, headers: Record<string, string>) => {
    const app = await exampleApp();
    return app.inject({ method: 'POST', url: '/_matrix/client/v3/name', payload, headers });
  };

  test.each([undefined, 'application/x-www-form-urlencoded', 'text/plain;charset=UTF-8'])(
    'JSON is taken where the type is %s',
    async (type) => {
      const response = await post('{"name":"x"}', type === undefined ? {} : { 'content-type': type });
      expect(response.json()).toEqual({ got: { name: 'x' } });
    },
  );

  test('nothing in them is coerced, filled in or removed', async () => {
    const payload = '{"name":"x","extra":{"n":9007199254740991,"__proto__":{"a":1}}}';
    const response = await post(payload, { 'content-type': 'application/json; charset=utf-8' });
    expect(response.body).toBe(`{"got":${payload}}`);
  });

  test('brackets in strings do not count as levels', async () => {
    const name = `${'['.repeat(300)}\\"${'{'.repeat(300)}`;
    const response = await post(`{"name":"${name}"}`, {});
    expect(response.statusCode).toBe(200);
  });

  test('CBOR is taken, and answered to whom accepts it, errors too', async () => {
    const headers = { 'content-type': 'application/cbor', accept: 'application/cbor' };
    const fine = await post(Buffer.from(prefixed.encode({ name: 'x' })), headers);
    expect(fine.headers['content-type']).toBe('application/cbor');
    expect(prefixed.decode(fine.rawPayload)).toEqual(ok({ got: { name: 'x' } }));
    const failed = await post(Buffer.from(prefixed.encode({})), headers);
    expect(failed.statusCode).toBe(400);
    expect(prefixed.decode(failed.rawPayload)).toMatchObject({ value: { errcode: 'M_BAD_JSON' } });
  });

  test.each([
    ['*/*', 'application/json; charset=utf-8'],
    ['application/json, application/cbor;q=0.5', 'application/json; charset=utf-8'],
    ['application/cbor;q=0', 'application/json; charset=utf-8'],
    ['application/json;q=0.5, application/cbor', 'application/cbor'],
  ])('who accepts %s gets %s', async (accept, type) => {
    const response = await post('{"name":"x"}', { accept });
    expect(response.headers['content-type']).toBe(type);
  });

  test('federation may send more than clients', async () => {
    const app = await exampleApp({ authenticateServer: async () => 'b.example' as ServerName });
    const big = JSON.stringify({ filler: 'x'.repeat(CLIENT_BODY_LIMIT) });
    const response = await app.inject({ method: 'PUT', url: '/_matrix/federation/v1/send/1', payload: big });
    expect(response.statusCode).toBe(200);
  });
});

describe('paths', () => {
  test('parameters hold percent-encoded slashes and long identifiers', async () => {
    const app = await exampleApp();
    const key = `a/b c?#%2F${'é'.repeat(120)}`;
    const response = await app.inject(
      `/_matrix/client/v3/rooms/${encodeURIComponent('!r:a.example')}/state/${encodeURIComponent(key)}`,
    );
    expect(response.json()).toEqual({ room: '!r:a.example', key });
  });

  test('a parameter that is too long is 414, one that is not validly encoded 400, both in Matrix terms', async () => {
    const app = await exampleApp();
    const long = await app.inject(`/_matrix/client/v3/rooms/!r/state/${'x'.repeat(1025)}`);
    expect([long.statusCode, long.json().errcode]).toEqual([414, 'M_TOO_LARGE']);
    const broken = await app.inject('/_matrix/client/v3/rooms/!r/state/%zz');
    expect([broken.statusCode, broken.json().errcode]).toEqual([400, 'M_INVALID_PARAM']);
    expect(broken.headers['access-control-allow-origin']).toBe('*');
  });

  test('r0 is answered as v3', async () => {
    const app = await exampleApp();
    expect((await app.inject('/_matrix/client/r0/open?x=1')).json()).toEqual({ open: true });
  });
});

describe('cross-origin requests', () => {
  test.each(['/_matrix/client/v3/mine', '/_matrix/client/v3/name', '/nowhere'])(
    'OPTIONS %s is answered without any logic',
    async (url) => {
      const app = await exampleApp();
      const response = await app.inject({ method: 'OPTIONS', url, headers: { origin: 'https://x.example' } });
      expect([response.statusCode, response.body]).toEqual([204, '']);
      expect(response.headers).toMatchObject({
        'access-control-allow-origin': '*',
        'access-control-allow-methods': 'GET, POST, PUT, DELETE, OPTIONS',
        'access-control-allow-headers': 'X-Requested-With, Content-Type, Authorization',
      });
    },
  );

  test('every answer has the headers, refusals too', async () => {
    const app = await exampleApp();
    for (const url of [
      '/_matrix/client/v3/open',
      '/_matrix/client/v3/mine',
      '/_matrix/client/v3/broken',
      '/nowhere',
    ]) {
      expect((await app.inject(url)).headers['access-control-allow-origin']).toBe('*');
    }
  });
});

describe('authentication', () => {
  const mine = async (authorization: string | undefined) => {
    const app = await exampleApp();
    return app.inject({
      url: '/_matrix/client/v3/mine',
      headers: authorization === undefined ? {} : { authorization },
    });
  };

  test('a device is known by its access token', async () => {
    expect((await mine('Bearer secret')).json()).toEqual(requester);
  });

  test.each([
    [undefined, 'M_MISSING_TOKEN'],
    ['Bearer wrong', 'M_UNKNOWN_TOKEN'],
    ['Basic secret', 'M_UNKNOWN_TOKEN'],
    ['Bearer', 'M_UNKNOWN_TOKEN'],
  ])('the header %s is 401 %s', async (authorization, errcode) => {
    const response = await mine(authorization);
    expect([response.statusCode, response.json().errcode]).toEqual([401, errcode]);
  });

  test('a stranger is refused before the body is looked at', async () => {
    const app = createApp({ clock: new VirtualClock(), authenticate: async () => undefined });
    onTestFinished(() => app.close());
    app.post('/x', { config: { auth: 'device' } }, async () => ({}));
    await app.ready();
    const response = await app.inject({ method: 'POST', url: '/x', payload: '{broken' });
    expect(response.json()).toMatchObject({ errcode: 'M_MISSING_TOKEN' });
  });

  const send = { method: 'PUT', url: '/_matrix/federation/v1/send/1', payload: {} } as const;

  test('a server is known by what signs the request, with the body at hand', async () => {
    const app = await exampleApp({
      authenticateServer: async (request) => {
        expect(request.body).toEqual({});
        return 'signed.example' as ServerName;
      },
    });
    expect((await app.inject(send)).json()).toEqual({ origin: 'signed.example' });
  });

  test('what a door has proved goes before a signature, and no header can say it', async () => {
    const app = await exampleApp({
      authenticateServer: async () => {
        throw new MatrixError(401, 'M_UNAUTHORIZED', 'no');
      },
    });
    const forged = await app.inject({
      ...send,
      headers: { caller: 'evil.example', 'symbol(caller)': 'evil.example' },
    });
    expect(forged.statusCode).toBe(401);

    const proved = await exampleApp();
    const response = await inject((request, reply) => {
      request[CALLER] = { kind: 'server', name: 'proved.example' as ServerName };
      proved.routing(request, reply);
    }, send);
    expect(response.json()).toEqual({ origin: 'proved.example' });
  });

  test('without either, a server is refused', async () => {
    const app = await exampleApp();
    const response = await app.inject(send);
    expect([response.statusCode, response.json().errcode]).toEqual([401, 'M_UNAUTHORIZED']);
  });

  test('a route that does not say who may call it cannot be registered', () => {
    const app = createApp({ clock: new VirtualClock(), authenticate: async () => undefined });
    onTestFinished(() => app.close());
    expect(() => app.get('/x', async () => ({}))).toThrow('says who may call it');
  });
});

describe('the log', () => {
  test('has the path of each request and no query, token or body', async () => {
    let log = '';
    const stream = new Writable({
      write(chunk, _, done) {
        log += String(chunk);
        done();
      },
    });
    const app = await exampleApp({ logger: pino({ level: 'trace' }, stream) });
    await app.inject({
      method: 'POST',
      url: '/_matrix/client/v3/name?access_token=querysecret',
      headers: { authorization: 'Bearer headersecret', 'content-type': 'application/json' },
      payload: '{"password":"bodysecret"',
    });
    await app.inject('/_matrix/client/v3/broken?x=querysecret');
    expect(log).toContain('"path":"/_matrix/client/v3/name"');
    expect(log).toContain('request failed');
    expect(log).not.toMatch(/querysecret|headersecret|bodysecret/);
  });
});
