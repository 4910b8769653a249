import type { FastifyInstance } from 'fastify';
import type { ToDevice } from '../../homeserver/to_device.ts';
import type { JsonObject } from '../../matrix/json.ts';

const BODY = {
  type: 'object',
  required: ['messages'],
  properties: {
    messages: {
      type: 'object',
      additionalProperties: { type: 'object', additionalProperties: { type: 'object' } },
    },
  },
} as const;

/** Client-server API, "Send-to-Device messaging". */
export function toDeviceRoutes(
  app: FastifyInstance,
  { toDevice }: { readonly toDevice: Pick<ToDevice, 'send'> },
): void {
  app.put<{
    Params: { eventType: string; txnId: string };
    Body: { readonly messages: Readonly<Record<string, Readonly<Record<string, JsonObject>>>> };
  }>(
    '/_matrix/client/v3/sendToDevice/:eventType/:txnId',
    {
      // The id is stored with the device by the transaction that sends, and looked up first.
      config: { auth: 'device', repeated: { harmless: 'the transaction id' } },
      schema: { body: BODY },
    },
    async ({ requester, params, body }) => {
      await toDevice.send(requester, params.eventType, params.txnId, body.messages);
      return {};
    },
  );
}
