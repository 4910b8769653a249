import { MatrixError } from '../matrix/error.ts';
import type { ExchangeRequest } from './request.ts';
import { type ExchangeResponse, errorResponse } from './response.ts';

// What comes in the first message of a handshake may have been held back by somebody, and may come again after the disk was
// restored from a copy. So a request of this list either has no effect, or it is recognised durably by what it carries
// itself (docs/protocol.md, "Exactly once"). Never /sync, never an observation.

/** RFC 8470, section 5.2: whoever asked is to ask again, later. */
export const TOO_EARLY: ExchangeResponse = errorResponse(
  new MatrixError(425, 'M_UNKNOWN', 'This has to wait for the handshake'),
);

/** One segment of a path, as it is in a URL. */
const SEGMENT = '[^/?#]+';
const pattern = (path: string): RegExp => new RegExp(`^${path.replaceAll('*', SEGMENT)}$`);

/** Without effects, also at other servers. */
const GETS: readonly RegExp[] = [
  '/_matrix/client/versions',
  '/_matrix/federation/v1/version',
  '/_matrix/key/v2/server',
].map(pattern);

/** Deduplicated by (origin, transaction) or (device, transaction). */
const SENDS: readonly RegExp[] = [
  '/_matrix/federation/v1/send/*',
  '/_matrix/client/v3/rooms/*/send/*/*',
  '/_matrix/client/v3/rooms/*/redact/*/*',
].map(pattern);

const isAmong = (patterns: readonly RegExp[], path: string): boolean =>
  patterns.some((one) => one.test(path));

/**
 * Whether an own request goes early where that is possible. Only what has an effect: the answer to a GET comes no sooner by it.
 */
export const isEarlySend = ({ method, path, authorization }: ExchangeRequest): boolean =>
  method === 'PUT' && authorization === undefined && isAmong(SENDS, path);

/** Whether a request that has come early is let through. @param sends whether the operator allows those that have effects */
export const mayBeEarly = (request: ExchangeRequest, sends: boolean): boolean =>
  request.method === 'GET' ? isAmong(GETS, request.path) : sends && isEarlySend(request);
