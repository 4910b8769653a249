import type { FastifyInstance } from 'fastify';
import type { Profiles } from '../../homeserver/profiles.ts';
import { invalidParam, missingParam, notFound } from '../../matrix/error.ts';
import { type ServerName, serverOf } from '../../matrix/ids.ts';
import { userParameter } from '../parameters.ts';

/** Server-server API, "Querying for information". */
export function queryRoutes(
  app: FastifyInstance,
  { serverName, profiles }: { readonly serverName: ServerName; readonly profiles: Pick<Profiles, 'get'> },
): void {
  app.get<{ Querystring: { user_id?: string; field?: string } }>(
    '/_matrix/federation/v1/query/profile',
    { config: { auth: 'server' } },
    async ({ query }) => {
      if (typeof query.user_id !== 'string') throw missingParam('user_id is missing.');
      const user = userParameter(query.user_id);
      if (serverOf(user) !== serverName) throw invalidParam('The user is not one of this server.');
      const profile = await profiles.get(user);
      if (profile === undefined) throw notFound('There is no such user.');
      if (query.field === undefined) return { ...profile };
      return Object.fromEntries(Object.entries(profile).filter(([field]) => field === query.field));
    },
  );
}
