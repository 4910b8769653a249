import type { FastifyInstance } from 'fastify';
import type { Accounts } from '../../homeserver/accounts.ts';
import type { AuthData } from '../../homeserver/interactive_auth.ts';
import type { CrossSigning } from '../../homeserver/keys/cross_signing.ts';
import type { Done } from '../../homeserver/once.ts';
import type { JsonObject } from '../../matrix/json.ts';
import { AUTH_DATA } from './schemas.ts';

const UPLOAD_BODY = {
  type: 'object',
  properties: {
    master_key: { type: 'object' },
    self_signing_key: { type: 'object' },
    user_signing_key: { type: 'object' },
    auth: AUTH_DATA,
  },
} as const;

const SIGNATURES_BODY = {
  type: 'object',
  additionalProperties: { type: 'object', additionalProperties: { type: 'object' } },
} as const;

const UNSAFE = { auth: 'device', repeated: 'ledger' } as const;

interface UploadBody {
  readonly master_key?: JsonObject;
  readonly self_signing_key?: JsonObject;
  readonly user_signing_key?: JsonObject;
  readonly auth?: AuthData | null;
}

/** Client-server API, "Cross-signing". */
export function crossSigningRoutes(
  app: FastifyInstance,
  { accounts, crossSigning }: { readonly accounts: Accounts; readonly crossSigning: CrossSigning },
): void {
  app.post<{ Body: UploadBody }>(
    '/_matrix/client/v3/keys/device_signing/upload',
    { config: UNSAFE, schema: { body: UPLOAD_BODY } },
    async ({ requester, body, once }, reply) => {
      const { user } = requester;
      const { upload, isProofNeeded } = await crossSigning.parse(user, {
        ...(body.master_key && { master: body.master_key }),
        ...(body.self_signing_key && { self_signing: body.self_signing_key }),
        ...(body.user_signing_key && { user_signing: body.user_signing_key }),
      });
      if (isProofNeeded) {
        const refused = await accounts.confirm(requester, 'upload cross-signing keys', body.auth);
        if (refused !== undefined) return reply.code(401).send(refused);
      }
      return once.answer(
        (done: Done<void>) => crossSigning.upload(user, upload, isProofNeeded, done),
        () => ({}),
      );
    },
  );

  app.post<{ Body: JsonObject }>(
    '/_matrix/client/v3/keys/signatures/upload',
    { config: UNSAFE, schema: { body: SIGNATURES_BODY } },
    async ({ requester, body, once }) =>
      once.answer(
        (done: Done<JsonObject>) => crossSigning.addSignatures(requester, body, done),
        (failures) => ({ failures }),
      ),
  );
}
