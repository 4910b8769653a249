import type { FastifyInstance } from 'fastify';
import type { Directory } from '../../homeserver/directory.ts';
import type { Profiles } from '../../homeserver/profiles.ts';
import { invalidParam, missingParam, notFound } from '../../matrix/error.ts';
import { type ServerName, serverOf } from '../../matrix/ids.ts';
import { type Query, text } from '../client/query.ts';
import { aliasParameter, userParameter } from '../parameters.ts';

/** Server-server API, "Querying for information". */
export function queryRoutes(
  app: FastifyInstance,
  {
    serverName,
    profiles,
    directory,
  }: {
    readonly serverName: ServerName;
    readonly profiles: Pick<Profiles, 'get'>;
    readonly directory: Pick<Directory, 'local'>;
  },
): void {
  app.get<{ Querystring: Query }>(
    '/_matrix/federation/v1/query/directory',
    { config: { auth: 'server' } },
    async ({ query }) => {
      const given = text(query, 'room_alias');
      if (given === undefined) throw missingParam('room_alias is missing.');
      const alias = aliasParameter(given);
      if (serverOf(alias) !== serverName) throw invalidParam('The alias is not one of this server.');
      const { room, servers } = await directory.local(alias);
      return { room_id: room, servers: [...servers] };
    },
  );

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
