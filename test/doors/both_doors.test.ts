import type { FastifyInstance } from 'fastify';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createApp } from '../../src/api/app.ts';
import { seededRandom } from '../../src/base/random.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { decodeJson, encodeJson } from '../../src/compact/cbor.ts';
import { openCoapDoor } from '../../src/doors/coap.ts';
import { CoapSocket } from '../../src/exchange/coap_socket.ts';
import { plainCodec } from '../../src/exchange/plain_codec.ts';
import type { Body, ExchangeRequest } from '../../src/exchange/request.ts';
import type { ExchangeResponse } from '../../src/exchange/response.ts';
import { MatrixError } from '../../src/matrix/error.ts';
import { FAST, MINUTE, serverName, World } from '../exchange/world.ts';

/* The same requests to one app through HTTP, through plain CoAP and through the pipe: all three say the same. */

/** Every status that the Matrix specification's operations and error codes name, and those that servers also send. */
const STATUSES = [
  ...[200, 201, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409, 410, 412, 413, 414, 415, 422],
  ...[429, 500, 501, 502, 503, 504, 520],
];
/** Those to which the Matrix specification gives a meaning, besides Content-Type. */
const KEPT_HEADERS = ['retry-after', 'content-disposition', 'location'];
const TYPES = ['image/png', 'video/mp4', 'text/plain; charset=utf-8', 'text/css', 'application/octet-stream'];

/** Opened routes that answer with what the request asks for. */
function exampleApp(): FastifyInstance {
  const cbor = { encode: encodeJson, decode: decodeJson };
  const app = createApp({ clock: new VirtualClock(), cbor, authenticate: async () => undefined });
  const none = { config: { auth: 'none' } } as const;
  type WithQuery = { Querystring: Record<string, string> };
  app.get<WithQuery>('/status', none, async ({ query }, reply) => {
    const { of, retry } = query;
    if (retry !== undefined) reply.header('retry-after', retry);
    return Number(of) === 304 ? reply.code(304).send() : reply.code(Number(of)).send({ of });
  });
  app.get('/limited', none, async () => {
    throw new MatrixError(429, 'M_LIMIT_EXCEEDED', 'slow down', { retry_after_ms: 2_500, soft: true });
  });
  app.get('/redirect', none, async (_, reply) => reply.redirect('https://cdn.example/a?b=c', 308));
  app.get<WithQuery>('/type', none, async ({ query }, reply) =>
    reply
      .type(query.of!)
      .header('content-disposition', 'inline; filename="a b.png"')
      .send(Buffer.from([0, 255, 13, 10])),
  );
  app.get('/json', none, async () => ({
    big: 2 ** 53 - 1,
    small: 1e-7,
    none: null,
    text: 'é\u0000\ud83d\ude00',
  }));
  for (const method of ['get', 'put', 'post', 'delete'] as const)
    app[method]<WithQuery & { Params: { '*': string } }>(
      '/echo/*',
      none,
      async ({ params, query, body }) => ({
        path: params['*'],
        query,
        ...(body === undefined ? {} : { body }),
      }),
    );
  return app;
}

const bodyOf = (type: string | undefined, bytes: Uint8Array): Body | undefined => {
  if (bytes.length === 0) return undefined;
  if (type?.startsWith('application/json') === true)
    return { kind: 'json', value: JSON.parse(new TextDecoder().decode(bytes)) };
  return { kind: 'bytes', contentType: type ?? '', bytes: new Uint8Array(bytes) };
};

/** A link that carries larger datagrams in pieces, as UDP does. */
const IN_PIECES = { ...FAST, largest: 65_507 };

