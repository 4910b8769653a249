import type { FastifyInstance } from 'fastify';
import { markersOf, type Receipts } from '../../homeserver/receipts.ts';
import { invalidParam } from '../../matrix/error.ts';
import { type JsonObject, own } from '../../matrix/json.ts';
import { eventParameter, roomParameter } from '../parameters.ts';
import { emptyBody } from './room_params.ts';

const CONFIG = { auth: 'device', repeated: { harmless: 'a marker that is there already stays' } } as const;

/** Client-server API, "Receipts" and "Read and unread markers". */
export function receiptRoutes(app: FastifyInstance, { receipts }: { readonly receipts: Receipts }): void {
  app.post<{
    Params: { roomId: string; receiptType: string; eventId: string };
    Body: JsonObject;
  }>(
    '/_matrix/client/v3/rooms/:roomId/receipt/:receiptType/:eventId',
    { config: CONFIG, preValidation: emptyBody, schema: { body: { type: 'object' } } },
    async ({ requester, params, body }) => {
      const room = roomParameter(params.roomId);
      const threadId = own(body, 'thread_id');
      if (threadId !== undefined && typeof threadId !== 'string')
        throw invalidParam('thread_id has to be text.');
      const markers = markersOf(params.receiptType, eventParameter(params.eventId), threadId);
      if (markers === undefined) throw invalidParam('There is no such type of receipt.');
      await receipts.mark(requester.user, room, markers);
      return {};
    },
  );

  app.post<{ Params: { roomId: string }; Body: JsonObject }>(
    '/_matrix/client/v3/rooms/:roomId/read_markers',
    { config: CONFIG, preValidation: emptyBody, schema: { body: { type: 'object' } } },
    async ({ requester, params, body }) => {
      await receipts.mark(requester.user, roomParameter(params.roomId), {
        fullyRead: eventIn(body, 'm.fully_read'),
        read: eventIn(body, 'm.read'),
        readPrivate: eventIn(body, 'm.read.private'),
      });
      return {};
    },
  );
}

function eventIn(body: JsonObject, key: string) {
  const event = own(body, key);
  // Some clients write null where they have nothing to say.
  if (event === undefined || event === null) return undefined;
  if (typeof event !== 'string') throw invalidParam(`${key} has to be an event id.`);
  return eventParameter(event);
}
