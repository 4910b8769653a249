import type { FastifyInstance } from 'fastify';
import type { Directory } from '../../homeserver/directory.ts';
import type { Peeks } from '../../homeserver/peeks.ts';
import type { RoomSummaries } from '../../homeserver/room_summaries.ts';
import { eventParameter, roomParameter, serverParameter } from '../parameters.ts';
import { natural, type Query, text } from './query.ts';
import { roomOf } from './room_params.ts';
import { hangUp } from './sync.ts';

/** Servers that a client may name. */
const MAX_VIA = 20;

interface PreviewServices {
  readonly peeks: Peeks;
  readonly summaries: RoomSummaries;
  readonly directory: Directory;
}

/** Client-server API, "Room Previews" and "Room Summaries". */
export function roomPreviewRoutes(
  app: FastifyInstance,
  { peeks, summaries, directory }: PreviewServices,
): void {
  app.get<{ Params: { roomId: string }; Querystring: Query }>(
    '/_matrix/client/v3/rooms/:roomId/initialSync',
    { config: { auth: 'device' } },
    ({ requester, params, query }) =>
      peeks.snapshot(requester, roomParameter(params.roomId), natural(query, 'limit')),
  );

  app.get<{ Querystring: Query }>(
    '/_matrix/client/v3/events',
    { config: { auth: 'device', longPoll: true } },
    ({ requester, query }, reply) => {
      const room = text(query, 'room_id');
      return peeks.events({
        requester,
        room: room === undefined ? undefined : roomParameter(room),
        from: text(query, 'from'),
        timeoutMs: natural(query, 'timeout'),
        signal: hangUp(reply),
      });
    },
  );

  app.get<{ Params: { eventId: string } }>(
    '/_matrix/client/v3/events/:eventId',
    { config: { auth: 'device' } },
    ({ requester, params }) => peeks.event(requester, eventParameter(params.eventId)),
  );

  app.get<{ Params: { roomIdOrAlias: string }; Querystring: Query }>(
    '/_matrix/client/v1/room_summary/:roomIdOrAlias',
    { config: { auth: 'device' } },
    async ({ requester, params, query }) => {
      const { room, servers } = await roomOf(params.roomIdOrAlias, directory);
      const named = [query.via ?? []].flat().slice(0, MAX_VIA).map(serverParameter);
      return summaries.summary(room, requester.user, [...named, ...servers]);
    },
  );
}
