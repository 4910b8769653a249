import { assert } from '../base/assert.ts';
import { concat } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import type { CoapRequest, CoapResponse } from '../coap/api.ts';
import { NO_BYTES } from '../coap/message.ts';
import {
  decodeByteStringAt,
  decodeJsonAt,
  encodeByteString,
  encodeJson,
  isByteString,
  tooDeep,
} from '../compact/cbor.ts';
import {
  type Coders,
  type ContainerProblem,
  isCompact,
  isCompactRequest,
  NO_CODERS,
  type Packing,
  pack,
  packAsItIs,
  packCompact,
  unpack,
  unpackCompact,
} from '../compact/container.ts';
import type { CompactContext } from '../compact/context.ts';
import { CompactReader } from '../compact/value_reader.ts';
import { CompactWriter } from '../compact/value_writer.ts';
import { MatrixError } from '../matrix/error.ts';
import type { Codec } from './codec.ts';
import {
  decodeCompactAnswer,
  decodeCompactRequest,
  encodeCompactParts,
  isNothing,
  missingHere,
} from './compact_payload.ts';
import { formatName, formatNumber } from './content_format.ts';
import { authorizationOption, decodeHead, encodeHead, inOrder, requestOf } from './own_options.ts';
import {
  type Body,
  type ExchangeRequest,
  isMethod,
  jsonOf,
  METHODS,
  type Method,
  methodOf,
} from './request.ts';
import type { ExchangeResponse } from './response.ts';
import { isTarget, joinTarget, splitTarget } from './target.ts';

// Ours.
/** The longest request or answer once it is unpacked, in bytes. */
export const MAX_UNPACKED_BYTES = 8 * 1024 * 1024;

/** How messages are written, and what they are read with. Both forms are always read. */
export interface PipeForm {
  /** Undefined: in the plain form, which every peer reads. Else in the compact one, with this context and packing. */
  readonly writing?: { readonly context: CompactContext; readonly packing: Packing };
  /** In the plain form nothing is compressed, since there may be secrets in it. */
  readonly hasSecrets?: boolean;
  readonly reading?: { readonly context: CompactContext; readonly coders: Coders };
}

/**
 * Requests between our own, inside the pipe. The method is CoAP's code, everything else is the payload: one container
 * (`compact/container.ts`). In the plain form it holds a CBOR sequence (RFC 8742):
 *
 *     request  = target [body]        target = text string: path, then "?" and the query where there is one
 *     answer   = [body]
 *     body     = JSON value  /  byte string, media type
 *     media type = unsigned: CoAP Content-Format  /  text string
 *
 * In the compact form see `compact_payload.ts`. An answer without body has no payload at all. The status is CoAP's code;
 * where that does not tell it, and for headers, the elective options of the plain door are used (`own_options.ts`). So is
 * option 256 for an Authorization header, which stays out of the container: it would be compressed beside text of the peer's
 * choice.
 */
