import type { FastifyInstance } from 'fastify';
import { notFound } from '../../matrix/error.ts';

/** What the well-known documents say; a document that says nothing is not there. */
export interface WellKnown {
  /** Where clients reach this server. */
  readonly publicBaseUrl: string | null;
  /** Where other servers reach it, as `host:port` or `host`. */
  readonly server: string | null;
  readonly support_page: string | null;
  /** As the document has them. */
  readonly contacts: readonly object[];
}

/**
 * Client-server API, "Server Discovery", and server-server API, "Resolving server names": documents that others look for at
 * the host of the server's name, which may be another web server's to serve or to pass on.
 */
export function wellKnownRoutes(
  app: FastifyInstance,
  { publicBaseUrl, server, support_page, contacts }: WellKnown,
): void {
  app.get('/.well-known/matrix/client', { config: { auth: 'none' } }, async () => {
    if (publicBaseUrl === null) throw notFound('The address of this server for clients is not configured.');
    return { 'm.homeserver': { base_url: publicBaseUrl } };
  });

  app.get('/.well-known/matrix/server', { config: { auth: 'none' } }, async () => {
    if (server === null) throw notFound('This server is reached at its name.');
    return { 'm.server': server };
  });

  app.get('/.well-known/matrix/support', { config: { auth: 'none' } }, async () => {
    if (support_page === null && contacts.length === 0) throw notFound('Nobody is named to turn to.');
    return {
      ...(contacts.length > 0 && { contacts }),
      ...(support_page !== null && { support_page }),
    };
  });
}
