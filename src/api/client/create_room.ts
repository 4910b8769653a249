import type { FastifyInstance } from 'fastify';
import type { CreateRoomRequest } from '../../homeserver/rooms/create_room.ts';
import type { Rooms } from '../../homeserver/rooms/rooms.ts';

/** Client-server API, POST /createRoom; how many there may be of what is the service's to say. */
const CREATE_ROOM = {
  type: 'object',
  properties: {
    visibility: { enum: ['public', 'private'] },
    room_alias_name: { type: 'string' },
    name: { type: 'string' },
    topic: { type: 'string' },
    invite: { type: 'array', items: { type: 'string' } },
    invite_3pid: { type: 'array', items: { type: 'object' } },
    room_version: { type: 'string' },
    creation_content: { type: 'object' },
    initial_state: {
      type: 'array',
      items: {
        type: 'object',
        required: ['type', 'content'],
        properties: { type: { type: 'string' }, state_key: { type: 'string' }, content: { type: 'object' } },
      },
    },
    preset: { enum: ['private_chat', 'public_chat', 'trusted_private_chat'] },
    is_direct: { type: 'boolean' },
    power_level_content_override: { type: 'object' },
  },
} as const;

/** Client-server API, "Creation". */
export function createRoomRoutes(app: FastifyInstance, { rooms }: { readonly rooms: Rooms }): void {
  app.post<{ Body: CreateRoomRequest }>(
    '/_matrix/client/v3/createRoom',
    { config: { auth: 'device', repeated: 'ledger' }, schema: { body: CREATE_ROOM } },
    async ({ requester, body, once }) => ({ room_id: await rooms.create(requester.user, body, once) }),
  );
}
