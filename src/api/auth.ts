import type { FastifyInstance, FastifyRequest } from 'fastify';
import { assert } from '../base/assert.ts';
import type { Requester } from '../homeserver/accounts.ts';
import { MatrixError } from '../matrix/error.ts';
import type { ServerName } from '../matrix/ids.ts';
import { CALLER } from './caller.ts';

/** Who may call a route: a user's device with its access token, another server, or anybody. */
type AuthKind = 'device' | 'server' | 'none';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Every route says it; registering one without is an assertion. */
    auth?: AuthKind;
    /** The handler may wait for long, so that the token is looked at once more before its answer leaves. */
    longPoll?: true;
  }
  interface FastifyRequest {
    /** Set on routes with `auth: 'device'`. */
    requester: Requester;
    /** Set on routes with `auth: 'server'`, from the body's validation on. */
    origin: ServerName;
  }
}

export interface Authentication {
  /** Whose access token it is. */
  readonly authenticate: (token: string) => Promise<Requester | undefined>;
  /**
   * Checks the X-Matrix signature (server-server API, "Request Authentication"); the body is parsed by then.
   * Without it, only servers that a door has proved get in. @throws MatrixError
   */
  readonly authenticateServer?: ((request: FastifyRequest) => Promise<ServerName>) | undefined;
}

const TOKEN = /^Bearer +(\S+)$/i;

/** Adds the hooks that establish the caller before a route's handler runs. */
export function addAuthentication(
  app: FastifyInstance,
  { authenticate, authenticateServer }: Authentication,
): void {
  app.addHook('onRoute', (route) => {
    assert(route.config?.auth !== undefined, `${route.url} says who may call it`);
  });

  // Before the body is read: a stranger's megabytes are not worth parsing.
  app.addHook('onRequest', async (request) => {
    if (request.routeOptions.config.auth === 'device')
      request.requester = await requesterOf(request, authenticate);
  });

  app.addHook('preSerialization', async (request, reply, payload) => {
    if (request.routeOptions.config.longPoll && reply.statusCode === 200)
      await requesterOf(request, authenticate);
    return payload;
  });

  app.addHook('preValidation', async (request) => {
    if (request.routeOptions.config.auth !== 'server') return;
    const caller = request.raw[CALLER];
    if (caller?.kind === 'server') {
      request.origin = caller.name;
    } else if (authenticateServer !== undefined) {
      request.origin = await authenticateServer(request);
    } else {
      throw new MatrixError(401, 'M_UNAUTHORIZED', 'The request is not signed by a server.');
    }
  });
}

async function requesterOf(
  { headers }: FastifyRequest,
  authenticate: Authentication['authenticate'],
): Promise<Requester> {
  const header = headers.authorization;
  if (header === undefined) throw new MatrixError(401, 'M_MISSING_TOKEN', 'The access token is missing.');
  const token = TOKEN.exec(header)?.[1];
  const requester = token === undefined ? undefined : await authenticate(token);
  if (requester !== undefined) return requester;
  throw new MatrixError(401, 'M_UNKNOWN_TOKEN', 'The access token is not known.', { soft_logout: false });
}
