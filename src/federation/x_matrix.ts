import { fromBase64 } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import type { Clock, Millis } from '../base/time.ts';
import { canonicalJson } from '../matrix/canonical_json.ts';
import { MatrixError } from '../matrix/error.ts';
import { type KeyId, parseKeyId, parseServerName, type ServerName } from '../matrix/ids.ts';
import type { JsonObject, JsonValue } from '../matrix/json.ts';
import { type SigningKey, signJson, verifyJson } from '../matrix/signing.ts';

/** What is signed of a request (server-server API, "Request Authentication", step 1). */
interface SignedRequest {
  readonly origin: ServerName;
  readonly destination: ServerName;
  readonly method: string;
  /** The request target as it stands in the request line: path and query. */
  readonly uri: string;
  /** The parsed body; undefined where there is none. */
  readonly content: JsonValue | undefined;
}

/** The parameters of an `Authorization: X-Matrix` header. */
interface XMatrix {
  readonly origin: ServerName;
  /** Servers older than v1.3 of the specification leave it out. */
  readonly destination: ServerName | undefined;
  readonly key: KeyId;
  /** Unpadded base64. */
  readonly signature: string;
}

const SCHEME = /^X-Matrix(?: +|$)/i;
/** Longest header that is looked at; a server name takes at most 261 characters, a signature 86. */
const MAX_HEADER_LENGTH = 4096;
/** One parameter (RFC 9110, section 11.2), unquoted values with the colons that older servers leave in them. */
const PARAMETER =
  /([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([!#$%&'*+.^_`|~0-9A-Za-z:/=-]+))/y;
const SEPARATOR = /[ \t]*(?:,[ \t]*)*/y;

/** The value of the Authorization header for a request of ours. */
export function authorizationHeader(request: SignedRequest, key: SigningKey): string {
  const signed = signJson(signedObject(request), request.origin, key);
  const signatures = signed.signatures as Record<string, Record<string, string>>;
  const { origin, destination } = request;
  // Server names, key ids and base64 hold nothing that needs a backslash.
  return `X-Matrix origin="${origin}",destination="${destination}",key="${key.keyId}",sig="${signatures[origin]![key.keyId]}"`;
}

/** Parses an Authorization header (RFC 9110, section 11.4). */
export function parseAuthorization(header: string): Result<XMatrix> {
  const scheme = SCHEME.exec(header.slice(0, MAX_HEADER_LENGTH));
  if (scheme === null || header.length > MAX_HEADER_LENGTH) return bad('not an X-Matrix header');
  const parameters = new Map<string, string>();
  for (let at = scheme[0].length; at < header.length; ) {
    PARAMETER.lastIndex = at;
    const match = PARAMETER.exec(header);
    if (match === null) return bad('a malformed parameter');
    const name = match[1]!.toLowerCase();
    if (parameters.has(name)) return bad(`${name} is given twice`);
    parameters.set(name, match[2]?.replace(/\\(.)/g, '$1') ?? match[3]!);
    SEPARATOR.lastIndex = PARAMETER.lastIndex;
    const gap = SEPARATOR.exec(header)![0];
    at = PARAMETER.lastIndex + gap.length;
    if (at < header.length && !gap.includes(',')) return bad('parameters without a comma between them');
  }
  const origin = parseServerName(parameters.get('origin') ?? '');
  const key = parseKeyId(parameters.get('key') ?? '');
  const signature = parameters.get('sig') ?? '';
  const destination = parameters.get('destination');
  const parsedDestination = destination === undefined ? undefined : parseServerName(destination);
  if (!origin.ok) return bad('origin is not a server name');
  if (!key.ok) return bad('key is not a key id');
  if (signature === '' || fromBase64(signature) === undefined) return bad('sig is not base64');
  if (parsedDestination?.ok === false) return bad('destination is not a server name');
  return ok({ origin: origin.value, destination: parsedDestination?.value, key: key.value, signature });
}

/** Who can say which key a server signs requests with at a time. */
export interface RequestKeys {
  /** The raw public key, or undefined where the server has no such key then. `at` is Unix time in milliseconds. */
  requestKey(server: ServerName, keyId: KeyId, at: Millis): Promise<Uint8Array | undefined>;
}

/** Checks the signatures of requests from other servers. */
export class RequestAuthenticator {
  readonly #serverName: ServerName;
  readonly #keys: RequestKeys;
  readonly #clock: Clock;

  constructor({
    serverName,
    keys,
    clock,
  }: {
    readonly serverName: ServerName;
    readonly keys: RequestKeys;
    readonly clock: Clock;
  }) {
    this.#serverName = serverName;
    this.#keys = keys;
    this.#clock = clock;
  }

  /**
   * The server that signed the request.
   * @param request `uri` as in the request line, before any rewriting
   * @throws MatrixError 401 M_UNAUTHORIZED
   */
  async authenticate(
    request: Omit<SignedRequest, 'origin' | 'destination'> & { readonly authorization: string | undefined },
  ): Promise<ServerName> {
    if (request.authorization === undefined) throw unauthorized('The request is not signed by a server.');
    const parsed = parseAuthorization(request.authorization);
    if (!parsed.ok) throw unauthorized(`The Authorization header is wrong: ${parsed.problem}.`);
    const { origin, destination = this.#serverName, key, signature } = parsed.value;
    if (destination !== this.#serverName) throw unauthorized('The request is for another server.');
    if (origin === this.#serverName) throw unauthorized('The request claims to come from this server.');
    const object = signedObject({ ...request, origin, destination }, parsed.value.destination === undefined);
    if (!canonicalJson(object, 'any').ok)
      throw unauthorized('The body is not canonical JSON, so nobody can sign it.');
    const publicKey = await this.#keys.requestKey(origin, key, this.#clock.wall());
    if (publicKey === undefined)
      throw unauthorized(`The key ${key} of ${origin} is not known or no longer valid.`);
    if (!verifyJson({ ...object, signatures: { [origin]: { [key]: signature } } }, origin, key, publicKey)) {
      throw unauthorized('The signature of the request is wrong.');
    }
    return origin;
  }
}

function signedObject(
  { method, uri, origin, destination, content }: SignedRequest,
  bare = false,
): JsonObject {
  return {
    method,
    uri,
    origin,
    // A server that does not name the destination has not signed it either.
    ...(!bare && { destination }),
    ...(content !== undefined && { content }),
  };
}

const unauthorized = (message: string): MatrixError => new MatrixError(401, 'M_UNAUTHORIZED', message);
