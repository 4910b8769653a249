import type { FastifyInstance, FastifyRequest } from 'fastify';
import { fromUtf8 } from '../base/bytes.ts';
import type { Result } from '../base/result.ts';
import { badJson, MatrixError } from '../matrix/error.ts';
import { type JsonValue, parseJson } from '../matrix/json.ts';
import { notJson } from './errors.ts';

/** Bytes of a body that a client may send, and any route that does not say otherwise. */
export const CLIENT_BODY_LIMIT = 4 * 1024 * 1024;
/** Fits 50 PDUs of 64 KiB and 100 EDUs (server-server API, "Transactions") with room to spare. */
export const FEDERATION_BODY_LIMIT = 8 * 1024 * 1024;
/** How deep arrays and objects nest in JSON at most; code that walks a body by recursion relies on it. */
const MAX_JSON_DEPTH = 128;

/** Turns JSON values into another encoding and back; `decode` enforces a bound on nesting of its own. */
export interface BodyCodec {
  encode(value: JsonValue): Uint8Array;
  decode(bytes: Uint8Array): Result<JsonValue>;
}

/** What comes there was signed as it was written. */
const FEDERATION = '/_matrix/federation/';
const CBOR = 'application/cbor';
/** What tools say of their own accord, curl among them: it tells nothing of the body. */
const UNINTENDED = /^(?:application\/x-www-form-urlencoded|text\/plain)\b/i;

/** Takes JSON, also where the client did not say that it is, and CBOR; answers in what the client accepts. */
export function addBodies(app: FastifyInstance, cbor: BodyCodec | undefined): void {
  app.removeAllContentTypeParsers();
  const options = { parseAs: 'buffer' } as const;
  app.addContentTypeParser('application/json', options, async (request: FastifyRequest, bytes: Buffer) =>
    readJson(request, bytes),
  );
  // Also what has no type: "Clients should supply a Content-Type header [...], but this is not required".
  app.addContentTypeParser('*', options, async (request: FastifyRequest, bytes: Buffer) => {
    const type = request.headers['content-type'];
    if (type === undefined || UNINTENDED.test(type)) return readJson(request, bytes);
    throw new MatrixError(415, 'M_NOT_JSON', 'Send JSON, with Content-Type: application/json.');
  });
  if (cbor === undefined) return;

  app.addContentTypeParser(CBOR, options, async (_: FastifyRequest, bytes: Buffer) => {
    if (bytes.length === 0) return undefined;
    const decoded = cbor.decode(bytes);
    if (!decoded.ok) throw notJson(`The body is not valid CBOR: ${decoded.problem}`);
    return decoded.value;
  });
  app.addHook('preSerialization', async (request, reply, payload) => {
    if (prefersCbor(request.headers.accept)) {
      // Bytes go through as they are; the framework's type knows text only.
      const serialize = (value: JsonValue): Buffer => Buffer.from(cbor.encode(value));
      reply.type(CBOR).serializer(serialize as unknown as (value: JsonValue) => string);
    }
    return payload;
  });
}

function readJson({ url }: FastifyRequest, bytes: Buffer): JsonValue | undefined {
  if (bytes.length === 0) return undefined;
  const text = fromUtf8(bytes);
  if (text === undefined) throw notJson('The body is not valid UTF-8.');
  if (nestsTooDeep(bytes)) throw badJson(`The body nests deeper than ${MAX_JSON_DEPTH} levels.`);
  try {
    return parseJson(text, url.startsWith(FEDERATION) ? 'kept' : 'whole');
  } catch {
    // The parser's own message quotes the body, which may hold a password.
    throw notJson('The body is not valid JSON.');
  }
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

function nestsTooDeep(bytes: Uint8Array): boolean {
  let depth = 0;
  let inString = false;
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at];
    if (inString) {
      if (byte === BACKSLASH) at++;
      else if (byte === QUOTE) inString = false;
    } else if (byte === QUOTE) {
      inString = true;
    } else if (byte === OPEN_ARRAY || byte === OPEN_OBJECT) {
      if (++depth > MAX_JSON_DEPTH) return true;
    } else if (byte === CLOSE_ARRAY || byte === CLOSE_OBJECT) {
      depth--;
    }
  }
  return false;
}

/** Whether the Accept header (RFC 9110, section 12.5.1) names CBOR, and JSON not with a higher weight. */
export function prefersCbor(accept: string | undefined): boolean {
  if (accept === undefined || !accept.includes(CBOR)) return false;
  const weights = new Map<string, number>();
  for (const part of accept.split(',')) {
    const [type = '', ...parameters] = part.split(';').map((text) => text.trim().toLowerCase());
    const weight = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2);
    weights.set(type, weight === undefined ? 1 : Number(weight));
  }
  const weight = weights.get(CBOR) ?? 0;
  return weight > 0 && weight >= (weights.get('application/json') ?? 0);
}
