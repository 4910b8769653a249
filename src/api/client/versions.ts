import type { FastifyInstance } from 'fastify';
import { SPEC_VERSIONS } from '../../homeserver/capabilities.ts';
import { notFound } from '../../matrix/error.ts';

/**
 * Client-server API, "API Versions" and "Server Discovery".
 * @param publicBaseUrl where clients reach this server, or null where another web server answers that
 */
export function versionRoutes(
  app: FastifyInstance,
  { publicBaseUrl }: { readonly publicBaseUrl: string | null },
): void {
  app.get('/_matrix/client/versions', { config: { auth: 'none' } }, async () => ({
    versions: SPEC_VERSIONS,
    unstable_features: {},
  }));

  app.get('/.well-known/matrix/client', { config: { auth: 'none' } }, async () => {
    if (publicBaseUrl === null) throw notFound('The address of this server for clients is not configured.');
    return { 'm.homeserver': { base_url: publicBaseUrl } };
  });
}
