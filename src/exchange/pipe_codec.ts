import { concat } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import type { CoapRequest, CoapResponse } from '../coap/api.ts';
import {
  decodeByteStringAt,
  decodeJsonAt,
  encodeByteString,
  encodeJson,
  isByteString,
  tooDeep,
} from '../compact/cbor.ts';
import { pack, unpack } from '../compact/container.ts';
import { MatrixError } from '../matrix/error.ts';
import type { Codec } from './codec.ts';
import { formatName, formatNumber } from './content_format.ts';
import { authorizationOption, decodeHead, encodeHead, inOrder, requestOf } from './own_options.ts';
import { type Body, type ExchangeRequest, isMethod, METHODS, methodOf } from './request.ts';
import type { ExchangeResponse } from './response.ts';
import { isTarget, joinTarget, splitTarget } from './target.ts';

// Ours.
/** The longest request or answer once it is unpacked, in bytes. */
export const MAX_UNPACKED_BYTES = 8 * 1024 * 1024;

/**
 * Requests between our own, inside the pipe. The method is CoAP's code, everything else is the payload: one container
 * (`compact/container.ts`) that holds a CBOR sequence (RFC 8742):
 *
 *     request  = target [body]        target = text string: path, then "?" and the query where there is one
 *     answer   = [body]
 *     body     = JSON value  /  byte string, media type
 *     media type = unsigned: CoAP Content-Format  /  text string
 *
 * An answer without body has no payload at all. The status is CoAP's code; where that does not tell it, and for
 * headers, the elective options of the plain door are used (`own_options.ts`). So is option 256 for an Authorization
 * header, which stays out of the container: it would be compressed beside text of the peer's choice.
 */
export const pipeCodec: Codec = { encodeRequest, decodeRequest, encodeResponse, decodeResponse };

function encodeRequest(request: ExchangeRequest): Result<CoapRequest> {
  if (!isMethod(request.method)) return bad(`CoAP has no method ${request.method}`);
  const target = joinTarget(request.path, request.query);
  if (!isTarget(target) || request.path.includes('?'))
    return bad('the path or query is not a URL, or too long');
  const body = encodeBody(request.body);
  if (body === undefined) return bad('the body is nested too deeply');
  return ok({
    code: METHODS[request.method],
    options: request.authorization === undefined ? [] : [authorizationOption(request.authorization)],
    payload: pack(concat(encodeJson(target), body)),
  });
}

function decodeRequest(coap: CoapRequest): Result<ExchangeRequest, MatrixError> {
  const method = methodOf(coap.code);
  if (method === undefined) return bad(new MatrixError(405, 'M_UNRECOGNIZED', 'No such method'));
  const opened = unpack(coap.payload, MAX_UNPACKED_BYTES);
  if (!opened.ok) {
    const tooLarge = opened.problem.kind === 'too large';
    return bad(
      tooLarge
        ? new MatrixError(413, 'M_TOO_LARGE', 'The request is too large')
        : unreadable(opened.problem.kind),
    );
  }
  const target = decodeJsonAt(opened.value, 0);
  if (!target.ok) return bad(unreadable(target.problem));
  if (typeof target.value.value !== 'string' || !isTarget(target.value.value))
    return bad(unreadable('it does not begin with a path'));
  const body = decodeBody(opened.value, target.value.end);
  if (!body.ok) return bad(unreadable(body.problem));
  const [path, query] = splitTarget(target.value.value);
  return ok(requestOf(coap, method, path, query, body.value));
}

function encodeResponse(response: ExchangeResponse, to: CoapRequest): CoapResponse {
  const head = encodeHead(response.status, response.headers, methodOf(to.code) ?? 'GET');
  const body = encodeBody(response.body);
  if (body === undefined) {
    const error = new MatrixError(500, 'M_UNKNOWN', 'The answer is nested too deeply');
    return encodeResponse({ status: 500, headers: {}, body: { kind: 'json', value: error.toJson() } }, to);
  }
  return { code: head.code, options: inOrder(head.options), payload: body.length === 0 ? body : pack(body) };
}

function decodeResponse(coap: CoapResponse): Result<ExchangeResponse> {
  const head = decodeHead(coap);
  if (head === undefined) return bad('not an answer');
  if (coap.payload.length === 0) return ok(head);
  const opened = unpack(coap.payload, MAX_UNPACKED_BYTES);
  const body = opened.ok ? decodeBody(opened.value, 0) : bad(opened.problem.kind);
  // A CoAP endpoint's own errors carry text for people; the status still counts.
  if (!body.ok) return head.status >= 400 ? ok(head) : body;
  return ok({ ...head, ...(body.value === undefined ? {} : { body: body.value }) });
}

/** The body's items; undefined where it is nested more deeply than they can say. */
function encodeBody(body: Body | undefined): Uint8Array | undefined {
  if (body === undefined) return new Uint8Array(0);
  if (body.kind === 'json') return tooDeep(body.value) ? undefined : encodeJson(body.value);
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

const unreadable = (why: string): MatrixError =>
  new MatrixError(400, 'M_NOT_JSON', `The payload cannot be read: ${why}`);
