import type { FastifyInstance } from 'fastify';
import type { KeyRing } from '../../federation/key_ring.ts';

/** Server-server API, "Retrieving server keys". */
export function keyRoutes(app: FastifyInstance, { keys }: { readonly keys: KeyRing }): void {
  app.get('/_matrix/key/v2/server', { config: { auth: 'none' } }, async () => keys.ownKeys());
  // Older servers name the key that they are after. The answer is the same.
  app.get('/_matrix/key/v2/server/:keyId', { config: { auth: 'none' } }, async () => keys.ownKeys());
}
