import type { FastifyInstance } from 'fastify';
import type { Moderation, Restriction } from '../../homeserver/moderation.ts';
import type { Done } from '../../homeserver/once.ts';
import type { JsonObject } from '../../matrix/json.ts';
import type { Connection } from '../../storage/connections.ts';
import { userParameter } from '../parameters.ts';

interface UserPath {
  readonly userId: string;
}

/** Client-server API, "Server administration". */
export function adminRoutes(app: FastifyInstance, { moderation }: { readonly moderation: Moderation }): void {
  app.get<{ Params: UserPath }>(
    '/_matrix/client/v3/admin/whois/:userId',
    { config: { auth: 'device' } },
    async ({ requester, params }) => {
      const user = userParameter(params.userId);
      const devices = await moderation.devicesOf(requester, user);
      return {
        user_id: user,
        devices: Object.fromEntries(
          [...devices].map(([device, connections]) => [
            device,
            { sessions: [{ connections: connections.map(toJson) }] },
          ]),
        ),
      };
    },
  );
  restrictionRoutes(app, moderation, 'lock', 'locked');
  restrictionRoutes(app, moderation, 'suspend', 'suspended');
}

function restrictionRoutes(
  app: FastifyInstance,
  moderation: Moderation,
  verb: 'lock' | 'suspend',
  restriction: Restriction,
): void {
  const path = `/_matrix/client/v1/admin/${verb}/:userId`;
  const body = {
    type: 'object',
    required: [restriction],
    properties: { [restriction]: { type: 'boolean' } },
  } as const;

  app.get<{ Params: UserPath }>(path, { config: { auth: 'device' } }, async ({ requester, params }) => ({
    [restriction]: await moderation.isRestricted(requester, userParameter(params.userId), restriction),
  }));

  app.put<{ Params: UserPath; Body: Record<Restriction, boolean> }>(
    path,
    { config: { auth: 'device', repeated: 'ledger' }, schema: { body } },
    async ({ requester, params, body, once }) =>
      once.answer(
        (done: Done<boolean>) =>
          moderation.restrict(requester, userParameter(params.userId), restriction, body[restriction], done),
        (value) => ({ [restriction]: value }),
      ),
  );
}

const toJson = ({ at, ip, agent }: Connection): JsonObject => ({
  ...(ip === null ? {} : { ip }),
  last_seen: at,
  ...(agent === null ? {} : { user_agent: agent }),
});
