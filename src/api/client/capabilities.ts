import type { FastifyInstance } from 'fastify';
import { capabilities } from '../../homeserver/capabilities.ts';

/** Client-server API, "Capabilities negotiation", and from "Third-party Networks" that there are no bridges to any. */
export function capabilityRoutes(app: FastifyInstance): void {
  app.get('/_matrix/client/v3/capabilities', { config: { auth: 'device' } }, async () => ({
    capabilities: capabilities(),
  }));

  app.get('/_matrix/client/v3/thirdparty/protocols', { config: { auth: 'device' } }, async () => ({}));
}