export function pipeCodecFor({ writing, reading, hasSecrets = false }: PipeForm): Codec {
  const packPlain = hasSecrets ? packAsItIs : pack;
  const readingContext = reading?.context ?? {};
  const coders = reading?.coders ?? NO_CODERS;

  function encodeRequest(request: ExchangeRequest): Result<CoapRequest> {
    if (!isMethod(request.method)) return bad(`CoAP has no method ${request.method}`);
    const target = joinTarget(request.path, request.query);
    if (!isTarget(target) || request.path.includes('?'))
      return bad('the path or query is not a URL, or too long');
    if (isTooDeep(request.body)) return bad('the body is nested too deeply');
    if (writing !== undefined && isBareRequest(request))
      return ok({ code: SIGNATURES_CODE, options: [], payload: encodeBareRequest(request) });
    return ok({
      code: METHODS[request.method],
      options: request.authorization === undefined ? [] : [authorizationOption(request.authorization)],
      payload:
        writing === undefined
          ? packPlain(concat(encodeJson(target), encodeBody(request.body)))
          : packCompact(encodeCompactParts(writing.context, request, request.body), writing.packing),
    });
  }

  function decodeRequest(coap: CoapRequest): Result<ExchangeRequest, MatrixError> {
    if (coap.code === SIGNATURES_CODE) {
      const reader = new CompactReader(coap.payload, 0, readingContext);
      return ok(requestOf(coap, 'PUT', SIGNATURES_PATH, '', { kind: 'compact', reader }));
    }
    const method = methodOf(coap.code);
    if (method === undefined) return bad(new MatrixError(405, 'M_UNRECOGNIZED', 'No such method'));
    if (!isCompactRequest(coap.payload)) return decodePlainRequest(coap, method);
    const opened = unpackCompact(coap.payload, MAX_UNPACKED_BYTES, coders);
    if (!opened.ok) return bad(notOpened(opened.problem));
    const parts = decodeCompactRequest(opened.value, readingContext);
    if (!parts.ok) return bad(parts.problem);
    const { target, body } = parts.value;
    if (!isTarget(joinTarget(target.path, target.query)) || target.path.includes('?'))
      return bad(unreadable('it does not begin with a path'));
    if (target.method !== method) return bad(unreadable('its method is another one than its code'));
    return ok(requestOf(coap, method, target.path, target.query, body));
  }

  function encodeResponse(response: ExchangeResponse, to: CoapRequest): CoapResponse {
    if (isTooDeep(response.body)) {
      const error = new MatrixError(500, 'M_UNKNOWN', 'The answer is nested too deeply');
      return encodeResponse({ status: 500, headers: {}, body: { kind: 'json', value: error.toJson() } }, to);
    }
    const head = encodeHead(response.status, response.headers, methodOf(to.code) ?? 'GET');
    return { code: head.code, options: inOrder(head.options), payload: encodeAnswer(response.body) };
  }

  function encodeAnswer(body: Body | undefined): Uint8Array {
    if (body === undefined) return NO_BYTES;
    if (writing === undefined) return packPlain(encodeBody(body));
    const content = encodeCompactParts(writing.context, undefined, body);
    if (isNothing(body, content)) return NO_BYTES;
    const packed = packCompact(content, writing.packing);
    const isBare = body.kind === 'formed' && body.bare === true;
    return isBare && isPackedByItself(content.bytes) && content.bytes.length <= packed.length
      ? content.bytes
      : packed;
  }

  function decodeResponse(coap: CoapResponse, to?: ExchangeRequest): Result<ExchangeResponse> {
    const head = decodeHead(coap);
    if (head === undefined) return bad('not an answer');
    if (coap.payload.length === 0) return ok(head);
    const body = decodeAnswer(coap.payload, to !== undefined && isBareAnswer(to, head.status));
    // A CoAP endpoint's own errors carry text for people; the status still counts.
    if (!body.ok) return head.status >= 400 ? ok(head) : body;
    return ok({ ...head, ...(body.value === undefined ? {} : { body: body.value }) });
  }

  function decodeAnswer(payload: Uint8Array, mayBeBare: boolean): Result<Body | undefined> {
    if (isCompact(payload)) {
      const opened = unpackCompact(payload, MAX_UNPACKED_BYTES, coders);
      return opened.ok
        ? decodeCompactAnswer(opened.value, readingContext, mayBeBare)
        : bad(opened.problem.kind);
    }
    if (mayBeBare && isPackedByItself(payload))
      return decodeCompactAnswer({ bytes: payload, blobs: undefined }, readingContext, true);
    const opened = unpack(payload, MAX_UNPACKED_BYTES);
    return opened.ok ? decodeBody(opened.value, 0) : bad(opened.problem.kind);
  }

  return { encodeRequest, decodeRequest, encodeResponse, decodeResponse };
}

/** Answers of a client's commonest requests: nothing stands in front of their form. */
const BARE_ANSWERS: Readonly<Partial<Record<string, RegExp>>> = {
  PUT: /^\/_matrix\/client\/v3\/rooms\/[^/]+\/(?:send\/[^/]+\/[^/]+|redact\/[^/]+\/[^/]+|state\/[^/]+(?:\/[^/]*)?)$/,
  GET: /^\/_matrix\/client\/v3\/sync$/,
};