describe('one app behind HTTP, plain CoAP and the pipe', () => {
  let app: FastifyInstance;
  let ask: (request: Partial<ExchangeRequest>) => Promise<Record<string, ExchangeResponse>>;

  beforeAll(async () => {
    app = exampleApp();
    const world = new World(1);
    // Nothing that goes through a pipe needs a longer datagram; in plain CoAP the options of a request are never divided.
    world.connect('a', 'b', FAST, { mtu: FAST.mtu });
    world.connect('c', 'b', IN_PIECES);
    const a = world.start('a', FAST);
    const b = world.start('b', FAST, { plain: 'trusted' });
    const { clock } = world.time;
    const plain = new CoapSocket({
      link: world.network.join('c', IN_PIECES),
      clock,
      random: seededRandom(3),
    });
    await openCoapDoor(app, b.socket, { encode: encodeJson, decode: decodeJson });

    const overHttp = async ({ method, path, query, body }: ExchangeRequest): Promise<ExchangeResponse> => {
      const { statusCode, headers, rawPayload } = await app.inject({
        method: method as 'GET',
        url: query === '' ? path : `${path}?${query}`,
        ...(body?.kind === 'json' ? { payload: body.value as object } : {}),
      });
      const kept = KEPT_HEADERS.filter((name) => headers[name] !== undefined);
      const answered = bodyOf(headers['content-type'] as string | undefined, rawPayload);
      return {
        status: statusCode,
        headers: Object.fromEntries(kept.map((name) => [name, String(headers[name])])),
        ...(answered === undefined ? {} : { body: answered }),
      };
    };
    const overPlain = async (request: ExchangeRequest): Promise<ExchangeResponse> => {
      const coap = plainCodec.encodeRequest(request);
      if (!coap.ok) throw new Error(coap.problem);
      const outcome = plain.request('b', coap.value, { timeoutMs: MINUTE });
      const response = plainCodec.decodeResponse(await world.time.until(outcome, 2 * MINUTE));
      if (!response.ok) throw new Error(response.problem);
      return response.value;
    };
    const overPipe = (request: ExchangeRequest): Promise<ExchangeResponse> =>
      world.time.until(
        a.socket.request(serverName('b'), 'b', request, { timeoutMs: MINUTE, priority: 1 }),
        2 * MINUTE,
      );
    ask = async (partial) => {
      const request = { method: 'GET', path: '/', query: '', ...partial };
      return {
        http: await overHttp(request),
        plain: await overPlain(request),
        pipe: await overPipe(request),
      };
    };
  });

  afterAll(() => app.close());

  /** What HTTP answers, after it was seen that the others answer the same. */
  async function same(request: Partial<ExchangeRequest>): Promise<ExchangeResponse> {
    const { http, plain, pipe } = await ask(request);
    expect(plain, 'plain CoAP').toEqual(http);
    expect(pipe, 'the pipe').toEqual(http);
    return http!;
  }

  test.each(STATUSES)('answers %i', async (status) => {
    expect((await same({ path: '/status', query: `of=${status}` })).status).toBe(status);
  });

  test.each(['0', '1', '4294967295', '4294967296', 'Fri, 31 Dec 1999 23:59:59 GMT'])(
    'keeps a Retry-After of %s, beside an error and beside a success',
    async (retry) => {
      for (const status of [200, 429, 503]) {
        const query = `of=${status}&retry=${encodeURIComponent(retry)}`;
        expect((await same({ path: '/status', query })).headers).toEqual({ 'retry-after': retry });
      }
    },
  );

  test('keeps errcode, error and retry_after_ms', async () => {
    expect(await same({ path: '/limited' })).toEqual({
      status: 429,
      headers: { 'retry-after': '3' },
      body: {
        kind: 'json',
        value: { errcode: 'M_LIMIT_EXCEEDED', error: 'slow down', retry_after_ms: 2_500, soft: true },
      },
    });
  });

  test.each(TYPES)('keeps the media type %s, and the bytes', async (type) => {
    expect(await same({ path: '/type', query: `of=${encodeURIComponent(type)}` })).toMatchObject({
      body: { contentType: type, bytes: Uint8Array.of(0, 255, 13, 10) },
    });
  });

  test('keeps where a redirection leads', async () => {
    expect((await same({ path: '/redirect' })).headers).toEqual({ location: 'https://cdn.example/a?b=c' });
  });

  test('keeps numbers and text', async () => {
    await same({ path: '/json' });
  });

  const sentence = 'a /?#&=%+é\u{1f600}';
  test.each([
    ['one part of 1,000 characters', '0123456789'.repeat(100), 'k=v'],
    ['4 KB of parts', Array.from({ length: 16 }, () => 'p'.repeat(255)).join('/'), ''],
    [
      'a query of 4 KB in one part',
      'x',
      `filter=${encodeURIComponent(JSON.stringify({ x: 'y'.repeat(4_000) }))}`,
    ],
    [
      'a query of 4 KB in many parts',
      'x',
      Array.from({ length: 40 }, (_, n) => `k${n}=${'v'.repeat(97)}`).join('&'),
    ],
    ['what has to be encoded', encodeURIComponent(sentence), `q=${encodeURIComponent(sentence)}`],
    ['a slash within a part', '%2Fa%2F/b', 'since=s%2F1'],
    ['empty parts', 'a//b/', 'a=&b&=c'],
    ['one argument twice', 'x', 'via=a.example&via=b.example%3A8448'],
    ['a space written as a plus', 'x', 'q=a+b'],
  ])('keeps %s', async (_name, path, query) => {
    expect((await same({ path: `/echo/${path}`, query })).status).toBe(200);
  });

  test.each(['PUT', 'POST', 'DELETE'])('answers a %s with a body', async (method) => {
    const body: Body = { kind: 'json', value: { text: 'é', list: [1, null, { deep: true }] } };
    const answer = await same({ method, path: '/echo/x', body });
    expect(answer).toMatchObject({ status: 200, body: { value: { body: body.value } } });
  });

  test('answers what there is not with the same error', async () => {
    expect(await same({ path: '/nowhere/at/all' })).toMatchObject({
      status: 404,
      body: { value: { errcode: 'M_UNRECOGNIZED' } },
    });
    expect((await same({ method: 'PUT', path: '/limited' })).status).toBe(405);
  });
});
