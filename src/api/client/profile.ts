import type { FastifyInstance } from 'fastify';
import type { RemoteProfiles } from '../../homeserver/ports.ts';
import type { Profile, Profiles } from '../../homeserver/profiles.ts';
import { forbidden, missingParam, notFound } from '../../matrix/error.ts';
import { type ServerName, serverOf, type UserId } from '../../matrix/ids.ts';
import { type JsonObject, own } from '../../matrix/json.ts';
import { userParameter } from '../parameters.ts';

interface FieldPath {
  readonly userId: string;
  readonly keyName: string;
}

const FIELD_BODY = { type: 'object' } as const;
const CONFIG = { auth: 'device', repeated: 'ledger' } as const;

/** Client-server API, "Profiles". */
export function profileRoutes(
  app: FastifyInstance,
  {
    profiles,
    remoteProfiles,
    serverName,
  }: {
    readonly profiles: Profiles;
    readonly remoteProfiles: RemoteProfiles;
    readonly serverName: ServerName;
  },
): void {
  const profileOf = async (userId: string): Promise<Profile> => {
    const user = userParameter(userId);
    if (serverOf(user) !== serverName) return remoteProfiles.profile(user);
    const profile = await profiles.get(user);
    if (profile === undefined) throw notFound('There is no profile of this user.');
    return profile;
  };

  app.get<{ Params: { userId: string } }>(
    '/_matrix/client/v3/profile/:userId',
    { config: { auth: 'none' } },
    async ({ params }) => ({ ...(await profileOf(params.userId)) }),
  );

  app.get<{ Params: FieldPath }>(
    '/_matrix/client/v3/profile/:userId/:keyName',
    { config: { auth: 'none' } },
    async ({ params }) => {
      const value = own(await profileOf(params.userId), params.keyName);
      if (value === undefined) throw notFound('The user has not set this.');
      return { [params.keyName]: value };
    },
  );

  app.put<{ Params: FieldPath; Body: JsonObject }>(
    '/_matrix/client/v3/profile/:userId/:keyName',
    { config: CONFIG, schema: { body: FIELD_BODY } },
    async ({ requester, params, body, once }) => {
      checkOwn(requester.user, params);
      const value = own(body, params.keyName);
      if (value === undefined) throw missingParam(`${params.keyName} is missing.`);
      return once.answer((done) => profiles.set(requester.user, params.keyName, value, done), nothing);
    },
  );

  app.delete<{ Params: FieldPath }>(
    '/_matrix/client/v3/profile/:userId/:keyName',
    { config: CONFIG },
    async ({ requester, params, once }) => {
      checkOwn(requester.user, params);
      return once.answer((done) => profiles.set(requester.user, params.keyName, undefined, done), nothing);
    },
  );
}

const nothing = (): JsonObject => ({});

function checkOwn(user: UserId, { userId }: FieldPath): void {
  if (userId !== user) throw forbidden('You can only change your own profile.');
}
