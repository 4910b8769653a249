import { Ajv, type ValidateFunction } from 'ajv';
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  LogController,
} from 'fastify';
import type { FastifySchemaValidationError } from 'fastify/types/schema.js';
import type { Clock } from '../base/time.ts';
import { addAddressLimit } from './address_limit.ts';
import { type Authentication, addAuthentication } from './auth.ts';
import { addBodies, type BodyCodec, CLIENT_BODY_LIMIT } from './bodies.ts';
import { sendError, unrecognized } from './errors.ts';
import { KnownPaths } from './known_paths.ts';
import { addOnce } from './once.ts';
import { addSuspension, type SenderOf } from './suspension.ts';

/** Characters of one path parameter, still percent-encoded: three for each byte of the longest identifier, and more. */
const MAX_PARAM_LENGTH = 1024;

export interface AppOptions extends Authentication {
  readonly clock: Clock;
  /** Codec of `application/cbor` bodies; without it only JSON is spoken. */
  readonly cbor?: BodyCodec | undefined;
  readonly logger?: FastifyBaseLogger | undefined;
  /** For what suspended users may redact. */
  readonly senderOf?: SenderOf | undefined;
  /** Proxies whose X-Forwarded-For is believed: IP addresses, networks, `loopback`. Default: none but this machine's. */
  readonly trustedProxies?: readonly string[] | undefined;
}

/**
 * The app that every door calls: cross-origin headers, bodies, authentication, validation and errors. Routes are
 * added to it by the functions in `client/` and `federation/`; `ready()` is to be awaited before the first request.
 */
export function createApp(options: AppOptions): FastifyInstance {
  const { trustedProxies = ['loopback'] } = options;
  const app = Fastify({
    ...(options.logger === undefined ? {} : { loggerInstance: options.logger }),
    // Our own line has no query and no headers.
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: CLIENT_BODY_LIMIT,
    exposeHeadRoutes: false,
    // Opening an app is no race against a clock of its own.
    pluginTimeout: 0,
    // An empty list would be read as everybody.
    trustProxy: trustedProxies.length === 0 ? false : [...trustedProxies],
    routerOptions: { maxParamLength: MAX_PARAM_LENGTH },
    rewriteUrl: (request) => stablePath(request.url ?? '/'),
    frameworkErrors: (error, request, reply) => {
      // These come before routing, so that no hook runs.
      addCorsHeaders(reply);
      sendError(error, request, reply);
    },
  });
  const paths = new KnownPaths();
  app.addHook('onRoute', (route) => paths.add(route.url));
  app.setValidatorCompiler(({ schema }) => compileOnFirstUse(schema as object));
  app.setErrorHandler(sendError);

  app.addHook('onRequest', async (request, reply) => {
    addCorsHeaders(reply);
    if (request.method === 'OPTIONS') return reply.code(204).send();
    if (request.is404) throw unrecognized(paths.has(pathOf(request.url)) ? 405 : 404);
  });
  addRequestLog(app, options);
  addAddressLimit(app, options.clock);
  addAuthentication(app, options);
  addSuspension(app, options.senderOf);
  addOnce(app);
  addBodies(app, options.cbor);
  return app;
}

/** Clients that still call version r0 mean what is v3 today. */
const stablePath = (url: string): string => url.replace(/^\/_matrix\/client\/r0\//, '/_matrix/client/v3/');

const pathOf = (url: string): string => url.split('?', 1)[0]!;

/** Client-server API, "Web Browser Clients". */
function addCorsHeaders(reply: FastifyReply): void {
  reply.headers({
    'access-control-allow-origin': '*',
    'access-control-allow-methods': 'GET, POST, PUT, DELETE, OPTIONS',
    'access-control-allow-headers': 'X-Requested-With, Content-Type, Authorization',
  });
}

/** One line a request, without its query, headers and body: those hold secrets. */
function addRequestLog(app: FastifyInstance, { clock, logger }: AppOptions): void {
  if (logger === undefined) return;
  const started = new WeakMap<object, number>();
  app.addHook('onRequest', async (request) => {
    started.set(request, clock.monotonic());
  });
  app.addHook('onResponse', async (request, reply) => {
    const tookMs = Math.round(clock.monotonic() - (started.get(request) ?? clock.monotonic()));
    const { method, url } = request;
    request.log.debug({ method, path: pathOf(url), status: reply.statusCode, tookMs }, 'request');
  });
}

/** Nothing is coerced, filled in or removed: what a client sent is judged as it is. Shared by all apps. */
const ajv = new Ajv({ allowUnionTypes: true });

/** Compiling the schemas of every route takes most of the time that opening an app would take. */
function compileOnFirstUse(
  schema: object,
): (data: unknown) => boolean | { error: FastifySchemaValidationError[] } {
  let validate: ValidateFunction | undefined;
  return (data) => {
    validate ??= ajv.compile(schema);
    return validate(data) ? true : { error: (validate.errors ?? []) as FastifySchemaValidationError[] };
  };
}
