import type { FastifyInstance } from 'fastify';
import type { SpaceHierarchy } from '../../homeserver/space_hierarchy.ts';
import { boolean, type Query } from '../client/query.ts';
import { roomParameter } from '../parameters.ts';

/** Server-server API, "Spaces". */
export function spaceHierarchyRoutes(
  app: FastifyInstance,
  { hierarchy }: { readonly hierarchy: SpaceHierarchy },
): void {
  app.get<{ Params: { roomId: string }; Querystring: Query }>(
    '/_matrix/federation/v1/hierarchy/:roomId',
    { config: { auth: 'server' } },
    ({ origin, params, query }) =>
      hierarchy.forServer(roomParameter(params.roomId), origin, boolean(query, 'suggested_only') === true),
  );
}
