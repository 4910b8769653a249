import type { FastifyInstance } from 'fastify';
import type { UserDirectory } from '../../homeserver/user_directory.ts';
import { invalidParam } from '../../matrix/error.ts';
import { type Query, text } from './query.ts';

const BODY = {
  type: 'object',
  required: ['search_term'],
  properties: { search_term: { type: 'string' }, limit: { type: 'integer', minimum: 1 } },
} as const;

/** Client-server API, "User Directory" and "Mutual rooms". */
export function userDirectoryRoutes(
  app: FastifyInstance,
  { userDirectory }: { readonly userDirectory: UserDirectory },
): void {
  app.post<{ Body: { readonly search_term: string; readonly limit?: number } }>(
    '/_matrix/client/v3/user_directory/search',
    { config: { auth: 'device', repeated: { harmless: 'it only reads' } }, schema: { body: BODY } },
    async ({ requester, body }) => userDirectory.search(requester.user, body.search_term, body.limit),
  );

  app.get<{ Querystring: Query }>(
    '/_matrix/client/v1/mutual_rooms',
    { config: { auth: 'device' } },
    async ({ requester, query }) => {
      const user = text(query, 'user_id');
      // Not M_MISSING_PARAM: the specification names the one code for all of it.
      if (user === undefined) throw invalidParam('user_id is missing.');
      return userDirectory.mutualRooms(requester.user, user, text(query, 'from'));
    },
  );
}
