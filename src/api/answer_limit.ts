import type { FastifyRequest } from 'fastify';
import { MatrixError } from '../matrix/error.ts';

/** Where a door whose answers are put together in memory says how many bytes one may have, on the raw request. */
export const ANSWER_LIMIT: unique symbol = Symbol('answer limit');

declare module 'node:http' {
  interface IncomingMessage {
    [ANSWER_LIMIT]?: number;
  }
}

/** @throws MatrixError M_TOO_LARGE where a file does not go through the door that it was asked for at */
export function checkAnswerSize({ raw }: FastifyRequest, bytes: number): void {
  const limit = raw[ANSWER_LIMIT];
  if (limit !== undefined && bytes > limit)
    throw new MatrixError(
      502,
      'M_TOO_LARGE',
      `The file has more than the ${limit} bytes that can go this way.`,
    );
}
