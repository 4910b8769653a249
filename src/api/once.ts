import type { FastifyInstance } from 'fastify';
import type { LedgerEntry } from '../homeserver/ledger.ts';
import { type Once, UNRECOGNISED } from '../homeserver/once.ts';
import { CALLER } from './caller.ts';

/** Methods that change nothing (RFC 9110, section 9.2.1). */
export const SAFE_METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE']);

/** Where a door leaves the place in the ledger of a request that it would recognise, on the raw request. */
export const LEDGER_ENTRY: unique symbol = Symbol('ledger entry');

declare module 'node:http' {
  interface IncomingMessage {
    [LEDGER_ENTRY]?: LedgerEntry;
  }
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /**
     * What keeps a request that comes twice from having its effect twice: the ledger, through `request.once`, or
     * something else, in words. Every route with a method that is not safe says it.
     */
    repeated?: 'ledger' | { readonly harmless: string };
  }
  interface FastifyRequest {
    /** How a route with `repeated: 'ledger'` does what it does. */
    once: Once;
  }
}

/** Adds the hook that sets `request.once`: behind authentication, so that nobody fills the ledger who is not let in. */
export function addOnce(app: FastifyInstance): void {
  app.addHook('onRequest', async (request) => {
    const { repeated, auth } = request.routeOptions.config;
    const entry = request.raw[LEDGER_ENTRY];
    // What a login over a server's pipe answers holds a token, which is not to be kept; a device's has none.
    const isForAll = auth === 'none' || (auth === 'optional' && request.knownRequester === undefined);
    const isKept = repeated === 'ledger' && (!isForAll || request.raw[CALLER]?.kind === 'device');
    request.once = (isKept && entry?.begin(isForAll ? 'successes' : 'everything')) || UNRECOGNISED;
  });
}
