import type { FastifyInstance } from 'fastify';
import { capabilities } from '../../homeserver/capabilities.ts';
import type { Moderation } from '../../homeserver/moderation.ts';
import { notFound } from '../../matrix/error.ts';

/** Client-server API, "Capabilities negotiation", and from "Third-party Networks" that there are no bridges to any. */
export function capabilityRoutes(
  app: FastifyInstance,
  { moderation }: { readonly moderation: Pick<Moderation, 'isAdmin'> },
): void {
  app.get('/_matrix/client/v3/capabilities', { config: { auth: 'device' } }, async ({ requester }) => ({
    capabilities: capabilities({ isAdmin: await moderation.isAdmin(requester.user) }),
  }));

  const thirdParty = '/_matrix/client/v3/thirdparty';
  app.get(`${thirdParty}/protocols`, { config: { auth: 'device' } }, async () => ({}));
  for (const path of ['location', 'user'])
    app.get(`${thirdParty}/${path}`, { config: { auth: 'device' } }, async () => []);
  for (const path of ['protocol', 'location', 'user'])
    app.get(`${thirdParty}/${path}/:protocol`, { config: { auth: 'device' } }, async () => {
      throw notFound('There is no bridge to any other network.');
    });
}
