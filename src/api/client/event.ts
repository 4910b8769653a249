import type { FastifyInstance } from 'fastify';
import type { Messages } from '../../homeserver/messages.ts';
import type { EventId, RoomId } from '../../matrix/ids.ts';
import { natural, type Query } from './query.ts';
import { roomFilter } from './room_filter.ts';

interface EventPath {
  readonly roomId: RoomId;
  readonly eventId: EventId;
}

/** Client-server API, "Getting events for a room" and "Event Context": one event, alone or with its neighbours. */
export function eventRoutes(app: FastifyInstance, { messages }: { readonly messages: Messages }): void {
  app.get<{ Params: EventPath }>(
    '/_matrix/client/v3/rooms/:roomId/event/:eventId',
    { config: { auth: 'device' } },
    async ({ requester, params }) => messages.event(requester, params.roomId, params.eventId),
  );

  app.get<{ Params: EventPath; Querystring: Query }>(
    '/_matrix/client/v3/rooms/:roomId/context/:eventId',
    { config: { auth: 'device' } },
    async ({ requester, params, query }) =>
      messages.context({
        requester,
        room: params.roomId,
        event: params.eventId,
        limit: natural(query, 'limit'),
        filter: roomFilter(query),
      }),
  );
}
