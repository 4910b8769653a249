import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { badJson, invalidParam, MatrixError, missingParam } from '../matrix/error.ts';

/**
 * The one renderer of failed requests, for every door: a MatrixError as it says, Fastify's own errors as Matrix names
 * them, and everything else as a 500 that gives nothing away and is logged.
 */
export function sendError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const matrix = error instanceof MatrixError ? error : fromFastify(error, request);
  if (matrix === undefined) {
    request.log.error({ err: error }, 'request failed');
    return sendMatrixError(new MatrixError(500, 'M_UNKNOWN', 'Something went wrong on the server.'), reply);
  }
  return sendMatrixError(matrix, reply);
}

function sendMatrixError(error: MatrixError, reply: FastifyReply): FastifyReply {
  const { retry_after_ms: retryAfterMs } = error.extra;
  if (error.status === 429 && typeof retryAfterMs === 'number') {
    reply.header('retry-after', Math.ceil(retryAfterMs / 1000));
  }
  return reply.code(error.status).send(error.toJson());
}

/** What an error of the framework is in Matrix's terms; undefined where it is a bug of ours. */
function fromFastify(error: unknown, request: FastifyRequest): MatrixError | undefined {
  if (!(error instanceof Error)) return undefined;
  const { code, statusCode, validation, validationContext } = error as FastifyError;
  if (validation !== undefined) return fromValidation(error as FastifyError, validationContext, request);
  switch (code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new MatrixError(413, 'M_TOO_LARGE', 'The body is too large.');
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return new MatrixError(415, 'M_NOT_JSON', 'Send JSON, with Content-Type: application/json.');
    case 'FST_ERR_MAX_PARAM_LENGTH':
      return new MatrixError(414, 'M_TOO_LARGE', 'A part of the path is too long.');
    case 'FST_ERR_BAD_URL':
      return invalidParam('The path is not validly encoded.');
    default:
      return statusCode !== undefined && statusCode >= 400 && statusCode < 500
        ? new MatrixError(statusCode, 'M_UNKNOWN', 'The request is not valid.')
        : undefined;
  }
}

function fromValidation(
  { message, validation }: FastifyError,
  context: string | undefined,
  request: FastifyRequest,
): MatrixError {
  if (context === 'body') {
    return request.body === undefined ? notJson('The body has to be a JSON object.') : badJson(message);
  }
  return validation?.[0]?.keyword === 'required' ? missingParam(message) : invalidParam(message);
}

export const notJson = (message: string): MatrixError => new MatrixError(400, 'M_NOT_JSON', message);

export const unrecognized = (status: 404 | 405): MatrixError =>
  new MatrixError(
    status,
    'M_UNRECOGNIZED',
    status === 404 ? 'There is no such endpoint.' : 'The endpoint does not take this method.',
  );
