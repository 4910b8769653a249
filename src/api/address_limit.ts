import type { FastifyInstance } from 'fastify';
import type { Clock } from '../base/time.ts';
import { type Rate, RateLimit } from '../homeserver/rate_limit.ts';
import { placesOf } from './origin.ts';

/** Generous: many share an address, and one of them alone tries passwords for days at this rate. */
const RATE: Rate = { burst: 100, intervalMs: 500 };

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The route takes or changes a password or a token, so that callers are held to a rate. */
    limited?: true;
  }
}

/** Holds the callers of routes with `limited` to a rate, by where they call from, before their body is read. */
export function addAddressLimit(app: FastifyInstance, clock: Clock): void {
  const limit = new RateLimit(clock, RATE);
  app.addHook('onRequest', async (request) => {
    if (request.routeOptions.config.limited) for (const place of placesOf(request)) limit.take(place);
  });
}
