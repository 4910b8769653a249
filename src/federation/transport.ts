import type { Priority } from '../base/priority.ts';
import type { Millis } from '../base/time.ts';
import { MatrixError } from '../matrix/error.ts';
import type { ServerName } from '../matrix/ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../matrix/json.ts';

/** One request of the server-server API. */
export interface FederationCall {
  readonly method: 'GET' | 'POST' | 'PUT';
  /** As in a URL: percent-encoded, starting with a slash. */
  readonly path: string;
  /** As in a URL, without the question mark. */
  readonly query?: string;
  readonly body?: JsonValue;
  /** Of the room that the event in the body is of, where this server has not got the room. */
  readonly roomVersion?: string;
  /** How long the answer may take; a transport over a slow link allows more. */
  readonly timeoutMs: Millis;
  readonly priority: Priority;
  readonly signal?: AbortSignal;
}

/** Carries requests to other servers and proves, both ways, who speaks. */
export interface FederationTransport {
  /**
   * @returns the body of a 2xx answer
   * @throws FederationError where there was no answer that could be used
   * @throws MatrixError as the other server answered
   */
  request(
    destination: ServerName,
    call: FederationCall,
  ): Promise<{ readonly status: number; readonly body: JsonValue }>;
}

/** A file that another server gives. */
export interface FederationDownload {
  /** The media type of the answer, with its parameters. */
  readonly contentType: string;
  /** To be read, or given up, soon: a connection hangs on it. Throws FederationError. */
  readonly content: AsyncIterable<Uint8Array>;
}

/** Carries files, as they come. */
export interface DownloadTransport {
  /**
   * @param call `timeoutMs` is for the whole file
   * @throws FederationError, MatrixError: as `request`
   */
  download(destination: ServerName, call: FederationCall): Promise<FederationDownload>;
}

type FederationProblem =
  /** No connection, or it broke. */
  | 'unreachable'
  | 'timeout'
  /** We will not talk to it: its certificate, its key or its address is not acceptable, or it does not accept us. */
  | 'refused'
  /** An answer that is not JSON, too large, or not what the specification says. */
  | 'bad_answer';

/** A request to another server without a usable answer. */
export class FederationError extends Error {
  readonly problem: FederationProblem;

  constructor(problem: FederationProblem, message: string) {
    super(message);
    this.name = 'FederationError';
    this.problem = problem;
  }
}

/** Longest part of another server's error text that is passed on. */
const MAX_ERROR_TEXT = 500;

/** The fields besides errcode and error that mean something to us or to our clients; all others end here. */
const ERROR_FIELDS = ['room_version', 'retry_after_ms'] as const;

/** The MatrixError in another server's answer; M_UNKNOWN where the answer is not one. */
export function remoteError(status: number, body: JsonValue): MatrixError {
  const known = status >= 400 && status <= 599 ? status : 502;
  if (!isJsonObject(body) || typeof body.errcode !== 'string') {
    return new MatrixError(known, 'M_UNKNOWN', `the server answered with status ${status}`);
  }
  const { errcode, error } = body;
  const extra: JsonObject = {};
  for (const field of ERROR_FIELDS) {
    const value = own(body, field);
    if (typeof value === 'number' || (typeof value === 'string' && value.length <= MAX_ERROR_TEXT))
      extra[field] = value;
  }
  const text = typeof error === 'string' ? error.slice(0, MAX_ERROR_TEXT) : '';
  return new MatrixError(known, errcode.slice(0, MAX_ERROR_TEXT), text, extra);
}

/** A path with each argument percent-encoded as one segment. */
export function path(strings: TemplateStringsArray, ...segments: readonly string[]): string {
  return strings.reduce((whole, part, i) => whole + encodeURIComponent(segments[i - 1]!) + part);
}
