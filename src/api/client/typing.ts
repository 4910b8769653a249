import type { FastifyInstance } from 'fastify';
import type { Typing } from '../../homeserver/typing.ts';
import { forbidden } from '../../matrix/error.ts';
import { roomParameter } from '../parameters.ts';

const BODY = {
  type: 'object',
  required: ['typing'],
  properties: { typing: { type: 'boolean' }, timeout: { type: 'integer' } },
} as const;

/** Client-server API, "Typing Notifications". */
export function typingRoutes(app: FastifyInstance, { typing }: { readonly typing: Typing }): void {
  app.put<{
    Params: { roomId: string; userId: string };
    Body: { readonly typing: boolean; readonly timeout?: number };
  }>(
    '/_matrix/client/v3/rooms/:roomId/typing/:userId',
    {
      config: { auth: 'device', repeated: { harmless: 'it says who types now, and ends by itself' } },
      schema: { body: BODY },
    },
    async ({ requester, params, body }) => {
      if (params.userId !== requester.user) throw forbidden('You can only say it of yourself.');
      const { typing: isTyping, timeout } = body;
      await typing.set(requester.user, roomParameter(params.roomId), {
        isTyping,
        ...(timeout !== undefined && { timeoutMs: timeout }),
      });
      return {};
    },
  );
}
