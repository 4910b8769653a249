import type { FastifyInstance } from 'fastify';
import type { Keys } from '../../homeserver/keys/keys.ts';
import type { KeyCounts, LocalKeys } from '../../homeserver/keys/local_keys.ts';
import type { Done } from '../../homeserver/once.ts';
import type { Sync } from '../../homeserver/sync/sync.ts';
import { invalidParam, MatrixError, missingParam } from '../../matrix/error.ts';
import { type DeviceId, parseUserId, type UserId } from '../../matrix/ids.ts';
import type { JsonObject } from '../../matrix/json.ts';
import { type Query, text } from './query.ts';

/** Of one query, and of one claim. */
const MAX_USERS = 10_000;
const MAX_CLAIMED = 2_000;

const UPLOAD_BODY = {
  type: 'object',
  properties: {
    device_keys: { type: 'object' },
    one_time_keys: { type: 'object' },
    fallback_keys: { type: 'object' },
  },
} as const;

const QUERY_BODY = {
  type: 'object',
  required: ['device_keys'],
  properties: {
    timeout: { type: 'integer' },
    device_keys: {
      type: 'object',
      // Some clients mean all devices by null or an object.
      additionalProperties: { type: ['array', 'null', 'object'], items: { type: 'string' } },
    },
  },
} as const;

const CLAIM_BODY = {
  type: 'object',
  required: ['one_time_keys'],
  properties: {
    timeout: { type: 'integer' },
    one_time_keys: {
      type: 'object',
      additionalProperties: { type: 'object', additionalProperties: { type: 'string' } },
    },
  },
} as const;

const UNSAFE = { auth: 'device', repeated: 'ledger' } as const;

interface KeyServices {
  readonly localKeys: LocalKeys;
  readonly keys: Keys;
  readonly sync: Sync;
}

/** Client-server API, "Key management API". */
export function keyRoutes(app: FastifyInstance, { localKeys, keys, sync }: KeyServices): void {
  app.post<{ Body: { device_keys?: JsonObject; one_time_keys?: JsonObject; fallback_keys?: JsonObject } }>(
    '/_matrix/client/v3/keys/upload',
    { config: UNSAFE, schema: { body: UPLOAD_BODY } },
    async ({ requester, body, once }) => {
      const upload = {
        deviceKeys: body.device_keys,
        oneTimeKeys: body.one_time_keys,
        fallbackKeys: body.fallback_keys,
      };
      return once.answer(
        (done: Done<KeyCounts>) => localKeys.upload(requester, upload, done),
        (counts) => ({ one_time_key_counts: counts }),
      );
    },
  );

  app.post<{ Body: { timeout?: number; device_keys: Record<string, DeviceId[] | JsonObject | null> } }>(
    '/_matrix/client/v3/keys/query',
    {
      config: { auth: 'device', repeated: { harmless: 'it changes nothing' } },
      schema: { body: QUERY_BODY },
    },
    async ({ requester, body }) => {
      const wanted = byUser(body.device_keys, (devices) => (Array.isArray(devices) ? devices : []));
      if (wanted.size > MAX_USERS) throw tooMany();
      return keys.query(requester, wanted, body.timeout);
    },
  );

  app.post<{ Body: { timeout?: number; one_time_keys: Record<string, Record<DeviceId, string>> } }>(
    '/_matrix/client/v3/keys/claim',
    { config: UNSAFE, schema: { body: CLAIM_BODY } },
    async ({ body, once }) => {
      const wanted = byUser(
        body.one_time_keys,
        (devices) => new Map(Object.entries(devices) as [DeviceId, string][]),
      );
      const count = [...wanted.values()].reduce((sum, { size }) => sum + size, 0);
      if (count > MAX_CLAIMED) throw tooMany();
      return keys.claim(wanted, once, body.timeout);
    },
  );

  app.get<{ Querystring: Query }>(
    '/_matrix/client/v3/keys/changes',
    { config: { auth: 'device' } },
    async ({ requester, query }) => {
      const [from, to] = [text(query, 'from'), text(query, 'to')];
      if (from === undefined || to === undefined) throw missingParam('from and to are needed.');
      const { changed, left } = await sync.deviceLists(requester, from, to);
      return { changed, left };
    },
  );
}

function byUser<From, To>(given: Readonly<Record<string, From>>, read: (from: From) => To): Map<UserId, To> {
  return new Map(
    Object.entries(given).map(([id, from]) => {
      const user = parseUserId(id);
      if (!user.ok) throw invalidParam('That is no user id.');
      return [user.value, read(from)] as const;
    }),
  );
}

const tooMany = (): MatrixError => new MatrixError(413, 'M_TOO_LARGE', 'These are too many for one request.');
