import { assert } from '../base/assert.ts';
import { concat, equal, fromUtf8, utf8 } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import type { CoapRequest, CoapResponse } from '../coap/api.ts';
import { code, METHOD } from '../coap/codes.ts';
import { NO_BYTES } from '../coap/message.ts';
import {
  firstOption,
  firstUint,
  OPTION,
  type Option,
  stringOf,
  stringOption,
  uintOption,
} from '../coap/options.ts';
import { decodeJson, encodeJson, tooDeep } from '../compact/cbor.ts';
import { SHA256 } from '../crypto/hash.ts';
import { MatrixError } from '../matrix/error.ts';
import { type JsonValue, parseJson } from '../matrix/json.ts';
import type { Codec } from './codec.ts';
import { CBOR_FORMAT, formatName, formatNumber, JSON_FORMAT } from './content_format.ts';
import {
  authorizationOption,
  CONTENT_TYPE,
  decodeHead,
  encodeHead,
  firstText,
  inOrder,
  requestOf,
  TARGET,
} from './own_options.ts';
import { expandPath } from './path_enums.ts';
import { type Body, type ExchangeRequest, isMethod, jsonOf, METHODS, methodOf } from './request.ts';
import type { ExchangeResponse } from './response.ts';
import { isTarget, joinTarget, splitTarget } from './target.ts';

// The specification's (RFC 7252, section 5.10).
const MAX_URI_OPTION_BYTES = 255;
/** 2.03: the client has the current representation (section 5.10.6.2). */
const VALID = code(2, 3);
/** Without it a cache between may give an answer to a GET again for a minute (section 5.6.1). */
const NOT_FROM_A_CACHE = uintOption(OPTION.maxAge, 0);

// Ours.
const ETAG_BYTES = 8;
/** The tag of a shorter answer costs more than it saves. */
const SHORTEST_TAGGED_BYTES = 64;

/**
 * Requests as RFC 7252 means them, for CoAP clients of any make: Uri-Path, Uri-Query, Content-Format and Accept. The
 * access token travels in option 256, as MSC3079 has it. JSON is read and written as JSON text (50) or CBOR (60).
 * A status that CoAP has no code for, and headers, travel in elective options (`own_options.ts`). Longer answers to
 * a GET carry an ETag, by which a client that asks again is told that nothing has changed.
 */
export const plainCodec: Codec = { encodeRequest, decodeRequest, encodeResponse, decodeResponse };

function encodeRequest(request: ExchangeRequest): Result<CoapRequest> {
  if (!isMethod(request.method)) return bad(`CoAP has no method ${request.method}`);
  const target = targetOptions(request);
  if (!target.ok) return target;
  const body = encodeBody(request.body, CBOR_FORMAT);
  if (body === undefined) return bad('the body is nested too deeply');
  const token = request.authorization === undefined ? [] : [authorizationOption(request.authorization)];
  return ok({
    code: METHODS[request.method],
    options: inOrder([...target.value, ...body.options, ...token]),
    payload: body.payload,
  });
}

function decodeRequest(coap: CoapRequest): Result<ExchangeRequest, MatrixError> {
  const method = methodOf(coap.code);
  if (method === undefined) return bad(new MatrixError(405, 'M_UNRECOGNIZED', 'No such method'));
  const accept = firstUint(coap.options, OPTION.accept);
  if (accept !== undefined && formatName(accept) === undefined)
    return bad(new MatrixError(406, 'M_UNRECOGNIZED', 'Accept: 50 (JSON) or 60 (CBOR)'));
  const target = decodeTarget(coap.options);
  if (target === undefined)
    return bad(new MatrixError(400, 'M_UNRECOGNIZED', 'Uri-Path or Uri-Query is malformed'));
  const body = decodeBody(coap);
  if (!body.ok) return body;
  return ok(requestOf(coap, method, ...target, body.value));
}

