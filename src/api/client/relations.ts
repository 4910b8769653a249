import type { FastifyInstance } from 'fastify';
import type { Relations } from '../../homeserver/relations.ts';
import { invalidParam } from '../../matrix/error.ts';
import type { EventId, RoomId } from '../../matrix/ids.ts';
import { boolean, natural, oneOf, type Query, text } from './query.ts';

interface RelatedParams {
  readonly roomId: RoomId;
  readonly eventId: EventId;
  readonly relType?: string;
  readonly eventType?: string;
}

/** Client-server API, "Relationships API" and "Querying threads in a room". */
export function relationRoutes(app: FastifyInstance, { relations }: { readonly relations: Relations }): void {
  const related = '/_matrix/client/v1/rooms/:roomId/relations/:eventId';
  for (const path of [related, `${related}/:relType`, `${related}/:relType/:eventType`]) {
    app.get<{ Params: RelatedParams; Querystring: Query }>(
      path,
      { config: { auth: 'device' } },
      async ({ requester, params, query }) =>
        relations.related({
          requester,
          room: params.roomId,
          event: params.eventId,
          relType: params.relType,
          type: params.eventType,
          recurse: boolean(query, 'recurse') ?? false,
          dir: query.dir === undefined ? 'b' : oneOf(query, 'dir', ['b', 'f']),
          from: text(query, 'from'),
          to: text(query, 'to'),
          limit: pageSize(query),
        }),
    );
  }

  app.get<{ Params: { roomId: RoomId }; Querystring: Query }>(
    '/_matrix/client/v1/rooms/:roomId/threads',
    { config: { auth: 'device' } },
    async ({ requester, params, query }) =>
      relations.threads({
        requester,
        room: params.roomId,
        participatedOnly:
          query.include !== undefined && oneOf(query, 'include', ['all', 'participated']) === 'participated',
        from: text(query, 'from'),
        limit: pageSize(query),
      }),
  );
}

function pageSize(query: Query): number | undefined {
  const limit = natural(query, 'limit');
  if (limit === 0) throw invalidParam('limit must be above 0.');
  return limit;
}
