import type { FastifyInstance } from 'fastify';
import type { Accounts } from '../../homeserver/accounts.ts';
import type { Device, Devices } from '../../homeserver/devices.ts';
import type { AuthData } from '../../homeserver/interactive_auth.ts';
import type { Done } from '../../homeserver/once.ts';
import type { DeviceId } from '../../matrix/ids.ts';
import type { JsonObject } from '../../matrix/json.ts';
import { AUTH_DATA } from './schemas.ts';

/** Of one request. */
const MAX_DEVICES = 1_000;

const RENAME_BODY = {
  type: 'object',
  properties: { display_name: { type: 'string', maxLength: 100 } },
} as const;

const DELETE_BODY = { type: 'object', properties: { auth: AUTH_DATA } } as const;

const DELETE_MANY_BODY = {
  type: 'object',
  required: ['devices'],
  properties: {
    devices: { type: 'array', maxItems: MAX_DEVICES, items: { type: 'string' } },
    auth: AUTH_DATA,
  },
} as const;

const UNSAFE = { auth: 'device', repeated: 'ledger' } as const;

interface DevicePath {
  readonly deviceId: DeviceId;
}

/** Client-server API, "Device management". */
export function deviceRoutes(
  app: FastifyInstance,
  { accounts, devices }: { readonly accounts: Accounts; readonly devices: Devices },
): void {
  app.get('/_matrix/client/v3/devices', { config: { auth: 'device' } }, async ({ requester }) => ({
    devices: (await devices.list(requester.user)).map(toJson),
  }));

  app.get<{ Params: DevicePath }>(
    '/_matrix/client/v3/devices/:deviceId',
    { config: { auth: 'device' } },
    async ({ requester, params }) => toJson(await devices.get(requester.user, params.deviceId)),
  );

  app.put<{ Params: DevicePath; Body: { display_name?: string } }>(
    '/_matrix/client/v3/devices/:deviceId',
    { config: UNSAFE, schema: { body: RENAME_BODY } },
    async ({ requester, params, body, once }) => {
      const { display_name: name } = body;
      if (name === undefined) {
        await devices.get(requester.user, params.deviceId);
        return {};
      }
      return once.answer(
        (done: Done<void>) => devices.rename(requester.user, params.deviceId, name, done),
        () => ({}),
      );
    },
  );

  app.delete<{ Params: DevicePath; Body: { auth?: AuthData | null } | undefined }>(
    '/_matrix/client/v3/devices/:deviceId',
    { config: UNSAFE, schema: { body: { anyOf: [DELETE_BODY, { type: 'null' }] } } },
    async ({ requester, params, body, once }, reply) => {
      const refused = await accounts.confirm(requester, `delete ${params.deviceId}`, body?.auth);
      if (refused !== undefined) return reply.code(401).send(refused);
      return once.answer(
        (done: Done<void>) => devices.delete(requester, [params.deviceId], done),
        () => ({}),
      );
    },
  );

  app.post<{ Body: { devices: DeviceId[]; auth?: AuthData | null } }>(
    '/_matrix/client/v3/delete_devices',
    { config: UNSAFE, schema: { body: DELETE_MANY_BODY } },
    async ({ requester, body, once }, reply) => {
      const refused = await accounts.confirm(requester, 'delete devices', body.auth);
      if (refused !== undefined) return reply.code(401).send(refused);
      return once.answer(
        (done: Done<void>) => devices.delete(requester, body.devices, done),
        () => ({}),
      );
    },
  );
}

const toJson = ({ device, displayName, lastSeen, lastSeenIp }: Device): JsonObject => ({
  device_id: device,
  ...(displayName === null ? {} : { display_name: displayName }),
  ...(lastSeen === undefined ? {} : { last_seen_ts: lastSeen }),
  ...(lastSeenIp === null ? {} : { last_seen_ip: lastSeenIp }),
});
