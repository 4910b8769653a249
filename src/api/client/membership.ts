import type { FastifyInstance } from 'fastify';
import type { Directory } from '../../homeserver/directory.ts';
import type { Done } from '../../homeserver/once.ts';
import type { Rooms } from '../../homeserver/rooms/rooms.ts';
import { forbidden } from '../../matrix/error.ts';
import type { JsonObject } from '../../matrix/json.ts';
import { roomParameter, userParameter } from '../parameters.ts';
import type { Query } from './query.ts';
import { emptyBody, REASON, roomOf } from './room_params.ts';

interface RoomPath {
  readonly roomId: string;
}

interface ReasonBody {
  readonly reason?: string;
}

interface JoinBody extends ReasonBody {
  readonly third_party_signed?: JsonObject;
}

interface TargetBody extends ReasonBody {
  readonly user_id: string;
}

const CONFIG = { auth: 'device', repeated: 'ledger' } as const;
const REASON_BODY = { type: 'object', properties: { reason: REASON } } as const;
const JOIN_BODY = {
  type: 'object',
  properties: { reason: REASON, third_party_signed: { type: 'object' } },
} as const;
const TARGET_BODY = {
  type: 'object',
  required: ['user_id'],
  properties: { user_id: { type: 'string' }, reason: REASON },
} as const;

/** Of a user by their id, or of somebody by an address ("Third-party invites"). */
const INVITE_BODY = {
  type: 'object',
  properties: { user_id: { type: 'string' }, reason: REASON },
  anyOf: [{ required: ['user_id'] }, { required: ['id_server', 'medium', 'address'] }],
} as const;

/** Client-server API, "Room membership". */
export function membershipRoutes(
  app: FastifyInstance,
  { rooms, directory }: { readonly rooms: Rooms; readonly directory: Pick<Directory, 'resolve'> },
): void {
  addJoining(app, rooms, directory);
  addKnocking(app, rooms, directory);
  addLeaving(app, rooms);
  addTargeted(app, rooms);

  app.get('/_matrix/client/v3/joined_rooms', { config: { auth: 'device' } }, async ({ requester }) => ({
    joined_rooms: await rooms.queries.joinedRooms(requester.user),
  }));
}

function addJoining(app: FastifyInstance, rooms: Rooms, directory: Pick<Directory, 'resolve'>): void {
  app.post<{ Params: RoomPath; Body: JoinBody }>(
    '/_matrix/client/v3/rooms/:roomId/join',
    { config: CONFIG, preValidation: emptyBody, schema: { body: JOIN_BODY } },
    async ({ requester, params, body, once }) => {
      checkNotThirdParty(body);
      const room = roomParameter(params.roomId);
      await rooms.memberships.join(requester.user, room, { reason: body.reason }, once);
      return { room_id: room };
    },
  );

  app.post<{ Params: { roomIdOrAlias: string }; Querystring: Query; Body: JoinBody }>(
    '/_matrix/client/v3/join/:roomIdOrAlias',
    { config: CONFIG, preValidation: emptyBody, schema: { body: JOIN_BODY } },
    async ({ requester, params, query, body, once }) => {
      checkNotThirdParty(body);
      const { room, servers } = await once.decide('room', () => roomOf(params.roomIdOrAlias, directory));
      const via = [...viaIn(query), ...servers];
      await rooms.memberships.join(requester.user, room, { via, reason: body.reason }, once);
      return { room_id: room };
    },
  );
}

function addKnocking(app: FastifyInstance, rooms: Rooms, directory: Pick<Directory, 'resolve'>): void {
  app.post<{ Params: { roomIdOrAlias: string }; Querystring: Query; Body: ReasonBody }>(
    '/_matrix/client/v3/knock/:roomIdOrAlias',
    { config: CONFIG, preValidation: emptyBody, schema: { body: REASON_BODY } },
    async ({ requester, params, query, body, once }) => {
      const { room, servers } = await once.decide('room', () => roomOf(params.roomIdOrAlias, directory));
      const via = [...viaIn(query), ...servers];
      await rooms.memberships.knock(requester.user, room, { via, reason: body.reason }, once);
      return { room_id: room };
    },
  );
}

/** The servers to go through; `server_name` is what `via` was called until v1.12. */
const viaIn = (query: Query): string[] => [query.via ?? [], query.server_name ?? []].flat();

/** Whoever was invited by an address joins with its identity server's signature, which nobody can have from here. */
function checkNotThirdParty(body: JoinBody): void {
  if (body.third_party_signed !== undefined) throw forbidden('Third-party invites are not served.');
}

function addLeaving(app: FastifyInstance, rooms: Rooms): void {
  app.post<{ Params: RoomPath; Body: ReasonBody }>(
    '/_matrix/client/v3/rooms/:roomId/leave',
    { config: CONFIG, preValidation: emptyBody, schema: { body: REASON_BODY } },
    async ({ requester, params, body, once }) => {
      const room = roomParameter(params.roomId);
      const leave = (done: Done<void>) => rooms.memberships.leave(requester.user, room, body.reason, done);
      return once.answer(leave, nothing);
    },
  );

  app.post<{ Params: RoomPath }>(
    '/_matrix/client/v3/rooms/:roomId/forget',
    { config: CONFIG },
    async ({ requester, params, once }) => {
      const room = roomParameter(params.roomId);
      return once.answer((done) => rooms.memberships.forget(requester.user, room, done), nothing);
    },
  );
}

/** Routes by which one user changes another's membership. */
function addTargeted(app: FastifyInstance, { memberships }: Rooms): void {
  for (const action of ['kick', 'ban', 'unban'] as const) {
    app.post<{ Params: RoomPath; Body: TargetBody }>(
      `/_matrix/client/v3/rooms/:roomId/${action}`,
      { config: CONFIG, schema: { body: TARGET_BODY } },
      async ({ requester: { user }, params, body, once }) => {
        const room = roomParameter(params.roomId);
        const target = userParameter(body.user_id);
        const change = (done: Done<void>) => memberships[action](user, room, target, body.reason, done);
        return once.answer(change, nothing);
      },
    );
  }

  app.post<{ Params: RoomPath; Body: Partial<TargetBody> }>(
    '/_matrix/client/v3/rooms/:roomId/invite',
    { config: CONFIG, schema: { body: INVITE_BODY } },
    async ({ requester, params, body: { user_id: target, reason }, once }) => {
      if (target === undefined) throw forbidden('Third-party invites are not served.');
      const room = roomParameter(params.roomId);
      await memberships.invite(requester.user, room, userParameter(target), { reason }, once);
      return {};
    },
  );
}

const nothing = () => ({});
