import type { FastifyInstance, FastifyRequest } from 'fastify';
import { networkOf } from '../base/network.ts';
import type { Clock } from '../base/time.ts';
import { type Rate, RateLimit } from '../homeserver/rate_limit.ts';
import { CALLER } from './caller.ts';

/** Generous: many share an address, and one of them alone tries passwords for days at this rate. */
const RATE: Rate = { burst: 100, intervalMs: 500 };

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The route takes or changes a password, so that callers are held to a rate. */
    limited?: true;
  }
}

/** Holds the callers of routes with `limited` to a rate, by where they call from, before their body is read. */
export function addAddressLimit(app: FastifyInstance, clock: Clock): void {
  const limit = new RateLimit(clock, RATE);
  app.addHook('onRequest', async (request) => {
    if (request.routeOptions.config.limited) for (const origin of originsOf(request)) limit.take(origin);
  });
}

/**
 * What is to be held to the rate: a server that a door has proved, or the network that an address belongs to. A device
 * that a door has proved counts with its address as well, since a new key costs nothing.
 */
function originsOf({ raw, ip }: FastifyRequest): string[] {
  const caller = raw[CALLER];
  if (caller?.kind === 'server') return [caller.name];
  return caller?.kind === 'device' ? [caller.key, networkOf(ip)] : [networkOf(ip)];
}
