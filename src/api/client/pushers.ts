import type { FastifyInstance } from 'fastify';
import type { Pushers } from '../../homeserver/push/pushers.ts';
import type { JsonObject } from '../../matrix/json.ts';

const PUSHER_BODY = {
  type: 'object',
  required: ['kind', 'app_id', 'pushkey'],
  properties: {
    kind: { type: ['string', 'null'] },
    app_id: { type: 'string' },
    pushkey: { type: 'string' },
    app_display_name: { type: 'string' },
    device_display_name: { type: 'string' },
    profile_tag: { type: 'string' },
    lang: { type: 'string' },
    data: { type: 'object' },
    append: { type: 'boolean' },
  },
} as const;

/** Client-server API, "Push Notifications": who gets notifications pushed. */
export function pusherRoutes(app: FastifyInstance, { pushers }: { readonly pushers: Pushers }): void {
  app.get('/_matrix/client/v3/pushers', { config: { auth: 'device' } }, async ({ requester }) => ({
    pushers: await pushers.list(requester.user),
  }));

  app.post<{ Body: JsonObject }>(
    '/_matrix/client/v3/pushers/set',
    { config: { auth: 'device', repeated: 'ledger' }, schema: { body: PUSHER_BODY } },
    async ({ requester, body, once }) =>
      once.answer(
        (done) => pushers.set(requester, body, done),
        () => ({}),
      ),
  );
}
