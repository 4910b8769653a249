import type { FastifyInstance } from 'fastify';
import { capabilities } from '../../homeserver/capabilities.ts';

/** Client-server API, "Capabilities negotiation". */
export function capabilityRoutes(app: FastifyInstance): void {
  app.get('/_matrix/client/v3/capabilities', { config: { auth: 'device' } }, async () => ({
    capabilities: capabilities(),
  }));
}
