import { readFileSync } from 'node:fs';
import { fromUtf8, utf8 } from '../../base/bytes.ts';
import type { CoapRequest } from '../../coap/api.ts';
import { METHOD } from '../../coap/codes.ts';
import { LINK_FORMAT } from '../../coap/link_format.ts';
import { NO_BYTES } from '../../coap/message.ts';
import { OPTION, type Option, stringOption, uintOption } from '../../coap/options.ts';
import { encodeJson, tooDeep } from '../../compact/cbor.ts';
import { CBOR_FORMAT, JSON_FORMAT } from '../../exchange/content_format.ts';
import type { JsonValue } from '../../matrix/json.ts';
import { methodCode } from './options.ts';
import { ACCESS_TOKEN } from './render.ts';
import type { CoapUri } from './uri.ts';
import { UsageError } from './way.ts';

/** What was typed about the request itself. */
export interface RequestInput {
  readonly payload?: string;
  readonly json?: string;
  readonly cbor?: boolean;
  /** A file, or `-` for the standard input. */
  readonly file?: string;
  readonly option: readonly Option[];
  readonly accept?: number;
  readonly contentFormat?: number;
  /** `env`, `@` and a file, or the token itself. */
  readonly token?: string;
}

/** Where the specification's Matrix paths begin: their bodies go as CBOR (MSC3079). */
const MATRIX_PATHS = '/_matrix/';
const TOKEN_VARIABLE = 'RAVINE_TOKEN';
const STANDARD_INPUT = 0;

/** The name that asks for the list of what a server has, as a table. */
export const DISCOVER = 'discover';
/** The name that asks whether anybody is there. */
export const PING = 'ping';

/** Where a server lists what it has (RFC 6690, section 4). */
const CORE_PATH = ['.well-known', 'core'];

/** The request that was typed. @throws UsageError */
export function requestOf(method: string, uri: CoapUri, input: RequestInput): CoapRequest {
  const discover = method === DISCOVER;
  const code = discover ? METHOD.get : methodCode(method);
  if (code === undefined)
    throw new UsageError(
      `${method} is not a method: those are ${Object.keys(METHOD).join(', ')}, ${DISCOVER} and ${PING}.`,
    );
  const body = bodyOf(uri, input);
  const format = input.contentFormat ?? body.format;
  const accept = input.accept ?? (discover ? LINK_FORMAT : undefined);
  const core = discover && uri.path === '/' ? CORE_PATH : [];
  const options = [
    ...uri.options,
    ...core.map((segment) => stringOption(OPTION.uriPath, segment)),
    ...(format === undefined ? [] : [uintOption(OPTION.contentFormat, format)]),
    ...(accept === undefined ? [] : [uintOption(OPTION.accept, accept)]),
    ...(input.token === undefined ? [] : [stringOption(ACCESS_TOKEN, tokenOf(input.token))]),
    ...input.option,
  ];
  return { code, options: options.toSorted((a, b) => a.number - b.number), payload: body.payload };
}

function bodyOf(
  { path }: CoapUri,
  { payload, json, cbor, file }: RequestInput,
): { readonly payload: Uint8Array; readonly format?: number } {
  if ([payload, json, file].filter((one) => one !== undefined).length > 1)
    throw new UsageError('A request has one body: --payload, --json or --file.');
  if (cbor === true && json === undefined) throw new UsageError('--cbor says how --json is sent.');
  if (payload !== undefined) return { payload: utf8(payload) };
  if (file !== undefined) return { payload: new Uint8Array(contentOf(file)) };
  if (json === undefined) return { payload: NO_BYTES };
  const value = parseJson(json);
  if (!(cbor ?? path.startsWith(MATRIX_PATHS))) return { payload: utf8(json), format: JSON_FORMAT };
  return { payload: encodeJson(value), format: CBOR_FORMAT };
}

function parseJson(text: string): JsonValue {
  let value: JsonValue;
  try {
    value = JSON.parse(text) as JsonValue;
  } catch (error) {
    throw new UsageError(`--json takes JSON: ${(error as Error).message}.`);
  }
  if (tooDeep(value)) throw new UsageError('The JSON is nested too deeply.');
  return value;
}

function contentOf(file: string): Buffer {
  try {
    return readFileSync(file === '-' ? STANDARD_INPUT : file);
  } catch (error) {
    throw new UsageError(`${file} cannot be read: ${(error as Error).message}.`);
  }
}

function tokenOf(typed: string): string {
  const token =
    typed === 'env'
      ? process.env[TOKEN_VARIABLE]
      : typed.startsWith('@')
        ? fromUtf8(contentOf(typed.slice(1)))?.trim()
        : typed;
  if (token !== undefined && /^[\x21-\x7e]+$/.test(token)) return token;
  throw new UsageError(
    typed === 'env'
      ? `The environment variable ${TOKEN_VARIABLE} holds no access token.`
      : 'An access token is one line of visible characters.',
  );
}
