import type { FastifyInstance } from 'fastify';
import { SPEC_VERSIONS, UNSTABLE_FEATURES } from '../../homeserver/capabilities.ts';

/** Client-server API, "API Versions". */
export function versionRoutes(app: FastifyInstance): void {
  app.get('/_matrix/client/versions', { config: { auth: 'none' } }, async () => ({
    versions: SPEC_VERSIONS,
    unstable_features: UNSTABLE_FEATURES,
  }));
}
