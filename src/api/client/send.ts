import type { FastifyInstance } from 'fastify';
import type { DelayedEvents } from '../../homeserver/delayed_events.ts';
import type { Presence } from '../../homeserver/presence.ts';
import type { Rooms } from '../../homeserver/rooms/rooms.ts';
import type { Typing } from '../../homeserver/typing.ts';
import type { JsonObject } from '../../matrix/json.ts';
import { eventParameter, roomParameter } from '../parameters.ts';
import { DELAY } from './delayed_events.ts';
import { natural, type Query } from './query.ts';
import { emptyBody, REASON } from './room_params.ts';

/** The event is stored with the device's transaction id, which is looked up first. */
const CONFIG = { auth: 'device', repeated: { harmless: 'the transaction id' } } as const;

interface SendServices {
  readonly rooms: Rooms;
  readonly delayedEvents?: DelayedEvents;
  /** Told that somebody has sent what they typed, and so is active. */
  readonly typing?: Pick<Typing, 'sent'>;
  readonly presence?: Pick<Presence, 'active'>;
}

/** Client-server API, "Sending events to a room" and "Redactions". */
export function sendRoutes(
  app: FastifyInstance,
  { rooms, delayedEvents, typing, presence }: SendServices,
): void {
  app.put<{
    Params: { roomId: string; eventType: string; txnId: string };
    Querystring: Query;
    Body: JsonObject;
  }>(
    '/_matrix/client/v3/rooms/:roomId/send/:eventType/:txnId',
    { config: CONFIG, schema: { body: { type: 'object' } } },
    async ({ requester, params, query, body }) => {
      const { user, device } = requester;
      const { eventType, txnId } = params;
      const room = roomParameter(params.roomId);
      const delayMs = natural(query, DELAY);
      if (delayMs !== undefined && delayedEvents !== undefined) {
        const request = JSON.stringify([device, room, eventType, txnId]);
        const intent = { room, type: eventType, content: body };
        return { delay_id: await delayedEvents.schedule(user, intent, { delayMs, request }) };
      }
      presence?.active(requester);
      const [id] = await Promise.all([
        rooms.sending.send(room, eventType, body, { user, device, txnId }),
        typing?.sent(room, user),
      ]);
      return { event_id: id };
    },
  );

  app.put<{ Params: { roomId: string; eventId: string; txnId: string }; Body: { readonly reason?: string } }>(
    '/_matrix/client/v3/rooms/:roomId/redact/:eventId/:txnId',
    {
      config: CONFIG,
      preValidation: emptyBody,
      schema: { body: { type: 'object', properties: { reason: REASON } } },
    },
    async ({ requester, params, body }) => {
      const { user, device } = requester;
      const room = roomParameter(params.roomId);
      const from = { user, device, txnId: params.txnId };
      return {
        event_id: await rooms.sending.redact(room, eventParameter(params.eventId), body.reason, from),
      };
    },
  );
}
