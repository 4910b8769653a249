import type { FastifyInstance } from 'fastify';
import type { Directory } from '../../homeserver/directory.ts';
import type { Done } from '../../homeserver/once.ts';
import type { PublicRoomsRequest } from '../../homeserver/ports.ts';
import type { ServerName } from '../../matrix/ids.ts';
import { aliasParameter, roomParameter, serverParameter } from '../parameters.ts';
import { natural, type Query, text } from './query.ts';

interface DirectoryServices {
  readonly directory: Directory;
  readonly serverName: ServerName;
}

type AliasPath = { Params: { roomAlias: string } };
type RoomPath = { Params: { roomId: string } };

const ROOM_ALIAS = '/_matrix/client/v3/directory/room/:roomAlias';
const LISTED_ROOM = '/_matrix/client/v3/directory/list/room/:roomId';
const PUBLIC_ROOMS = '/_matrix/client/v3/publicRooms';
const CHANGE = { auth: 'device', repeated: 'ledger' } as const;
const ALIAS_BODY = {
  type: 'object',
  required: ['room_id'],
  properties: { room_id: { type: 'string' } },
} as const;
const VISIBILITY_BODY = {
  type: 'object',
  properties: { visibility: { enum: ['public', 'private'] } },
} as const;
/** What POST /publicRooms asks for, here and in the server-server API. */
export const PUBLIC_ROOMS_BODY = {
  type: 'object',
  properties: {
    limit: { type: 'integer', minimum: 0 },
    since: { type: 'string' },
    filter: {
      type: 'object',
      properties: {
        generic_search_term: { type: ['string', 'null'] },
        room_types: { type: ['array', 'null'], maxItems: 100, items: { type: ['string', 'null'] } },
      },
    },
    include_all_networks: { type: 'boolean' },
    third_party_instance_id: { type: ['string', 'null'] },
  },
} as const;

/** Client-server API, "Room aliases" and "Published room directory". */
export function directoryRoutes(app: FastifyInstance, services: DirectoryServices): void {
  addAliases(app, services.directory);
  addList(app, services);
}

function addAliases(app: FastifyInstance, directory: Directory): void {
  app.get<AliasPath>(ROOM_ALIAS, { config: { auth: 'none' } }, async ({ params }) => {
    const { room, servers } = await directory.resolve(aliasParameter(params.roomAlias));
    return { room_id: room, servers: [...servers] };
  });

  app.put<AliasPath & { Body: { readonly room_id: string } }>(
    ROOM_ALIAS,
    { config: CHANGE, schema: { body: ALIAS_BODY } },
    async ({ requester: { user }, params, body, once }) => {
      const alias = aliasParameter(params.roomAlias);
      const room = roomParameter(body.room_id);
      return once.answer((done: Done<void>) => directory.set(alias, room, user, done), nothing);
    },
  );

  app.delete<AliasPath>(ROOM_ALIAS, { config: CHANGE }, async ({ requester: { user }, params, once }) => {
    const alias = aliasParameter(params.roomAlias);
    return once.answer((done: Done<void>) => directory.remove(alias, user, done), nothing);
  });

  app.get<RoomPath>(
    '/_matrix/client/v3/rooms/:roomId/aliases',
    { config: { auth: 'device' } },
    async ({ requester, params }) => ({
      aliases: await directory.aliasesOf(roomParameter(params.roomId), requester.user),
    }),
  );
}

function addList(app: FastifyInstance, { directory, serverName }: DirectoryServices): void {
  app.get<RoomPath>(LISTED_ROOM, { config: { auth: 'none' } }, async ({ params }) => ({
    visibility: await directory.visibility(roomParameter(params.roomId)),
  }));

  app.put<RoomPath & { Body: { readonly visibility?: 'public' | 'private' } }>(
    LISTED_ROOM,
    { config: CHANGE, schema: { body: VISIBILITY_BODY } },
    async ({ requester: { user }, params, body, once }) => {
      const room = roomParameter(params.roomId);
      const isPublic = body.visibility !== 'private';
      return once.answer((done: Done<void>) => directory.setVisibility(room, user, isPublic, done), nothing);
    },
  );

  const serverIn = (query: Query): ServerName => {
    const server = text(query, 'server');
    return server === undefined ? serverName : serverParameter(server);
  };

  app.get<{ Querystring: Query }>(
    PUBLIC_ROOMS,
    { config: { auth: 'none', limited: true } },
    async ({ query }) => {
      const request = { limit: natural(query, 'limit'), since: text(query, 'since') };
      return directory.publicRoomsOf(serverIn(query), request);
    },
  );

  app.post<{ Querystring: Query; Body: PublicRoomsRequest }>(
    PUBLIC_ROOMS,
    {
      config: { auth: 'device', repeated: { harmless: 'it changes nothing' } },
      schema: { body: PUBLIC_ROOMS_BODY },
    },
    async ({ query, body }) => {
      return directory.publicRoomsOf(serverIn(query), body);
    },
  );
}

const nothing = () => ({});
