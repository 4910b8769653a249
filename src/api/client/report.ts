import type { FastifyInstance } from 'fastify';
import type { Done } from '../../homeserver/once.ts';
import type { Reports } from '../../homeserver/reports.ts';
import { eventParameter, roomParameter, userParameter } from '../parameters.ts';
import { REASON } from './room_params.ts';

const CONFIG = { auth: 'device', repeated: 'ledger' } as const;
const OPTIONAL_REASON = { type: 'object', properties: { reason: REASON } } as const;
const REASON_BODY = { ...OPTIONAL_REASON, required: ['reason'] } as const;

/** Client-server API, "Reporting Content". */
export function reportRoutes(app: FastifyInstance, { reports }: { readonly reports: Reports }): void {
  app.post<{ Params: { roomId: string; eventId: string }; Body: { readonly reason?: string } }>(
    '/_matrix/client/v3/rooms/:roomId/report/:eventId',
    { config: CONFIG, schema: { body: OPTIONAL_REASON } },
    async ({ requester, params, body: { reason = '' }, once }) => {
      const at = { room: roomParameter(params.roomId), event: eventParameter(params.eventId) };
      return once.answer((done: Done<void>) => reports.event(requester, at, reason, done), nothing);
    },
  );

  app.post<{ Params: { roomId: string }; Body: { readonly reason: string } }>(
    '/_matrix/client/v3/rooms/:roomId/report',
    { config: CONFIG, schema: { body: REASON_BODY } },
    async ({ requester: { user }, params, body: { reason }, once }) => {
      const room = roomParameter(params.roomId);
      return once.answer((done: Done<void>) => reports.room(user, room, reason, done), nothing);
    },
  );

  app.post<{ Params: { userId: string }; Body: { readonly reason: string } }>(
    '/_matrix/client/v3/users/:userId/report',
    { config: CONFIG, schema: { body: REASON_BODY } },
    async ({ requester, params, body: { reason }, once }) => {
      const reported = userParameter(params.userId);
      return once.answer((done: Done<void>) => reports.user(requester.user, reported, reason, done), nothing);
    },
  );
}

const nothing = () => ({});
