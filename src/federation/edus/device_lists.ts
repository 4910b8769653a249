import type { UserKeys } from '../../homeserver/ports.ts';
import { type DeviceId, fitsIdLimit, type ServerName, type UserId } from '../../matrix/ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../../matrix/json.ts';
import type { QueuedDeviceUpdate } from '../../storage/outbox_device_lists.ts';
import { userOf } from './parts.ts';

// Server-server API, "Device Management" and "End-to-End Encryption".

export const DEVICE_LIST_UPDATE = 'm.device_list_update';
export const SIGNING_KEY_UPDATE = 'm.signing_key_update';

/** The size of the keys of one device, or of one signing key with its signatures, that is taken of others. */
const MAX_KEYS_BYTES = 65_536;

/** What a user's server may see of them. */
export type ToldKeys = UserKeys & { readonly names: ReadonlyMap<DeviceId, string> };

/** The EDU that tells what holds of a device, or of a user's signing keys. @param keys undefined: there is no such user any more */
export function deviceUpdateEdu(
  { user, device, streamId, prevId }: QueuedDeviceUpdate,
  keys: ToldKeys | undefined,
): JsonObject {
  if (device === undefined) return signingKeyEdu(user, keys);
  const [told, name] = [keys?.devices.get(device), keys?.names.get(device)];
  return {
    edu_type: DEVICE_LIST_UPDATE,
    content: {
      user_id: user,
      device_id: device,
      stream_id: streamId,
      prev_id: prevId === undefined ? [] : [prevId],
      ...(told === undefined && { deleted: true }),
      ...(told !== undefined && { keys: told }),
      ...(told !== undefined && name !== undefined && { device_display_name: name }),
    },
  };
}

const signingKeyEdu = (user: UserId, keys: UserKeys | undefined): JsonObject => ({
  edu_type: SIGNING_KEY_UPDATE,
  content: {
    user_id: user,
    ...(keys?.master && { master_key: keys.master }),
    ...(keys?.selfSigning && { self_signing_key: keys.selfSigning }),
  },
});

/** A change of a device, or of signing keys, of another server's user. */
export type KeyChange =
  | {
      readonly kind: 'device';
      readonly user: UserId;
      readonly device: DeviceId;
      readonly streamId: number;
      readonly prevIds: readonly number[];
      /** Null: it has none, or is gone. Undefined: what was told cannot be used. */
      readonly keys: JsonObject | null | undefined;
    }
  | {
      readonly kind: 'signing';
      readonly user: UserId;
      /** Null: there is none. Undefined: what was told cannot be used. */
      readonly master: JsonObject | null | undefined;
      readonly selfSigning: JsonObject | null | undefined;
    };

/** What another server tells of its user's keys; undefined where it does not even say whose. */
export function keyChangeIn(origin: ServerName, type: string, content: JsonObject): KeyChange | undefined {
  const user = userOf(origin, own(content, 'user_id'));
  if (user === undefined) return undefined;
  if (type === SIGNING_KEY_UPDATE)
    return {
      kind: 'signing',
      user,
      master: signingKeyIn(user, 'master', own(content, 'master_key')),
      selfSigning: signingKeyIn(user, 'self_signing', own(content, 'self_signing_key')),
    };
  const device = deviceIn(own(content, 'device_id'));
  const [streamId, prevIds] = [own(content, 'stream_id'), own(content, 'prev_id') ?? []];
  if (device === undefined || !isStreamId(streamId)) return undefined;
  const isGone = own(content, 'deleted') === true;
  return {
    kind: 'device',
    user,
    device,
    streamId,
    prevIds: Array.isArray(prevIds) ? prevIds.filter(isStreamId) : [],
    keys: isGone ? null : named(deviceKeysIn(user, device, own(content, 'keys')), content),
  };
}

const named = (keys: JsonObject | null | undefined, content: JsonObject): JsonObject | null | undefined =>
  keys && namedKeys(keys, own(content, 'device_display_name'));

/** A device's keys as clients are told them: with what the device is called, and nothing else that is not signed. */
export function namedKeys(keys: JsonObject, name: JsonValue | undefined): JsonObject {
  const { unsigned: _, ...signed } = keys;
  return typeof name === 'string' && fitsIdLimit(name)
    ? { ...signed, unsigned: { device_display_name: name } }
    : signed;
}

/** A device id as another server tells it. */
export const deviceIn = (value: JsonValue | undefined): DeviceId | undefined =>
  typeof value === 'string' && value !== '' && fitsIdLimit(value) ? (value as DeviceId) : undefined;

/** The keys of a device; null where there are none, undefined where they are not that device's. */
export function deviceKeysIn(
  user: UserId,
  device: DeviceId,
  value: JsonValue | undefined,
): JsonObject | null | undefined {
  if (value === undefined || value === null) return null;
  if (!isJsonObject(value) || !isSmall(value)) return undefined;
  const isOwn = own(value, 'user_id') === user && own(value, 'device_id') === device;
  return isOwn && isJsonObject(own(value, 'keys')) && Array.isArray(own(value, 'algorithms'))
    ? value
    : undefined;
}

/** A user's signing key; null where there is none, undefined where it is none of theirs. */
export function signingKeyIn(
  user: UserId,
  usage: 'master' | 'self_signing',
  value: JsonValue | undefined,
): JsonObject | null | undefined {
  if (value === undefined || value === null) return null;
  if (!isJsonObject(value) || !isSmall(value)) return undefined;
  const usages = own(value, 'usage');
  const isOfUse = Array.isArray(usages) && usages.includes(usage);
  return isOfUse && own(value, 'user_id') === user && isJsonObject(own(value, 'keys')) ? value : undefined;
}

const isSmall = (value: JsonObject): boolean => Buffer.byteLength(JSON.stringify(value)) <= MAX_KEYS_BYTES;

export const isStreamId = (value: JsonValue | undefined): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
