import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Millis } from '../../base/time.ts';
import type { KeyRing } from '../../federation/key_ring.ts';
import { MAX_QUERIED } from '../../federation/notaries.ts';
import type { Asker, Notary } from '../../federation/notary.ts';
import { invalidParam } from '../../matrix/error.ts';
import { parseServerName, type ServerName } from '../../matrix/ids.ts';
import { CALLER } from '../caller.ts';

/** By server and key id, what is wanted of the key. */
type Criteria = Record<string, Record<string, { readonly minimum_valid_until_ts?: number }>>;

const QUERY_BODY = {
  type: 'object',
  required: ['server_keys'],
  properties: {
    server_keys: {
      type: 'object',
      maxProperties: MAX_QUERIED,
      additionalProperties: {
        type: 'object',
        additionalProperties: {
          type: 'object',
          properties: { minimum_valid_until_ts: { type: 'integer', minimum: 0 } },
        },
      },
    },
  },
};

/** Server-server API, "Retrieving server keys". */
export function keyRoutes(
  app: FastifyInstance,
  { keys, notary }: { readonly keys: KeyRing; readonly notary: Notary },
): void {
  app.get('/_matrix/key/v2/server', { config: { auth: 'none' } }, async () => keys.ownKeys());
  // Older servers name the key that they are after. The answer is the same.
  app.get('/_matrix/key/v2/server/:keyId', { config: { auth: 'none' } }, async () => keys.ownKeys());

  app.get<{ Params: { serverName: string }; Querystring: { minimum_valid_until_ts?: string } }>(
    '/_matrix/key/v2/query/:serverName',
    { config: { auth: 'none', limited: true } },
    async (request) => {
      const { params, query } = request;
      const wanted = new Map([[serverParameter(params.serverName), instant(query.minimum_valid_until_ts)]]);
      return { server_keys: await notary.query(wanted, askerOf(request)) };
    },
  );

  app.post<{ Body: { server_keys: Criteria } }>(
    '/_matrix/key/v2/query',
    {
      config: { auth: 'none', limited: true, repeated: { harmless: 'it changes nothing' } },
      schema: { body: QUERY_BODY },
    },
    async (request) => {
      const wanted = new Map<ServerName, Millis | undefined>();
      for (const [name, ofKeys] of Object.entries(request.body.server_keys)) {
        const server = parseServerName(name);
        if (!server.ok) continue;
        const least = Object.values(ofKeys).flatMap((one) => one.minimum_valid_until_ts ?? []);
        wanted.set(server.value, least.length === 0 ? undefined : Math.max(...least));
      }
      return { server_keys: await notary.query(wanted, askerOf(request)) };
    },
  );
}

const askerOf = ({ raw }: FastifyRequest): Asker => (raw[CALLER]?.kind === 'server' ? 'server' : 'anybody');

function serverParameter(text: string): ServerName {
  const server = parseServerName(text);
  if (!server.ok) throw invalidParam(`It is not a server name: ${server.problem}.`);
  return server.value;
}

function instant(text: string | undefined): Millis | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,15}$/.test(text)) throw invalidParam('minimum_valid_until_ts is not an instant.');
  return Number(text);
}
