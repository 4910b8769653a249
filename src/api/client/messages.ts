import type { FastifyInstance } from 'fastify';
import type { Messages } from '../../homeserver/messages.ts';
import type { RoomId } from '../../matrix/ids.ts';
import { natural, oneOf, type Query, text } from './query.ts';
import { roomFilter } from './room_filter.ts';

/** Client-server API, "Getting events for a room": a page of history. */
export function messagesRoutes(app: FastifyInstance, { messages }: { readonly messages: Messages }): void {
  app.get<{ Params: { roomId: RoomId }; Querystring: Query }>(
    '/_matrix/client/v3/rooms/:roomId/messages',
    { config: { auth: 'device' } },
    async ({ requester, params, query }) =>
      messages.messages({
        requester,
        room: params.roomId,
        dir: oneOf(query, 'dir', ['b', 'f']),
        from: text(query, 'from'),
        to: text(query, 'to'),
        limit: natural(query, 'limit'),
        filter: roomFilter(query),
      }),
  );
}
