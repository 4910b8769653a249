import type { FastifyInstance } from 'fastify';
import type { Accounts } from '../../homeserver/accounts.ts';
import type { Device, Devices } from '../../homeserver/devices.ts';
import type { AuthData } from '../../homeserver/interactive_auth.ts';
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
    { config: { auth: 'device' }, schema: { body: RENAME_BODY } },
    async ({ requester, params, body }) => {
      if (body.display_name === undefined) await devices.get(requester.user, params.deviceId);
      else await devices.rename(requester.user, params.deviceId, body.display_name);
      return {};
    },
  );

  app.delete<{ Params: DevicePath; Body: { auth?: AuthData | null } | undefined }>(
    '/_matrix/client/v3/devices/:deviceId',
    { config: { auth: 'device' }, schema: { body: { anyOf: [DELETE_BODY, { type: 'null' }] } } },
    async ({ requester, params, body }, reply) => {
      const refused = await accounts.confirm(requester, body?.auth);
      if (refused !== undefined) return reply.code(401).send(refused);
      await devices.delete(requester.user, [params.deviceId]);
      return {};
    },
  );

  app.post<{ Body: { devices: DeviceId[]; auth?: AuthData | null } }>(
    '/_matrix/client/v3/delete_devices',
    { config: { auth: 'device' }, schema: { body: DELETE_MANY_BODY } },
    async ({ requester, body }, reply) => {
      const refused = await accounts.confirm(requester, body.auth);
      if (refused !== undefined) return reply.code(401).send(refused);
      await devices.delete(requester.user, body.devices);
      return {};
    },
  );
}

const toJson = ({ device, displayName }: Device): JsonObject => ({
  device_id: device,
  ...(displayName === null ? {} : { display_name: displayName }),
});
