import type { FastifyInstance } from 'fastify';
import type { Messages } from '../../homeserver/messages.ts';
import { missingParam } from '../../matrix/error.ts';
import type { EventId, RoomId } from '../../matrix/ids.ts';
import { roomParameter } from '../parameters.ts';
import { natural, oneOf, type Query } from './query.ts';
import { roomFilter } from './room_filter.ts';

interface EventPath {
  readonly roomId: RoomId;
  readonly eventId: EventId;
}

/** Client-server API, "Getting events for a room" and "Event Context": one event, alone or with its neighbours, or by
 * its time. */
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

  app.get<{ Params: { roomId: string }; Querystring: Query }>(
    '/_matrix/client/v1/rooms/:roomId/timestamp_to_event',
    { config: { auth: 'device' } },
    async ({ requester, params, query }) => {
      const time = natural(query, 'ts');
      if (time === undefined) throw missingParam('ts is missing.');
      const dir = oneOf(query, 'dir', ['b', 'f']);
      return messages.closest({ requester, room: roomParameter(params.roomId), time, dir });
    },
  );
}
