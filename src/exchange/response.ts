import type { MatrixError } from '../matrix/error.ts';
import type { Body } from './request.ts';

/** The headers of an answer to which the Matrix specification gives a meaning, besides Content-Type. */
export const HEADERS = ['retry-after', 'content-disposition', 'location'] as const;

/** An answer with HTTP's meaning and without HTTP's bytes. */
export interface ExchangeResponse {
  /** The exact HTTP status, 200 to 599. */
  readonly status: number;
  /** Names in lower case, those of HEADERS only. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Body;
}

/** The answer that a MatrixError is (client-server API, "Standard error response"). */
export function errorResponse(error: MatrixError): ExchangeResponse {
  const retryAfterMs = error.extra.retry_after_ms;
  const headers: Record<string, string> =
    typeof retryAfterMs === 'number' ? { 'retry-after': String(Math.ceil(retryAfterMs / 1000)) } : {};
  return { status: error.status, headers, body: { kind: 'json', value: error.toJson() } };
}
