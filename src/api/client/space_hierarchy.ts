import type { FastifyInstance } from 'fastify';
import type { SpaceHierarchy } from '../../homeserver/space_hierarchy.ts';
import { roomParameter } from '../parameters.ts';
import { boolean, natural, type Query, text } from './query.ts';

/** Client-server API, "Spaces". */
export function spaceRoutes(
  app: FastifyInstance,
  { hierarchy }: { readonly hierarchy: SpaceHierarchy },
): void {
  app.get<{ Params: { roomId: string }; Querystring: Query }>(
    '/_matrix/client/v1/rooms/:roomId/hierarchy',
    { config: { auth: 'device' } },
    ({ requester: { user }, params, query }) =>
      hierarchy.page({
        user,
        room: roomParameter(params.roomId),
        suggestedOnly: boolean(query, 'suggested_only'),
        limit: natural(query, 'limit'),
        maxDepth: natural(query, 'max_depth'),
        from: text(query, 'from'),
      }),
  );
}
