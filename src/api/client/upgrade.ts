import type { FastifyInstance } from 'fastify';
import type { Rooms } from '../../homeserver/rooms/rooms.ts';
import type { UpgradeRequest } from '../../homeserver/rooms/upgrade.ts';
import { roomParameter } from '../parameters.ts';

const UPGRADE_BODY = {
  type: 'object',
  required: ['new_version'],
  properties: {
    new_version: { type: 'string' },
    additional_creators: { type: 'array', maxItems: 100, items: { type: 'string' } },
  },
} as const;

/** Client-server API, "Room Upgrades". */
export function upgradeRoutes(app: FastifyInstance, { rooms }: { readonly rooms: Rooms }): void {
  app.post<{ Params: { roomId: string }; Body: UpgradeRequest }>(
    '/_matrix/client/v3/rooms/:roomId/upgrade',
    { config: { auth: 'device', repeated: 'ledger' }, schema: { body: UPGRADE_BODY } },
    async ({ requester: { user }, params, body, once }) => ({
      replacement_room: await rooms.upgrades.upgrade(roomParameter(params.roomId), user, body, once),
    }),
  );
}
