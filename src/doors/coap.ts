import type { FastifyInstance } from 'fastify';
import { inject, type Response } from 'light-my-request';
import type { BodyCodec } from '../api/bodies.ts';
import { CALLER } from '../api/caller.ts';
import { LEDGER_ENTRY } from '../api/once.ts';
import { assert } from '../base/assert.ts';
import { fromUtf8 } from '../base/bytes.ts';
import { CORE_PATH, coreResponse } from '../exchange/core_links.ts';
import type { Body, Caller, ExchangeRequest } from '../exchange/request.ts';
import { type ExchangeResponse, HEADERS } from '../exchange/response.ts';
import type { RequestHandler } from '../exchange/serving.ts';
import type { JsonValue } from '../matrix/json.ts';
import { answerOnce, type LedgerEntry, type Recognition } from './recognised.ts';
import { isSecret } from './secret_routes.ts';

/** Requests that are being answered at a time; long polls are among them. */
const MAX_REQUESTS = 256;
const BUSY: ExchangeResponse = { status: 503, headers: { 'retry-after': '10' } };

const READABLE: ExchangeResponse = {
  status: 403,
  headers: {},
  body: {
    kind: 'json',
    value: { errcode: 'M_FORBIDDEN', error: 'Everybody can read what passes here; this needs a private way' },
  },
};

const CBOR = 'application/cbor';
const JSON_TYPE = 'application/json';

/** What a CoAP client is told that looks around (RFC 6690). */
const LINKS = [
  {
    target: '/_matrix/client/versions',
    attributes: [
      { name: 'rt', value: 'matrix' },
      { name: 'ct', value: '50 60' },
    ],
  },
];

/** An exchange's socket, as far as a door needs it. */
interface RequestSource {
  onRequest(handle: RequestHandler): void;
}

/**
 * Lets requests that come through an exchange into the app: the same routes, hooks and errors as for HTTP, with CBOR
 * bodies so that no JSON text is made on the way. A server or a device that the pipe has proved is the request's CALLER;
 * whoever speaks plain CoAP has only the token that he brings. Of a pipe that everybody can read no secrets are accepted.
 * @param cbor the codec that the app was given as well
 * @param recognition how requests that come again are recognised; left out: only as CoAP does it, until a restart
 */
export async function openCoapDoor(
  app: FastifyInstance,
  source: RequestSource,
  cbor: BodyCodec,
  recognition?: Recognition,
): Promise<void> {
  await app.ready();
  let open = 0;
  source.onRequest(async (caller, request, signal, message) => {
    if (request.path === CORE_PATH && request.method === 'GET') return coreResponse(LINKS, request.query);
    if (open >= MAX_REQUESTS) return BUSY;
    if (caller.kind !== 'plain' && caller.mode === 'authenticated-only' && isSecret(request)) return READABLE;
    open++;
    try {
      const payload = request.body && payloadOf(request.body, cbor);
      const run = async (entry?: LedgerEntry): Promise<ExchangeResponse> =>
        toExchange(await dispatch(app, { caller, request, payload, entry }, signal), cbor);
      if (recognition === undefined) return await run();
      return await answerOnce(recognition, { caller, request, payload }, message, run);
    } catch (error) {
      // The app's answer was cut off, since nobody waits for it.
      if (signal.aborted) return BUSY;
      throw error;
    } finally {
      open--;
    }
  });
}

function dispatch(
  app: FastifyInstance,
  {
    caller,
    request,
    payload,
    entry,
  }: {
    readonly caller: Caller;
    readonly request: ExchangeRequest;
    readonly payload: Buffer | undefined;
    readonly entry: LedgerEntry | undefined;
  },
  signal: AbortSignal,
): Promise<Response> {
  const { method, path, query, authorization, body } = request;
  const headers: Record<string, string> = { accept: CBOR };
  if (authorization !== undefined) headers.authorization = authorization;
  if (body !== undefined) headers['content-type'] = body.kind === 'json' ? CBOR : body.contentType;
  const options = {
    method,
    // Replaced below: here it would be normalised, as a browser does it, and another path be routed than was asked for.
    url: '/',
    headers,
    ...(caller.kind === 'server' ? {} : { remoteAddress: caller.address }),
    ...(payload === undefined ? {} : { payload }),
    signal,
  };
  return inject((raw, response) => {
    raw.url = query === '' ? path : `${path}?${query}`;
    if (caller.kind !== 'plain') raw[CALLER] = caller;
    if (entry !== undefined) raw[LEDGER_ENTRY] = entry;
    app.routing(raw, response);
  }, options);
}

function payloadOf(body: Body, cbor: BodyCodec): Buffer {
  const bytes = body.kind === 'json' ? cbor.encode(body.value) : body.bytes;
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

function toExchange(response: Response, cbor: BodyCodec): ExchangeResponse {
  const headers: Record<string, string> = {};
  for (const name of HEADERS) {
    const value = response.headers[name];
    if (value !== undefined) headers[name] = String(value);
  }
  const bytes = new Uint8Array(response.rawPayload);
  const status = response.statusCode;
  if (bytes.length === 0) return { status, headers };
  const contentType = String(response.headers['content-type'] ?? 'application/octet-stream');
  return { status, headers, body: toBody(contentType, bytes, cbor) };
}

function toBody(contentType: string, bytes: Uint8Array, cbor: BodyCodec): Body {
  const [mediaType = ''] = contentType.split(';', 1);
  if (mediaType === CBOR) {
    const decoded = cbor.decode(bytes);
    assert(decoded.ok, 'the app answers with CBOR that it can read itself');
    return { kind: 'json', value: decoded.value };
  }
  if (mediaType !== JSON_TYPE) return { kind: 'bytes', contentType, bytes };
  // Errors that come before content negotiation.
  return { kind: 'json', value: JSON.parse(fromUtf8(bytes) ?? '') as JsonValue };
}
