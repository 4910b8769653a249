import type { FastifyInstance, FastifyRequest } from 'fastify';
import { userSuspended } from '../matrix/error.ts';
import type { EventId, UserId } from '../matrix/ids.ts';
import { SAFE_METHODS } from './once.ts';

/**
 * What suspended users may change (client-server API, "Account suspension"): their sessions, their keys, what they have
 * read, what their clients store; and they may go. Everything else is refused.
 */
const ALLOWED: ReadonlySet<string> = new Set([
  'POST /_matrix/client/v3/logout',
  'POST /_matrix/client/v3/logout/all',
  'POST /_matrix/client/v1/login/get_token',
  'POST /_matrix/client/v3/account/password',
  'POST /_matrix/client/v3/account/deactivate',
  'POST /_matrix/client/v3/account/3pid',
  'POST /_matrix/client/v3/account/3pid/add',
  'POST /_matrix/client/v3/account/3pid/email/requestToken',
  'POST /_matrix/client/v3/account/3pid/msisdn/requestToken',
  'PUT /_matrix/client/v3/devices/:',
  'DELETE /_matrix/client/v3/devices/:',
  'POST /_matrix/client/v3/delete_devices',
  'POST /_matrix/client/v3/rooms/:/leave',
  'POST /_matrix/client/v3/rooms/:/forget',
  'POST /_matrix/client/v3/rooms/:/read_markers',
  'POST /_matrix/client/v3/rooms/:/receipt/:/:',
  'POST /_matrix/client/v3/user/:/filter',
  'PUT /_matrix/client/v3/user/:/account_data/:',
  'PUT /_matrix/client/v3/user/:/rooms/:/account_data/:',
  'PUT /_matrix/client/v3/user/:/rooms/:/tags/:',
  'DELETE /_matrix/client/v3/user/:/rooms/:/tags/:',
  'POST /_matrix/client/v3/keys/upload',
  'POST /_matrix/client/v3/keys/query',
  'POST /_matrix/client/v3/keys/claim',
  'POST /_matrix/client/v3/keys/device_signing/upload',
  'POST /_matrix/client/v3/keys/signatures/upload',
  'POST /_matrix/client/v3/room_keys/version',
  'PUT /_matrix/client/v3/room_keys/version/:',
  'PUT /_matrix/client/v3/room_keys/keys',
  'PUT /_matrix/client/v3/room_keys/keys/:',
  'PUT /_matrix/client/v3/room_keys/keys/:/:',
  'PUT /_matrix/client/v3/sendToDevice/:/:',
]);

const REDACT = 'PUT /_matrix/client/v3/rooms/:/redact/:/:';
const SEND = 'PUT /_matrix/client/v3/rooms/:/send/:/:';

/** Who sent an event; undefined where it is not known here. */
export type SenderOf = (event: EventId) => Promise<UserId | undefined>;

/**
 * Refuses what suspended users may not do. Of events they may redact their own.
 * @param senderOf left out: they may redact none
 */
export function addSuspension(app: FastifyInstance, senderOf: SenderOf = async () => undefined): void {
  // Behind the body, which may name the event that is redacted.
  app.addHook('preHandler', async (request) => {
    if (request.routeOptions.config.auth !== 'device') return;
    const { standing, user } = request.requester;
    if (standing !== 'suspended' || SAFE_METHODS.has(request.method)) return;
    const route = `${request.method} ${request.routeOptions.url?.replace(/:[^/]+/g, ':')}`;
    if (ALLOWED.has(route)) return;
    const redacted = redactedEvent(route, request);
    if (redacted === undefined || (await senderOf(redacted)) !== user) throw userSuspended();
  });
}

/** The event that a request would redact. */
function redactedEvent(route: string, { params, body }: FastifyRequest): EventId | undefined {
  const { eventId, eventType } = params as { readonly eventId?: string; readonly eventType?: string };
  if (route === REDACT) return eventId as EventId | undefined;
  if (route !== SEND || eventType !== 'm.room.redaction') return undefined;
  const { redacts } = (body ?? {}) as { readonly redacts?: unknown };
  return typeof redacts === 'string' ? (redacts as EventId) : undefined;
}
