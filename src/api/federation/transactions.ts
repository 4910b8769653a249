import type { FastifyInstance } from 'fastify';
import { SIGNATURES_PATH } from '../../exchange/pipe_codec.ts';
import type { DeferredSignatures } from '../../federation/deferred_signatures.ts';
import { signaturesBytes } from '../../federation/owed_signatures.ts';
import type { Receiver } from '../../federation/receiver.ts';
import { badJson } from '../../matrix/error.ts';
import type { JsonObject } from '../../matrix/json.ts';
import { FEDERATION_BODY_LIMIT } from '../bodies.ts';

/** Server-server API, "Transactions". */
export function transactionRoutes(app: FastifyInstance, { receiver }: { readonly receiver: Receiver }): void {
  app.put<{ Params: { txnId: string }; Body: JsonObject }>(
    '/_matrix/federation/v1/send/:txnId',
    {
      // Events that are stored already are not stored again; the answer is stored under the origin and this id.
      config: { auth: 'server', repeated: { harmless: 'the transaction id' } },
      bodyLimit: FEDERATION_BODY_LIMIT,
      schema: { body: { type: 'object' } },
    },
    ({ origin, params, body }) => receiver.receive(origin, params.txnId, body),
  );
}

/** Signatures that follow their events (docs/protocol.md, "Deferred signatures"). */
export function signatureRoutes(
  app: FastifyInstance,
  { deferred }: { readonly deferred: DeferredSignatures },
): void {
  app.put<{ Body: JsonObject }>(
    SIGNATURES_PATH,
    {
      config: { auth: 'server', repeated: { harmless: 'a signature that is known changes nothing' } },
      schema: { body: { type: 'object' } },
    },
    async ({ origin, body }) => {
      const batch = signaturesBytes(body);
      if (batch === undefined) throw badJson('The signatures cannot be read.');
      await deferred.signatures(origin, batch);
      return {};
    },
  );
}
