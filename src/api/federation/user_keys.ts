import type { FastifyInstance } from 'fastify';
import type { Clock } from '../../base/time.ts';
import { claimedJson, type LocalKeys } from '../../homeserver/keys/local_keys.ts';
import type { UserKeys } from '../../homeserver/ports.ts';
import { invalidParam, MatrixError, notFound } from '../../matrix/error.ts';
import { type DeviceId, type ServerName, serverOf, type UserId } from '../../matrix/ids.ts';
import type { JsonObject } from '../../matrix/json.ts';
import type { Database } from '../../storage/database.ts';
import { lastDeviceLink, putAsker, sharesRoomWithServer } from '../../storage/outbox_device_lists.ts';
import { userParameter } from '../parameters.ts';

/** Of one request. */
const MAX_USERS = 10_000;
const MAX_CLAIMED = 2_000;
/** Users of one request of whose changes a server is told that is in no room with them as far as is known. */
const MAX_NOTED = 100;

const QUERY_BODY = {
  type: 'object',
  required: ['device_keys'],
  properties: {
    device_keys: {
      type: 'object',
      maxProperties: MAX_USERS,
      // Some servers mean all devices by null or an object, as clients do.
      additionalProperties: { type: ['array', 'null', 'object'], items: { type: 'string' } },
    },
  },
} as const;

const CLAIM_BODY = {
  type: 'object',
  required: ['one_time_keys'],
  properties: {
    one_time_keys: {
      type: 'object',
      additionalProperties: { type: 'object', additionalProperties: { type: 'string' } },
    },
  },
} as const;

interface UserKeyServices {
  readonly serverName: ServerName;
  readonly database: Database;
  readonly clock: Clock;
  readonly localKeys: Pick<LocalKeys, 'devicesOf' | 'query' | 'claim'>;
}

/** Server-server API, "Device Management" and "End-to-End Encryption". */
export function userKeyRoutes(
  app: FastifyInstance,
  { serverName, database, clock, localKeys }: UserKeyServices,
): void {
  const localUser = (text: string): UserId => {
    const user = userParameter(text);
    if (serverOf(user) !== serverName) throw invalidParam('The user is not one of this server.');
    return user;
  };
  /** Before the keys are read, so that each later change is told. */
  const noteAsker = async (origin: ServerName, users: Iterable<UserId>): Promise<void> => {
    const strangers: UserId[] = [];
    for (const user of users) if (!(await sharesRoomWithServer(database, user, origin))) strangers.push(user);
    if (strangers.length === 0) return;
    await database.transaction(async (tx) => {
      for (const user of strangers.slice(0, MAX_NOTED)) await putAsker(tx, user, origin, clock.wall());
    });
  };

  app.get<{ Params: { userId: string } }>(
    '/_matrix/federation/v1/user/devices/:userId',
    { config: { auth: 'server' } },
    async ({ origin, params }) => {
      const user = localUser(params.userId);
      await noteAsker(origin, [user]);
      // Read first: what changes meanwhile is told once more, and not missed.
      const streamId = await lastDeviceLink(database, user);
      const found = await localKeys.devicesOf(user);
      if (found === undefined) throw notFound('There is no such user.');
      const { keys, names } = found;
      return {
        user_id: user,
        stream_id: streamId,
        devices: [...keys.devices].map(([device, ofDevice]) => ({
          device_id: device,
          keys: ofDevice,
          ...(names.has(device) && { device_display_name: names.get(device)! }),
        })),
        ...(keys.master && { master_key: keys.master }),
        ...(keys.selfSigning && { self_signing_key: keys.selfSigning }),
      };
    },
  );

  app.post<{ Body: { readonly device_keys: Readonly<Record<string, readonly string[] | object | null>> } }>(
    '/_matrix/federation/v1/user/keys/query',
    {
      config: { auth: 'server', repeated: { harmless: 'who asks is noted once' } },
      schema: { body: QUERY_BODY },
    },
    async ({ origin, body }) => {
      const wanted = new Map(
        Object.entries(body.device_keys).map(([user, devices]) => [
          localUser(user),
          Array.isArray(devices) ? (devices as readonly DeviceId[]) : [],
        ]),
      );
      await noteAsker(origin, wanted.keys());
      const found = await localKeys.query(wanted);
      return {
        device_keys: Object.fromEntries([...found].map(([user, keys]) => [user, devicesWithNames(keys)])),
        master_keys: keysBy(found, ({ master }) => master),
        self_signing_keys: keysBy(found, ({ selfSigning }) => selfSigning),
      };
    },
  );

  app.post<{ Body: { readonly one_time_keys: Readonly<Record<string, Readonly<Record<string, string>>>> } }>(
    '/_matrix/federation/v1/user/keys/claim',
    { config: { auth: 'server', repeated: 'ledger' }, schema: { body: CLAIM_BODY } },
    async ({ body, once }) => {
      const wanted = new Map(
        Object.entries(body.one_time_keys).map(([user, devices]) => [
          localUser(user),
          new Map(Object.entries(devices) as [DeviceId, string][]),
        ]),
      );
      const devices = [...wanted.values()].reduce((sum, each) => sum + each.size, 0);
      if (devices > MAX_CLAIMED)
        throw new MatrixError(413, 'M_TOO_LARGE', `At most ${MAX_CLAIMED} keys are claimed at once.`);
      return { one_time_keys: claimedJson(await localKeys.claim(wanted, once)) };
    },
  );
}

type Named = UserKeys & { readonly names: ReadonlyMap<DeviceId, string> };

const devicesWithNames = ({ devices, names }: Named): JsonObject =>
  Object.fromEntries(
    [...devices].map(([device, keys]): [string, JsonObject] => {
      const name = names.get(device);
      return [device, name === undefined ? keys : { ...keys, unsigned: { device_display_name: name } }];
    }),
  );

function keysBy(
  found: ReadonlyMap<UserId, UserKeys>,
  keyOf: (keys: UserKeys) => JsonObject | undefined,
): JsonObject {
  return Object.fromEntries(
    [...found].flatMap(([user, keys]): [string, JsonObject][] => {
      const key = keyOf(keys);
      return key === undefined ? [] : [[user, key]];
    }),
  );
}
