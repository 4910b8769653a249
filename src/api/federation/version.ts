import type { FastifyInstance } from 'fastify';

/** `GET /_matrix/federation/v1/version`. */
export function versionRoutes(
  app: FastifyInstance,
  server: { readonly name: string; readonly version: string },
): void {
  app.get('/_matrix/federation/v1/version', { config: { auth: 'none' } }, async () => ({ server }));
}
