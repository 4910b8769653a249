import type { FastifyInstance } from 'fastify';
import type { AccountData } from '../../homeserver/account_data.ts';
import type { Requester } from '../../homeserver/accounts.ts';
import { forbidden } from '../../matrix/error.ts';
import type { RoomId } from '../../matrix/ids.ts';
import type { JsonObject } from '../../matrix/json.ts';
import { roomParameter } from '../parameters.ts';

interface UserPath {
  readonly userId: string;
}
interface RoomPath extends UserPath {
  readonly roomId: string;
}
interface TypePath extends UserPath {
  readonly type: string;
}

const READ = { config: { auth: 'device' } } as const;
const CONFIG = { auth: 'device', repeated: 'ledger' } as const;
const CONTENT = { type: 'object' } as const;
/** Client-server API, "Room Tagging". */
const TAG = { type: 'object', properties: { order: { type: 'number', minimum: 0, maximum: 1 } } } as const;

/** Client-server API, "Client Config" and "Room Tagging". */
export function accountDataRoutes(
  app: FastifyInstance,
  { accountData }: { readonly accountData: AccountData },
): void {
  for (const { path, roomOf } of [
    { path: '/_matrix/client/v3/user/:userId/account_data/:type', roomOf: noRoom },
    { path: '/_matrix/client/v3/user/:userId/rooms/:roomId/account_data/:type', roomOf: roomIn },
  ]) {
    app.get<{ Params: TypePath & Partial<RoomPath> }>(path, READ, async ({ requester, params }) => {
      const { user } = ownPath(requester, params);
      return accountData.get(user, roomOf(params), params.type);
    });

    app.put<{ Params: TypePath & Partial<RoomPath>; Body: JsonObject }>(
      path,
      { config: CONFIG, schema: { body: CONTENT } },
      async ({ requester, params, body, once }) => {
        const { user } = ownPath(requester, params);
        const place = { room: roomOf(params), type: params.type };
        return once.answer((done) => accountData.put(user, place, body, done), nothing);
      },
    );
  }
  addTags(app, accountData);
}

function addTags(app: FastifyInstance, accountData: AccountData): void {
  const path = '/_matrix/client/v3/user/:userId/rooms/:roomId/tags';
  app.get<{ Params: RoomPath }>(path, READ, async ({ requester, params }) => {
    const { user } = ownPath(requester, params);
    return { tags: await accountData.tags(user, roomParameter(params.roomId)) };
  });

  app.put<{ Params: RoomPath & { tag: string }; Body: JsonObject }>(
    `${path}/:tag`,
    { config: CONFIG, schema: { body: TAG } },
    async ({ requester, params, body, once }) => {
      const { user } = ownPath(requester, params);
      const room = roomParameter(params.roomId);
      return once.answer((done) => accountData.putTag(user, room, params.tag, body, done), nothing);
    },
  );

  app.delete<{ Params: RoomPath & { tag: string } }>(
    `${path}/:tag`,
    { config: CONFIG },
    async ({ requester, params, once }) => {
      const { user } = ownPath(requester, params);
      const room = roomParameter(params.roomId);
      return once.answer((done) => accountData.deleteTag(user, room, params.tag, done), nothing);
    },
  );
}

const noRoom = (): undefined => undefined;
const roomIn = ({ roomId }: { readonly roomId?: string }): RoomId => roomParameter(roomId ?? '');
const nothing = (): JsonObject => ({});

function ownPath(requester: Requester, { userId }: UserPath): Requester {
  if (userId !== requester.user) throw forbidden('This is the data of another user.');
  return requester;
}
