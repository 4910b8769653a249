import type { FastifyInstance } from 'fastify';
import type { Rooms } from '../../homeserver/rooms/rooms.ts';
import { invalidParam, notFound } from '../../matrix/error.ts';
import { type ServerName, serverOf } from '../../matrix/ids.ts';
import type { JsonObject } from '../../matrix/json.ts';
import { roomParameter, userParameter } from '../parameters.ts';

interface PartialInvite {
  readonly room_id: string;
  readonly sender: string;
  readonly state_key: string;
  readonly content: JsonObject & {
    readonly third_party_invite: JsonObject & { readonly signed: JsonObject & { readonly mxid: string } };
  };
}

const BODY = {
  type: 'object',
  required: ['type', 'room_id', 'sender', 'state_key', 'content'],
  properties: {
    type: { const: 'm.room.member' },
    room_id: { type: 'string' },
    sender: { type: 'string' },
    state_key: { type: 'string' },
    content: {
      type: 'object',
      required: ['membership', 'third_party_invite'],
      properties: {
        membership: { const: 'invite' },
        third_party_invite: {
          type: 'object',
          required: ['display_name', 'signed'],
          properties: {
            display_name: { type: 'string' },
            signed: {
              type: 'object',
              required: ['mxid', 'token', 'signatures'],
              properties: {
                mxid: { type: 'string' },
                token: { type: 'string' },
                signatures: { type: 'object' },
              },
            },
          },
        },
      },
    },
  },
} as const;

/**
 * Server-server API, "Third-party invites": a user of this server has invited an address, and somebody shows that it is
 * theirs. No identity server is asked: what they show, the rules of the room judge.
 */
export function thirdPartyInviteRoutes(
  app: FastifyInstance,
  {
    serverName,
    rooms,
  }: { readonly serverName: ServerName; readonly rooms: Pick<Rooms, 'memberships' | 'isServerInRoom'> },
): void {
  app.put<{ Params: { roomId: string }; Body: PartialInvite }>(
    '/_matrix/federation/v1/exchange_third_party_invite/:roomId',
    {
      config: { auth: 'server', repeated: { harmless: 'who is invited is not invited once more' } },
      schema: { body: BODY },
    },
    async ({ params, body }) => {
      const room = roomParameter(params.roomId);
      if (body.room_id !== room) throw invalidParam('The event is of another room.');
      const [sender, target] = [userParameter(body.sender), userParameter(body.state_key)];
      const invite = body.content.third_party_invite;
      if (invite.signed.mxid !== target) throw invalidParam('The signature is about somebody else.');
      if (serverOf(sender) !== serverName) throw invalidParam('The sender is not a user of this server.');
      if (!(await rooms.isServerInRoom(room, serverName))) throw notFound('This server is not in that room.');
      // Nothing else of what was sent: it goes out in our user's name.
      const { display_name: displayName, signed } = invite;
      const content = { membership: 'invite', third_party_invite: { display_name: displayName!, signed } };
      await rooms.memberships.inviteWith(sender, room, target, content);
      return {};
    },
  );
}