/** Whether a body that does not begin like a JSON object is a form, in the answer to this request. */
export const isBareAnswer = ({ method, path }: ExchangeRequest, status: number): boolean =>
  status === 200 && BARE_ANSWERS[method]?.test(path) === true;

/** Where signatures go that follow their events (docs/protocol.md, "Deferred signatures"). */
export const SIGNATURES_PATH = '/_matrix/federation/unstable/org.ravine.signatures';

/** iPATCH (RFC 8132), which HTTP has not: the payload is the form of a request to SIGNATURES_PATH, which nothing compresses. */
const SIGNATURES_CODE = 7;

const isBareRequest = ({ method, path, query, body }: ExchangeRequest): boolean =>
  method === 'PUT' && path === SIGNATURES_PATH && query === '' && body?.kind === 'formed';

function encodeBareRequest({ body }: ExchangeRequest): Uint8Array {
  const writer = new CompactWriter({});
  if (body?.kind === 'formed') body.write(writer);
  return writer.done();
}

/** First bytes that no container has: a bare form that begins so needs none, where it is shortest as it is. */
export const isPackedByItself = ([first = 0]: Uint8Array): boolean => first >= 0x20 && first < 0x80;

/** Writes the plain form. */
export const pipeCodec: Codec = pipeCodecFor({});

function decodePlainRequest(coap: CoapRequest, method: Method): Result<ExchangeRequest, MatrixError> {
  const opened = unpack(coap.payload, MAX_UNPACKED_BYTES);
  if (!opened.ok) return bad(notOpened(opened.problem));
  const target = decodeJsonAt(opened.value, 0);
  if (!target.ok) return bad(unreadable(target.problem));
  if (typeof target.value.value !== 'string' || !isTarget(target.value.value))
    return bad(unreadable('it does not begin with a path'));
  const body = decodeBody(opened.value, target.value.end);
  if (!body.ok) return bad(unreadable(body.problem));
  const [path, query] = splitTarget(target.value.value);
  return ok(requestOf(coap, method, path, query, body.value));
}

function isTooDeep(body: Body | undefined): boolean {
  const json = jsonOf(body);
  return json !== undefined && tooDeep(json);
}

/** The body's items in the plain form. */
function encodeBody(body: Body | undefined): Uint8Array {
  if (body === undefined) return NO_BYTES;
  const json = jsonOf(body);
  if (json !== undefined) return encodeJson(json);
  assert(body.kind === 'bytes', 'what a peer has formed is not passed on');
  return concat(encodeByteString(body.bytes), encodeJson(formatNumber(body.contentType) ?? body.contentType));
}

function decodeBody(bytes: Uint8Array, at: number): Result<Body | undefined> {
  if (at === bytes.length) return ok(undefined);
  if (!isByteString(bytes, at)) {
    const json = decodeJsonAt(bytes, at);
    if (!json.ok) return json;
    if (json.value.end !== bytes.length) return bad('trailing bytes');
    return ok({ kind: 'json', value: json.value.value });
  }
  const content = decodeByteStringAt(bytes, at);
  if (!content.ok) return content;
  const type = decodeJsonAt(bytes, content.value.end);
  if (!type.ok) return type;
  if (type.value.end !== bytes.length) return bad('trailing bytes');
  const named = type.value.value;
  const contentType = typeof named === 'number' ? formatName(named) : named;
  if (typeof contentType !== 'string') return bad('no media type');
  return ok({ kind: 'bytes', contentType, bytes: content.value.value });
}

function notOpened({ kind }: ContainerProblem): MatrixError {
  if (kind === 'too large') return new MatrixError(413, 'M_TOO_LARGE', 'The request is too large');
  return kind === 'unknown history' || kind === 'unknown model' ? missingHere(kind) : unreadable(kind);
}

const unreadable = (why: string): MatrixError =>
  new MatrixError(400, 'M_NOT_JSON', `The payload cannot be read: ${why}`);
