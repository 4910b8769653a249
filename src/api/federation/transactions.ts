import type { FastifyInstance } from 'fastify';
import type { Receiver } from '../../federation/receiver.ts';
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