function encodeResponse(response: ExchangeResponse, to: CoapRequest): CoapResponse {
  const head = encodeHead(response.status, response.headers, methodOf(to.code) ?? 'GET');
  // What is too deep for CBOR is as deep in JSON text; the peer's JSON reader then has to judge.
  const body = encodeBody(response.body, wantedFormat(to)) ?? encodeBody(response.body, JSON_FORMAT)!;
  const options = [...head.options, ...body.options];
  if (to.code !== METHOD.get) return { code: head.code, options: inOrder(options), payload: body.payload };
  if (firstOption(options, OPTION.maxAge) === undefined) options.push(NOT_FROM_A_CACHE);
  if (response.status !== 200 || body.payload.length < SHORTEST_TAGGED_BYTES)
    return { code: head.code, options: inOrder(options), payload: body.payload };
  const tag: Option = { number: OPTION.eTag, value: eTagOf(body) };
  const known = to.options.some(({ number, value }) => number === OPTION.eTag && equal(value, tag.value));
  if (known) return { code: VALID, options: [tag, NOT_FROM_A_CACHE], payload: NO_BYTES };
  return { code: head.code, options: inOrder([...options, tag]), payload: body.payload };
}

/** A name for a representation: of the same bytes in the same form, the same. */
const eTagOf = (body: { readonly options: readonly Option[]; readonly payload: Uint8Array }): Uint8Array =>
  SHA256.digest(concat(...body.options.map(({ value }) => value), body.payload)).subarray(0, ETAG_BYTES);

function decodeResponse(coap: CoapResponse): Result<ExchangeResponse> {
  const head = decodeHead(coap);
  if (head === undefined) return bad('not an answer');
  const body = decodeBody(coap);
  // A CoAP endpoint's own errors carry text for people; the status still counts.
  if (!body.ok) return head.status >= 400 ? ok(head) : bad(body.problem.message);
  return ok({ ...head, ...(body.value === undefined ? {} : { body: body.value }) });
}

/** How JSON goes back: as Accept says, else as the request's own body came, else as CBOR. */
function wantedFormat(to: CoapRequest): number {
  const wanted = firstUint(to.options, OPTION.accept) ?? firstUint(to.options, OPTION.contentFormat);
  return wanted === JSON_FORMAT ? JSON_FORMAT : CBOR_FORMAT;
}

function encodeBody(
  body: Body | undefined,
  jsonFormat: number,
): { readonly options: readonly Option[]; readonly payload: Uint8Array } | undefined {
  if (body === undefined) return { options: [], payload: NO_BYTES };
  const json = jsonOf(body);
  if (json !== undefined) {
    const options = [uintOption(OPTION.contentFormat, jsonFormat)];
    if (jsonFormat === JSON_FORMAT) return { options, payload: utf8(JSON.stringify(json)) };
    return tooDeep(json) ? undefined : { options, payload: encodeJson(json) };
  }
  assert(body.kind === 'bytes', 'what a peer has formed is not passed on');
  const number = formatNumber(body.contentType);
  const option =
    number === undefined
      ? stringOption(CONTENT_TYPE, body.contentType)
      : uintOption(OPTION.contentFormat, number);
  return { options: [option], payload: body.bytes };
}

function decodeBody(coap: CoapRequest | CoapResponse): Result<Body | undefined, MatrixError> {
  const number = firstUint(coap.options, OPTION.contentFormat);
  const contentType = firstText(coap.options, CONTENT_TYPE);
  if (number === undefined && contentType !== undefined)
    return ok({ kind: 'bytes', contentType, bytes: coap.payload });
  if (coap.payload.length === 0 && (number === undefined || number === JSON_FORMAT || number === CBOR_FORMAT))
    return ok(undefined);
  const format = number ?? (looksLikeJsonText(coap.payload) ? JSON_FORMAT : CBOR_FORMAT);
  if (format === JSON_FORMAT || format === CBOR_FORMAT) {
    const value = format === JSON_FORMAT ? readJson(coap.payload) : decodeJson(coap.payload);
    if (value.ok) return ok({ kind: 'json', value: value.value });
    return bad(new MatrixError(400, 'M_NOT_JSON', `The payload cannot be read: ${value.problem}`));
  }
  const name = formatName(format);
  if (name === undefined) return bad(new MatrixError(415, 'M_UNRECOGNIZED', 'Unknown Content-Format'));
  return ok({ kind: 'bytes', contentType: name, bytes: coap.payload });
}

