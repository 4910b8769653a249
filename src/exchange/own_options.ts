import type { CoapRequest, CoapResponse } from '../coap/api.ts';
import {
  firstOption,
  firstUint,
  OPTION,
  type Option,
  stringOf,
  stringOption,
  uintOption,
} from '../coap/options.ts';
import type { Body, ExchangeRequest, Method } from './request.ts';
import { HEADERS } from './response.ts';
import { codeOf, isStatus, statusOf } from './status.ts';

// The specification's.
/** The access token of MSC3079, "Access tokens": text. Never sticky: it holds for the request that carries it. */
const ACCESS_TOKEN = 256;

// Ours, out of the range for experiments (RFC 7252, section 12.2). All but TARGET are elective and safe to forward.
/** The exact HTTP status, uint, where the code does not tell it. */
const STATUS = 65000;
const TEXT_HEADERS: Readonly<Record<(typeof HEADERS)[number], number>> = {
  'content-disposition': 65004,
  location: 65008,
  /** Where it is not a number of seconds beside an error, which goes as Max-Age. */
  'retry-after': 65016,
};
/** A media type that has no number, text. */
export const CONTENT_TYPE = 65012;
/**
 * Path and query as in a URL, text, where a part of them is longer than the 255 bytes of an Uri-Path or Uri-Query: it
 * stands in their place. Critical, since without it the request would mean another resource.
 */
export const TARGET = 65003;

const BEARER = 'Bearer ';

/** The option that carries an Authorization header: the bare token of a Bearer, or the whole value of another scheme. */
export function authorizationOption(authorization: string): Option {
  const token = authorization.startsWith(BEARER) ? authorization.slice(BEARER.length) : authorization;
  return stringOption(ACCESS_TOKEN, token);
}

/** The Authorization header that the options carry, if any: a token has no space in it, another scheme has one. */
function authorizationOf(options: readonly Option[]): string | undefined {
  const token = firstText(options, ACCESS_TOKEN);
  if (token === undefined || !/^[\x20-\x7e]+$/.test(token)) return undefined;
  return token.includes(' ') ? token : BEARER + token;
}

/** A decoded request, with the Authorization header of the message that brought it. */
export function requestOf(
  coap: CoapRequest,
  method: Method,
  path: string,
  query: string,
  body: Body | undefined,
): ExchangeRequest {
  const authorization = authorizationOf(coap.options);
  return {
    method,
    path,
    query,
    ...(authorization === undefined ? {} : { authorization }),
    ...(body === undefined ? {} : { body }),
  };
}

/** The text of the first option with this number; undefined where there is none or it is not UTF-8. */
export function firstText(options: readonly Option[], number: number): string | undefined {
  const option = firstOption(options, number);
  return option === undefined ? undefined : stringOf(option);
}

/** CoAP's code and options for a status and the headers beside it. */
export function encodeHead(
  status: number,
  headers: Readonly<Record<string, string>>,
  method: string,
): { readonly code: number; readonly options: readonly Option[] } {
  const { code, exact } = codeOf(status, method);
  const options: Option[] = [];
  if (!exact) options.push(uintOption(STATUS, status));
  for (const name of HEADERS) {
    const value = headers[name];
    if (value === undefined) continue;
    if (name === 'retry-after' && status >= 400 && isSeconds(value))
      options.push(uintOption(OPTION.maxAge, Number(value)));
    else options.push(stringOption(TEXT_HEADERS[name], value));
  }
  return { code, options };
}

/** The status and the headers that a CoAP answer carries; undefined where its code is not an answer's. */
export function decodeHead(
  coap: CoapResponse,
): { readonly status: number; readonly headers: Readonly<Record<string, string>> } | undefined {
  const byCode = statusOf(coap.code);
  if (byCode === undefined) return undefined;
  const exact = firstUint(coap.options, STATUS);
  const status = exact !== undefined && isStatus(exact) ? exact : byCode;
  const headers: Record<string, string> = {};
  for (const name of HEADERS) {
    const value = firstText(coap.options, TEXT_HEADERS[name]);
    if (value !== undefined && isHeaderValue(value)) headers[name] = value;
  }
  const maxAge = firstUint(coap.options, OPTION.maxAge);
  if (maxAge !== undefined && maxAge > 0 && status >= 400) headers['retry-after'] ??= String(maxAge);
  return { status, headers };
}

/** Options in the order in which CoAP encodes them (RFC 7252, section 3.1). */
export const inOrder = (options: readonly Option[]): Option[] =>
  options.toSorted((a, b) => a.number - b.number);

/** A canonical number of seconds that fits the four bytes of Max-Age, where zero only says "not from a cache". */
const isSeconds = (value: string): boolean => /^[1-9]\d{0,9}$/.test(value) && Number(value) < 2 ** 32;

/** What may stand in an HTTP header: no control characters, so that a peer cannot begin another header. */
const isHeaderValue = (value: string): boolean => !/[\p{Cc}]/u.test(value);
