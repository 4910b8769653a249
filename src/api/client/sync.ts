import type { FastifyInstance, FastifyReply } from 'fastify';
import type { Sync } from '../../homeserver/sync/sync.ts';
import { boolean, natural, oneOf, type Query, text } from './query.ts';

/** Client-server API, "Syncing". */
export function syncRoutes(app: FastifyInstance, { sync }: { readonly sync: Sync }): void {
  app.get<{ Querystring: Query }>(
    '/_matrix/client/v3/sync',
    { config: { auth: 'device', longPoll: true } },
    async ({ requester, query }, reply) => {
      // There is no presence yet that this could set; a value that does not exist is still refused.
      if (text(query, 'set_presence') !== undefined)
        oneOf(query, 'set_presence', ['offline', 'online', 'unavailable']);
      return sync.sync({
        requester,
        since: text(query, 'since'),
        timeoutMs: natural(query, 'timeout') ?? 0,
        filter: text(query, 'filter'),
        fullState: boolean(query, 'full_state') ?? false,
        useStateAfter: boolean(query, 'use_state_after') ?? false,
        signal: hangUp(reply),
      });
    },
  );
}

/** Aborts when the connection goes away before the answer is written. */
function hangUp(reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) controller.abort();
  });
  return controller.signal;
}