/** An object or array in JSON text; in CBOR the same first bytes would begin a text or byte string of 2^32 or more. */
const looksLikeJsonText = (payload: Uint8Array): boolean => payload[0] === 0x7b || payload[0] === 0x5b;

function readJson(bytes: Uint8Array): Result<JsonValue> {
  const text = fromUtf8(bytes);
  if (text === undefined) return bad('not UTF-8');
  try {
    const value = parseJson(text, 'whole');
    return tooDeep(value) ? bad('too deep') : ok(value);
  } catch {
    return bad('not JSON');
  }
}

/** Uri-Path and Uri-Query, or TARGET where a part is too long for them or would be read as another path. */
function targetOptions({ path, query }: ExchangeRequest): Result<Option[]> {
  const target = joinTarget(path, query);
  const segments = pathSegments(path);
  const parts = queryParts(query);
  if (segments === undefined || parts === undefined || !isTarget(target) || path.includes('?'))
    return bad('the path or query is not a URL, or too long');
  if (segments.some(isDotSegment)) return bad('CoAP has no relative path segments');
  const options = [
    ...segments.map((segment) => stringOption(OPTION.uriPath, segment)),
    ...parts.map((part) => stringOption(OPTION.uriQuery, part)),
  ];
  const fits = options.every(({ value }) => value.length <= MAX_URI_OPTION_BYTES);
  // What looks like a short path of MSC3079 and is none has to be said otherwise.
  const isClear = expandPath(segments) === undefined;
  return ok(fits && isClear ? options : [stringOption(TARGET, target)]);
}

/** RFC 7252, section 6.4, step 8: a path of a slash alone is no option at all. Undefined where the path is not one. */
function pathSegments(path: string): string[] | undefined {
  if (!path.startsWith('/')) return undefined;
  return path === '/' ? [] : decodeAll(path.slice(1).split('/'));
}

/** As HTTP's forms have it, a plus is a space; in an option every character stands for itself. */
function queryParts(query: string): string[] | undefined {
  return query === '' ? [] : decodeAll(query.replaceAll('+', ' ').split('&'));
}

function decodeAll(parts: readonly string[]): string[] | undefined {
  try {
    return parts.map(decodeURIComponent);
  } catch {
    return undefined;
  }
}

const isDotSegment = (segment: string): boolean => segment === '.' || segment === '..';

/** The texts of all options with this number, undefined where one is not UTF-8. */
function texts(options: readonly Option[], number: number): string[] | undefined {
  const all = options.filter((option) => option.number === number).map(stringOf);
  return all.some((text) => text === undefined) ? undefined : (all as string[]);
}

/** Path and query of the request; undefined where they are not what a URL could say. */
function decodeTarget(options: readonly Option[]): readonly [path: string, query: string] | undefined {
  const whole = firstOption(options, TARGET);
  if (whole !== undefined) {
    const target = stringOf(whole);
    if (target === undefined || !isTarget(target)) return undefined;
    const segments = pathSegments(splitTarget(target)[0]);
    return segments === undefined || segments.some(isDotSegment) ? undefined : splitTarget(target);
  }
  const path = decodePath(options);
  const query = decodeQuery(options);
  return path === undefined || query === undefined ? undefined : [path, query];
}

function decodePath(options: readonly Option[]): string | undefined {
  const segments = texts(options, OPTION.uriPath);
  if (segments === undefined || segments.some(isDotSegment)) return undefined;
  return `/${(expandPath(segments) ?? segments).map(encodeURIComponent).join('/')}`;
}

function decodeQuery(options: readonly Option[]): string | undefined {
  return texts(options, OPTION.uriQuery)
    ?.map((part) => {
      const equals = part.indexOf('=');
      if (equals < 0) return encodeURIComponent(part);
      return `${encodeURIComponent(part.slice(0, equals))}=${encodeURIComponent(part.slice(equals + 1))}`;
    })
    .join('&');
}
