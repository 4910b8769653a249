import type { FastifyInstance } from 'fastify';
import type { Presence } from '../../homeserver/presence.ts';
import { forbidden } from '../../matrix/error.ts';
import type { PresenceState } from '../../storage/presence.ts';
import { userParameter } from '../parameters.ts';

/** Client-server API, "Presence": what `presence` and `set_presence` can be. */
export const PRESENCE_STATES: readonly PresenceState[] = ['offline', 'online', 'unavailable'];

const BODY = {
  type: 'object',
  required: ['presence'],
  properties: { presence: { enum: PRESENCE_STATES }, status_msg: { type: ['string', 'null'] } },
} as const;

/** Client-server API, "Presence". */
export function presenceRoutes(app: FastifyInstance, { presence }: { readonly presence: Presence }): void {
  const path = '/_matrix/client/v3/presence/:userId/status';
  app.get<{ Params: { userId: string } }>(path, { config: { auth: 'device' } }, ({ requester, params }) =>
    presence.get(requester.user, userParameter(params.userId)),
  );

  app.put<{
    Params: { userId: string };
    Body: { readonly presence: PresenceState; readonly status_msg?: string | null };
  }>(
    path,
    {
      config: { auth: 'device', repeated: { harmless: 'it says what somebody is now, and ends by itself' } },
      schema: { body: BODY },
    },
    async ({ requester, params, body }) => {
      if (params.userId !== requester.user) throw forbidden('You can only say it of yourself.');
      await presence.set(requester, body.presence, body.status_msg ?? null);
      return {};
    },
  );
}
