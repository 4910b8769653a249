import type { FastifyInstance } from 'fastify';
import { PROFILE_FIELDS, type Profile, type ProfileField, type Profiles } from '../../homeserver/profiles.ts';
import { badJson, forbidden, missingParam, notFound } from '../../matrix/error.ts';
import type { UserId } from '../../matrix/ids.ts';
import type { JsonObject } from '../../matrix/json.ts';
import { userParameter } from '../parameters.ts';

interface FieldPath {
  readonly userId: string;
  readonly keyName: string;
}

const FIELD_BODY = { type: 'object' } as const;

/** Client-server API, "Profiles". Of the fields, those of `PROFILE_FIELDS` are kept, as the capability says. */
export function profileRoutes(app: FastifyInstance, { profiles }: { readonly profiles: Profiles }): void {
  const profileOf = async (userId: string): Promise<Profile> => {
    const profile = await profiles.get(userParameter(userId));
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
      const profile = await profileOf(params.userId);
      const field = PROFILE_FIELDS.find((name) => name === params.keyName);
      const value = field === undefined ? undefined : profile[field];
      if (field === undefined || value === undefined) throw notFound('The user has not set this.');
      return { [field]: value };
    },
  );

  app.put<{ Params: FieldPath; Body: JsonObject }>(
    '/_matrix/client/v3/profile/:userId/:keyName',
    { config: { auth: 'device', repeated: 'ledger' }, schema: { body: FIELD_BODY } },
    async ({ requester, params, body, once }) => {
      const field = ownField(requester.user, params);
      const value = body[field];
      if (value === undefined) throw missingParam(`${field} is missing.`);
      if (typeof value !== 'string') throw badJson(`${field} has to be text.`);
      await profiles.set(requester.user, field, value, once);
      return {};
    },
  );

  app.delete<{ Params: FieldPath }>(
    '/_matrix/client/v3/profile/:userId/:keyName',
    { config: { auth: 'device', repeated: 'ledger' } },
    async ({ requester, params, once }) => {
      await profiles.set(requester.user, ownField(requester.user, params), '', once);
      return {};
    },
  );
}

function ownField(user: UserId, { userId, keyName }: FieldPath): ProfileField {
  if (userId !== user) throw forbidden('You can only change your own profile.');
  const field = PROFILE_FIELDS.find((name) => name === keyName);
  if (field === undefined) throw forbidden(`Only ${PROFILE_FIELDS.join(' and ')} can be set here.`);
  return field;
}
