import type { JsonObject } from './json.ts';

/**
 * A request that failed, as the client will see it (client-server API, "Standard error response"). Rendered in one
 * place for every door.
 */
export class MatrixError extends Error {
  /** The HTTP status. */
  readonly status: number;
  readonly errcode: string;
  /** Further keys of the answer, such as `retry_after_ms` or `soft_logout`. */
  readonly extra: JsonObject;

  constructor(status: number, errcode: string, message: string, extra: JsonObject = {}) {
    super(message);
    this.name = 'MatrixError';
    this.status = status;
    this.errcode = errcode;
    this.extra = extra;
  }

  /** The body of the answer. */
  toJson(): JsonObject {
    return { errcode: this.errcode, error: this.message, ...this.extra };
  }
}

export const forbidden = (message: string): MatrixError => new MatrixError(403, 'M_FORBIDDEN', message);
export const notFound = (message: string): MatrixError => new MatrixError(404, 'M_NOT_FOUND', message);
export const badJson = (message: string): MatrixError => new MatrixError(400, 'M_BAD_JSON', message);
export const invalidParam = (message: string): MatrixError =>
  new MatrixError(400, 'M_INVALID_PARAM', message);
export const missingParam = (message: string): MatrixError =>
  new MatrixError(400, 'M_MISSING_PARAM', message);
export const unknownError = (status: number, message: string): MatrixError =>
  new MatrixError(status, 'M_UNKNOWN', message);
export const limitExceeded = (message: string, retryAfterMs: number): MatrixError =>
  new MatrixError(429, 'M_LIMIT_EXCEEDED', message, { retry_after_ms: retryAfterMs });
/** @param softLogout whether the client may keep what it has stored and get a new token for the same device */
export const unknownToken = (message: string, softLogout = false): MatrixError =>
  new MatrixError(401, 'M_UNKNOWN_TOKEN', message, { soft_logout: softLogout });
/** Client-server API, "Account locking". */
export const userLocked = (): MatrixError =>
  new MatrixError(401, 'M_USER_LOCKED', 'The account is locked.', { soft_logout: true });
/** Client-server API, "Account suspension". */
export const userSuspended = (): MatrixError =>
  new MatrixError(403, 'M_USER_SUSPENDED', 'You cannot do this while your account is suspended.');
