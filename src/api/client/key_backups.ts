import { Readable } from 'node:stream';
import { text as wholeText } from 'node:stream/consumers';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type {
  BackedUpKey,
  BackupDescription,
  Counted,
  KeyBackups,
  KeysByRoom,
} from '../../homeserver/key_backups.ts';
import type { Done } from '../../homeserver/once.ts';
import { invalidParam, missingParam } from '../../matrix/error.ts';
import type { JsonObject } from '../../matrix/json.ts';
import { prefersCbor } from '../bodies.ts';
import { type Query, text } from './query.ts';

const VERSIONS = '/_matrix/client/v3/room_keys/version';
const VERSION = `${VERSIONS}/:version`;
const KEYS = '/_matrix/client/v3/room_keys/keys';
const ROOM = `${KEYS}/:roomId`;
const SESSION = `${ROOM}/:sessionId`;

const READ = { auth: 'device' } as const;
const CHANGE = { auth: 'device', repeated: 'ledger' } as const;

const DESCRIPTION = {
  type: 'object',
  required: ['algorithm', 'auth_data'],
  properties: {
    algorithm: { type: 'string', maxLength: 255 },
    auth_data: { type: 'object' },
  },
} as const;

/** As it is changed: some clients send the version too. */
const CHANGED_DESCRIPTION = {
  ...DESCRIPTION,
  properties: { ...DESCRIPTION.properties, version: { type: 'string' } },
} as const;

const COUNT = { type: 'integer', minimum: 0, maximum: Number.MAX_SAFE_INTEGER } as const;

const KEY_BODY = {
  type: 'object',
  required: ['first_message_index', 'forwarded_count', 'is_verified', 'session_data'],
  properties: {
    first_message_index: COUNT,
    forwarded_count: COUNT,
    is_verified: { type: 'boolean' },
    session_data: { type: 'object' },
  },
} as const;

const SESSIONS_BODY = {
  type: 'object',
  required: ['sessions'],
  properties: { sessions: { type: 'object', additionalProperties: KEY_BODY } },
} as const;

const ROOMS_BODY = {
  type: 'object',
  required: ['rooms'],
  properties: { rooms: { type: 'object', additionalProperties: SESSIONS_BODY } },
} as const;

interface Sessions {
  readonly sessions: Readonly<Record<string, BackedUpKey>>;
}

interface Place {
  readonly roomId?: string;
  readonly sessionId?: string;
}

/** Client-server API, "Server-side key backups". */
export function keyBackupRoutes(
  app: FastifyInstance,
  { keyBackups }: { readonly keyBackups: KeyBackups },
): void {
  addVersions(app, keyBackups);
  addWriting(app, keyBackups);
  addReading(app, keyBackups);

  for (const path of [KEYS, ROOM, SESSION])
    app.delete<{ Params: Place; Querystring: Query }>(
      path,
      { config: CHANGE },
      async ({ requester, params, query, once }) => {
        const { roomId: room, sessionId: session } = params;
        const selection = room === undefined ? undefined : { room, session };
        return once.answer(
          (done: Done<Counted>) => keyBackups.deleteKeys(requester.user, versionIn(query), selection, done),
          toJson,
        );
      },
    );
}

function addVersions(app: FastifyInstance, backups: KeyBackups): void {
  app.post<{ Body: BackupDescription }>(
    VERSIONS,
    { config: CHANGE, schema: { body: DESCRIPTION } },
    async ({ requester, body, once }) =>
      once.answer(
        (done: Done<string>) => backups.create(requester.user, body, done),
        (version) => ({ version }),
      ),
  );

  app.get(VERSIONS, { config: READ }, async ({ requester }) => backups.about(requester.user));

  app.get<{ Params: { version: string } }>(VERSION, { config: READ }, async ({ requester, params }) =>
    backups.about(requester.user, params.version),
  );

  app.put<{ Params: { version: string }; Body: BackupDescription & { readonly version?: string } }>(
    VERSION,
    { config: CHANGE, schema: { body: CHANGED_DESCRIPTION } },
    async ({ requester, params: { version }, body, once }) => {
      if (body.version !== undefined && body.version !== version)
        throw invalidParam('The version in the body is not that in the path.');
      return once.answer(
        (done: Done<void>) => backups.describe(requester.user, version, body, done),
        () => ({}),
      );
    },
  );

  app.delete<{ Params: { version: string } }>(
    VERSION,
    { config: CHANGE },
    async ({ requester, params, once }) =>
      once.answer(
        (done: Done<void>) => backups.delete(requester.user, params.version, done),
        () => ({}),
      ),
  );
}

function addWriting(app: FastifyInstance, backups: KeyBackups): void {
  const put = (
    { requester, query, once }: FastifyRequest<{ Querystring: Query }>,
    rooms: KeysByRoom,
  ): Promise<JsonObject> =>
    once.answer((done: Done<Counted>) => backups.put(requester.user, versionIn(query), rooms, done), toJson);

  app.put<{ Querystring: Query; Body: { rooms: Record<string, Sessions> } }>(
    KEYS,
    { config: CHANGE, schema: { body: ROOMS_BODY } },
    async (request) => {
      const rooms = Object.entries(request.body.rooms).map(([room, { sessions }]) => [room, sessions]);
      return put(request, Object.fromEntries(rooms) as KeysByRoom);
    },
  );

  app.put<{ Querystring: Query; Params: { roomId: string }; Body: Sessions }>(
    ROOM,
    { config: CHANGE, schema: { body: SESSIONS_BODY } },
    async (request) => put(request, { [request.params.roomId]: request.body.sessions }),
  );

  app.put<{ Querystring: Query; Params: { roomId: string; sessionId: string }; Body: BackedUpKey }>(
    SESSION,
    { config: CHANGE, schema: { body: KEY_BODY } },
    async (request) => {
      const { roomId, sessionId } = request.params;
      return put(request, { [roomId]: { [sessionId]: request.body } });
    },
  );
}

function addReading(app: FastifyInstance, backups: KeyBackups): void {
  for (const path of [KEYS, ROOM])
    app.get<{ Querystring: Query; Params: Place }>(path, { config: READ }, async (request, reply) => {
      const { requester, query, params } = request;
      return inPieces(request, reply, await backups.keys(requester.user, versionIn(query), params.roomId));
    });

  app.get<{ Querystring: Query; Params: { roomId: string; sessionId: string } }>(
    SESSION,
    { config: READ },
    async ({ requester, query, params }) =>
      backups.key(requester.user, versionIn(query), params.roomId, params.sessionId),
  );
}

/** Writes JSON as it is made; CBOR tells sizes first, and so needs all of it. */
async function inPieces(
  { headers }: FastifyRequest,
  reply: FastifyReply,
  pieces: AsyncIterable<string>,
): Promise<JsonObject | FastifyReply> {
  const stream = Readable.from(pieces);
  if (prefersCbor(headers.accept)) return JSON.parse(await wholeText(stream)) as JsonObject;
  return reply.type('application/json; charset=utf-8').send(stream);
}

/** @throws MatrixError M_MISSING_PARAM, M_INVALID_PARAM */
function versionIn(query: Query): string {
  const version = text(query, 'version');
  if (version === undefined) throw missingParam('version is missing.');
  return version;
}

const toJson = ({ etag, count }: Counted): JsonObject => ({ etag, count });
