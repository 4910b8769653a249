import type { FastifyInstance } from 'fastify';
import { capabilities } from '../../homeserver/capabilities.ts';
import type { Moderation } from '../../homeserver/moderation.ts';

/** Client-server API, "Capabilities negotiation", and from "Third-party Networks" that there are no bridges to any. */
export function capabilityRoutes(
  app: FastifyInstance,
  { moderation }: { readonly moderation: Pick<Moderation, 'isAdmin'> },
): void {
  app.get('/_matrix/client/v3/capabilities', { config: { auth: 'device' } }, async ({ requester }) => ({
    capabilities: capabilities({ isAdmin: await moderation.isAdmin(requester.user) }),
  }));

  app.get('/_matrix/client/v3/thirdparty/protocols', { config: { auth: 'device' } }, async () => ({}));
}
