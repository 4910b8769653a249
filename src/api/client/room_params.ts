import type { FastifyRequest } from 'fastify';

/** `preValidation` of routes whose body may be left out. */
export async function emptyBody(request: FastifyRequest): Promise<void> {
  request.body ??= {};
}

/** Why somebody joins, leaves, or is made to. */
export const REASON = { type: 'string', maxLength: 65_536 } as const;
