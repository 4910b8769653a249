import type { FastifyInstance, FastifyRequest } from 'fastify';
import { assert } from '../base/assert.ts';
import type { Requester } from '../homeserver/accounts.ts';
import { KEY_IS_THE_TOKEN, type Origin } from '../homeserver/sessions.ts';
import { MatrixError, unknownToken, userLocked } from '../matrix/error.ts';
import type { ServerName } from '../matrix/ids.ts';
import { CALLER, deviceKeyOf } from './caller.ts';
import { originOf } from './origin.ts';

/**
 * Who may call a route: a user's device with its access token or its proved key, another server, or anybody; `optional`:
 * anybody, and a device that shows what it has is recognised.
 */
type AuthKind = 'device' | 'optional' | 'server' | 'none';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Every route says it; registering one without is an assertion. */
    auth?: AuthKind;
    /** The handler may wait for long, so that the token is looked at once more before its answer leaves. */
    longPoll?: true;
    /** The route is open to users whose accounts are locked as well. */
    locked?: 'may';
  }
  interface FastifyRequest {
    /** Set on routes with `auth: 'device'`. */
    requester: Requester;
    /** On routes with `auth: 'optional'`: undefined where no device has shown who it is. */
    knownRequester: Requester | undefined;
    /** Set on routes with `auth: 'server'`, from the body's validation on. */
    origin: ServerName;
  }
}

export interface Authentication {
  /** Whose access token it is. */
  readonly authenticate: (token: string) => Promise<Requester | undefined>;
  /** Whose key it is that a door has proved: its 64 hexadecimal digits. Without it no key is anybody's. */
  readonly authenticateKey?: ((key: string) => Promise<Requester | undefined>) | undefined;
  /**
   * Checks the X-Matrix signature (server-server API, "Request Authentication"); the body is parsed by then.
   * Without it, only servers that a door has proved get in. @throws MatrixError
   */
  readonly authenticateServer?: ((request: FastifyRequest) => Promise<ServerName>) | undefined;
  /** Told of each request of a device that is let in. */
  readonly seen?: ((requester: Requester, origin: Origin) => Promise<void>) | undefined;
}

const TOKEN = /^Bearer +(\S+)$/i;

/** Adds the hooks that establish the caller before a route's handler runs. */
export function addAuthentication(app: FastifyInstance, authentication: Authentication): void {
  const { authenticateServer } = authentication;
  app.addHook('onRoute', (route) => {
    assert(route.config?.auth !== undefined, `${route.url} says who may call it`);
  });

  // Before the body is read: a stranger's megabytes are not worth parsing.
  app.addHook('onRequest', async (request) => {
    const { auth } = request.routeOptions.config;
    if (auth !== 'device' && !(auth === 'optional' && (await saysWho(request, authentication)))) return;
    const requester = await requesterOf(request, authentication);
    if (auth === 'device') request.requester = requester;
    else request.knownRequester = requester;
    // Where nothing can be written any more, what only reads goes on.
    await authentication.seen?.(requester, originOf(request)).catch((error: unknown) => {
      request.log.warn({ err: error }, 'it was not noted when a device called');
    });
  });

  app.addHook('preSerialization', async (request, reply, payload) => {
    if (request.routeOptions.config.longPoll && reply.statusCode === 200)
      await requesterOf(request, authentication);
    return payload;
  });

  app.addHook('preValidation', async (request) => {
    if (request.routeOptions.config.auth !== 'server') return;
    const caller = request.raw[CALLER];
    if (caller?.kind === 'server') {
      request.origin = caller.name;
    } else if (caller?.kind === 'device') {
      // Not with a signature either: its owner is a user of this server, and no server calls this way.
      throw new MatrixError(401, 'M_UNAUTHORIZED', 'A device has nothing to say as a server.');
    } else if (authenticateServer !== undefined) {
      request.origin = await authenticateServer(request);
    } else {
      throw new MatrixError(401, 'M_UNAUTHORIZED', 'The request is not signed by a server.');
    }
  });
}

/** Whether there is a token, or a key that is bound to a device. */
async function saysWho(
  { headers, raw }: FastifyRequest,
  { authenticateKey }: Authentication,
): Promise<boolean> {
  const key = deviceKeyOf(raw);
  return (
    headers.authorization !== undefined || (key !== undefined && (await authenticateKey?.(key)) !== undefined)
  );
}

/**
 * Whose request it is. The key that a door has proved is enough where it is bound to a device; a token beside it has to
 * be of the same device, so that nobody acts for two. A key that is bound to none needs a token, as everybody does.
 */
async function requesterOf(request: FastifyRequest, authentication: Authentication): Promise<Requester> {
  const requester = await deviceOf(request, authentication);
  if (requester.standing === 'locked' && request.routeOptions.config.locked !== 'may') throw userLocked();
  return requester;
}

async function deviceOf(
  { headers, raw }: FastifyRequest,
  { authenticate, authenticateKey }: Authentication,
): Promise<Requester> {
  const key = deviceKeyOf(raw);
  const owner = key === undefined ? undefined : await authenticateKey?.(key);
  const header = headers.authorization;
  const token = header === undefined ? undefined : TOKEN.exec(header)?.[1];
  if (header === undefined || (owner !== undefined && token === KEY_IS_THE_TOKEN)) {
    if (owner !== undefined) return owner;
    // As after a logout, which this may be: the client has to log in.
    if (key !== undefined) throw unknownToken('The key belongs to no device that is logged in.');
    throw new MatrixError(401, 'M_MISSING_TOKEN', 'The access token is missing.');
  }
  const requester = token === undefined ? undefined : await authenticate(token);
  if (requester === undefined) throw unknownToken('The access token is not known.');
  if (owner !== undefined && !isSame(owner, requester))
    throw unknownToken('The access token is of another device than the key.');
  return requester;
}

const isSame = (a: Requester, b: Requester): boolean => a.user === b.user && a.device === b.device;
