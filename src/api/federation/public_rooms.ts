import type { FastifyInstance } from 'fastify';
import type { Directory } from '../../homeserver/directory.ts';
import type { PublicRoomsRequest } from '../../homeserver/ports.ts';
import { PUBLIC_ROOMS_BODY } from '../client/directory.ts';
import { natural, type Query, text } from '../client/query.ts';

const PATH = '/_matrix/federation/v1/publicRooms';

/** Server-server API, "Published room directory". Here a limit of 0 is none. */
export function publicRoomRoutes(
  app: FastifyInstance,
  { directory }: { readonly directory: Pick<Directory, 'publicRooms'> },
): void {
  app.get<{ Querystring: Query }>(PATH, { config: { auth: 'server' } }, ({ query }) =>
    directory.publicRooms({ limit: natural(query, 'limit') || undefined, since: text(query, 'since') }),
  );

  app.post<{ Body: PublicRoomsRequest }>(
    PATH,
    {
      config: { auth: 'server', repeated: { harmless: 'it changes nothing' } },
      schema: { body: PUBLIC_ROOMS_BODY },
    },
    ({ body }) => directory.publicRooms({ ...body, limit: body.limit || undefined }),
  );
}
