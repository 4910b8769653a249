import type { FastifyInstance } from 'fastify';
import { inject, type Response } from 'light-my-request';
import { ANSWER_LIMIT } from '../api/answer_limit.ts';
import type { BodyCodec } from '../api/bodies.ts';
import { CALLER } from '../api/caller.ts';
import { LEDGER_ENTRY } from '../api/once.ts';
import { assert } from '../base/assert.ts';
import { fromUtf8, utf8 } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import type { BodyForms } from '../exchange/body_forms.ts';
import { CORE_PATH, coreResponse } from '../exchange/core_links.ts';
import { MAX_UNPACKED_BYTES } from '../exchange/pipe_codec.ts';
import type { Body, Caller, ExchangeRequest } from '../exchange/request.ts';
import { type ExchangeResponse, errorResponse, HEADERS } from '../exchange/response.ts';
import { isSecret } from '../exchange/secret_routes.ts';
import type { RequestHandler } from '../exchange/serving.ts';
import { MatrixError } from '../matrix/error.ts';
import { parseJson } from '../matrix/json.ts';
import { answerOnce, type LedgerEntry, type Recognition } from './recognised.ts';

/** Requests that are being answered at a time, by who asks: the long polls of devices keep no server waiting. */
const MAX_REQUESTS: Readonly<Record<Caller['kind'] | 'observer', number>> = {
  server: 256,
  device: 256,
  plain: 256,
  observer: 4096,
};
/** Of those, the requests of one device, so that few devices keep no others waiting. */
const MAX_REQUESTS_OF_DEVICE = 16;
const BUSY: ExchangeResponse = { status: 503, headers: { 'retry-after': '10' } };

const READABLE: ExchangeResponse = {
  status: 403,
  headers: {},
  body: {
    kind: 'json',
    value: { errcode: 'M_FORBIDDEN', error: 'Everybody can read what passes here; this needs a private way' },
  },
};

const NO_FORM = new MatrixError(400, 'M_NOT_JSON', 'The form of the body is not known here');

/** A file that is answered: beside it stand its type, its name and what packs it. */
const MAX_FILE_BYTES = MAX_UNPACKED_BYTES - 16 * 1024;
/** Where files come in: what is JSON there is no JSON to us. */
const UPLOAD_PATH = /^\/_matrix\/media\/v3\/upload(?:\/|$)/;

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
 * @param forms of bodies, for peers of the pipe; left out: only JSON goes in and out
 */
export async function openCoapDoor(
  app: FastifyInstance,
  source: RequestSource,
  cbor: BodyCodec,
  recognition?: Recognition,
  forms?: BodyForms,
): Promise<void> {
  await app.ready();
  const open = { server: 0, device: 0, plain: 0, observer: 0 };
  /** By device, those that have any. */
  const openOf = new Map<string, number>();
  source.onRequest(async (caller, asked, signal, message) => {
    if (asked.path === CORE_PATH && asked.method === 'GET') return coreResponse(LINKS, asked.query);
    const who = asked.forObserver ? 'observer' : caller.kind;
    if (open[who] >= MAX_REQUESTS[who]) return BUSY;
    const device = caller.kind === 'device' && who === 'device' ? caller.key : undefined;
    const ofDevice = device === undefined ? 0 : (openOf.get(device) ?? 0);
    if (ofDevice >= MAX_REQUESTS_OF_DEVICE) return BUSY;
    if (caller.kind !== 'plain' && caller.mode === 'authenticated-only' && isSecret(asked)) return READABLE;
    open[who]++;
    if (device !== undefined) openOf.set(device, ofDevice + 1);
    try {
      const restored = await restore(caller, asked, forms);
      if (!restored.ok) return restored.problem;
      const request = restored.value;
      const payload = request.body && payloadOf(request.body, cbor);
      const run = async (entry?: LedgerEntry): Promise<ExchangeResponse> =>
        toExchange(await dispatch(app, { caller, request, payload, entry }, signal), cbor);
      const answer =
        recognition === undefined
          ? await run()
          : await answerOnce(recognition, { caller, request, payload }, message, run);
      const form = caller.kind === 'plain' ? undefined : await forms?.formAnswer(caller, request, answer);
      return form === undefined ? answer : { ...answer, body: form };
    } catch (error) {
      // The app's answer was cut off, since nobody waits for it.
      if (signal.aborted) return BUSY;
      throw error;
    } finally {
      open[who]--;
      const left = device === undefined ? 0 : openOf.get(device)! - 1;
      if (device !== undefined && left > 0) openOf.set(device, left);
      else if (device !== undefined) openOf.delete(device);
    }
  });
}

/** The request with a body that the app reads. */
async function restore(
  caller: Caller,
  request: ExchangeRequest,
  forms: BodyForms | undefined,
): Promise<Result<ExchangeRequest, ExchangeResponse>> {
  if (request.body?.kind === 'json' && UPLOAD_PATH.test(request.path)) {
    const bytes = utf8(JSON.stringify(request.body.value));
    return ok({ ...request, body: { kind: 'bytes', contentType: JSON_TYPE, bytes } });
  }
  if (request.body?.kind !== 'compact') return ok(request);
  if (forms === undefined) return bad(errorResponse(NO_FORM));
  const json = await forms.restoreRequest(caller, request, request.body.reader);
  return json.ok ? ok({ ...request, body: { kind: 'json', value: json.value } }) : json;
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
  if (body !== undefined) headers['content-type'] = body.kind === 'bytes' ? body.contentType : CBOR;
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
    raw[ANSWER_LIMIT] = MAX_FILE_BYTES;
    app.routing(raw, response);
  }, options);
}

function payloadOf(body: Body, cbor: BodyCodec): Buffer {
  assert(body.kind !== 'compact', 'the form of a body has been read');
  const bytes =
    body.kind === 'bytes' ? body.bytes : cbor.encode(body.kind === 'json' ? body.value : body.json);
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
  // A file is what it is, whatever its type.
  if (headers['content-disposition'] !== undefined)
    return { status, headers, body: { kind: 'bytes', contentType, bytes } };
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
  return { kind: 'json', value: parseJson(fromUtf8(bytes) ?? '') };
}
