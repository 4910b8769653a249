import type { FastifyInstance } from 'fastify';
import type { Rooms } from '../../homeserver/rooms/rooms.ts';
import { notFound } from '../../matrix/error.ts';
import type { RoomId, UserId } from '../../matrix/ids.ts';
import { roomParameter, userParameter } from '../parameters.ts';
import type { Query } from './query.ts';
import { emptyBody, REASON } from './room_params.ts';

interface RoomPath {
  readonly roomId: string;
}

interface ReasonBody {
  readonly reason?: string;
}

interface TargetBody extends ReasonBody {
  readonly user_id: string;
}

const REASON_BODY = { type: 'object', properties: { reason: REASON } } as const;
const TARGET_BODY = {
  type: 'object',
  required: ['user_id'],
  properties: { user_id: { type: 'string' }, reason: REASON },
} as const;

/** Client-server API, "Room membership". */
export function membershipRoutes(app: FastifyInstance, { rooms }: { readonly rooms: Rooms }): void {
  addJoining(app, rooms);
  addLeaving(app, rooms);
  const { memberships } = rooms;
  addTargeted(app, 'invite', (sender, room, target, reason) =>
    memberships.invite(sender, room, target, { reason }),
  );
  addTargeted(app, 'kick', (sender, room, target, reason) => memberships.kick(sender, room, target, reason));
  addTargeted(app, 'ban', (sender, room, target, reason) => memberships.ban(sender, room, target, reason));
  addTargeted(app, 'unban', (sender, room, target, reason) =>
    memberships.unban(sender, room, target, reason),
  );

  app.get('/_matrix/client/v3/joined_rooms', { config: { auth: 'device' } }, async ({ requester }) => ({
    joined_rooms: await rooms.queries.joinedRooms(requester.user),
  }));
}

function addJoining(app: FastifyInstance, rooms: Rooms): void {
  app.post<{ Params: RoomPath; Body: ReasonBody }>(
    '/_matrix/client/v3/rooms/:roomId/join',
    { config: { auth: 'device' }, preValidation: emptyBody, schema: { body: REASON_BODY } },
    async ({ requester, params, body }) => {
      const room = roomParameter(params.roomId);
      await rooms.memberships.join(requester.user, room, { reason: body.reason });
      return { room_id: room };
    },
  );

  app.post<{ Params: { roomIdOrAlias: string }; Querystring: Query; Body: ReasonBody }>(
    '/_matrix/client/v3/join/:roomIdOrAlias',
    { config: { auth: 'device' }, preValidation: emptyBody, schema: { body: REASON_BODY } },
    async ({ requester, params, query, body }) => {
      if (params.roomIdOrAlias.startsWith('#')) throw notFound('Room aliases are not served yet.');
      const room = roomParameter(params.roomIdOrAlias);
      // `server_name` is what `via` was called until v1.12.
      const via = [query.via ?? [], query.server_name ?? []].flat();
      await rooms.memberships.join(requester.user, room, { via, reason: body.reason });
      return { room_id: room };
    },
  );
}

function addLeaving(app: FastifyInstance, rooms: Rooms): void {
  app.post<{ Params: RoomPath; Body: ReasonBody }>(
    '/_matrix/client/v3/rooms/:roomId/leave',
    { config: { auth: 'device' }, preValidation: emptyBody, schema: { body: REASON_BODY } },
    async ({ requester, params, body }) => {
      await rooms.memberships.leave(requester.user, roomParameter(params.roomId), body.reason);
      return {};
    },
  );

  app.post<{ Params: RoomPath }>(
    '/_matrix/client/v3/rooms/:roomId/forget',
    { config: { auth: 'device' } },
    async ({ requester, params }) => {
      await rooms.memberships.forget(requester.user, roomParameter(params.roomId));
      return {};
    },
  );
}

/** A route by which one user changes another's membership. */
function addTargeted(
  app: FastifyInstance,
  action: string,
  run: (sender: UserId, room: RoomId, target: UserId, reason: string | undefined) => Promise<void>,
): void {
  app.post<{ Params: RoomPath; Body: TargetBody }>(
    `/_matrix/client/v3/rooms/:roomId/${action}`,
    { config: { auth: 'device' }, schema: { body: TARGET_BODY } },
    async ({ requester, params, body }) => {
      await run(requester.user, roomParameter(params.roomId), userParameter(body.user_id), body.reason);
      return {};
    },
  );
}
