import { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply } from 'fastify';
import type { Sync } from '../../homeserver/sync/sync.ts';
import { prefersCbor } from '../bodies.ts';
import { deviceKeyOf } from '../caller.ts';
import { PRESENCE_STATES } from './presence.ts';
import { boolean, natural, oneOf, type Query, text } from './query.ts';

/** Client-server API, "Syncing". */
export function syncRoutes(app: FastifyInstance, { sync }: { readonly sync: Sync }): void {
  app.get<{ Querystring: Query }>(
    '/_matrix/client/v3/sync',
    { config: { auth: 'device', longPoll: true } },
    async ({ requester, query, raw, headers }, reply) => {
      const setPresence = text(query, 'set_presence');
      const request = {
        requester,
        since: text(query, 'since'),
        timeoutMs: natural(query, 'timeout') ?? 0,
        filter: text(query, 'filter'),
        fullState: boolean(query, 'full_state') ?? false,
        useStateAfter: boolean(query, 'use_state_after') ?? false,
        ...(setPresence !== undefined && { setPresence: oneOf(query, 'set_presence', PRESENCE_STATES) }),
        // A device on the other side of a slow link has the specification's own.
        knowsPushRules: deviceKeyOf(raw) !== undefined,
        signal: hangUp(reply),
      };
      // What may be large is written as it is made; CBOR tells sizes first, and so needs all of it.
      if (request.since !== undefined || prefersCbor(headers.accept)) return sync.sync(request);
      const pieces = await sync.streamed(request);
      return reply.type('application/json; charset=utf-8').send(Readable.from(pieces));
    },
  );
}

/** Aborts when the connection goes away before the answer is written. */
export function hangUp(reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) controller.abort();
  });
  return controller.signal;
}
