import { invalidParam, MatrixError } from '../../matrix/error.ts';
import { type DeviceId, MAX_ID_BYTES, type UserId } from '../../matrix/ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../../matrix/json.ts';
import type { CrossSigningRow, KeyUsage } from '../../storage/cross_signing.ts';
import { ED25519, ed25519Key, objectIn } from './signed_objects.ts';

/** Characters of a device's identity keys, and of a cross-signing key. */
const MAX_OBJECT_LENGTH = 16 * 1024;
/** Characters of a one-time or fallback key: two signatures and the longest ids fit. */
const MAX_KEY_LENGTH = 2_048;

/** A one-time or fallback key as it is uploaded. */
export interface UploadedKey {
  readonly algorithm: string;
  readonly keyId: string;
  readonly value: JsonValue;
}

/**
 * Whether an object is the identity keys of a device (client-server API, "Device keys"). Whether the device has signed them is
 * for those to see who use them.
 */
export function isIdentityKeys(object: unknown, user: UserId, device: DeviceId): object is JsonObject {
  if (!isJsonObject(object) || own(object, 'user_id') !== user || own(object, 'device_id') !== device)
    return false;
  const [algorithms, keys, signatures] = ['algorithms', 'keys', 'signatures'].map((name) =>
    own(object, name),
  );
  return (
    Array.isArray(algorithms) &&
    algorithms.every((algorithm) => typeof algorithm === 'string') &&
    isJsonObject(keys) &&
    Object.values(keys).every((key) => typeof key === 'string') &&
    isJsonObject(signatures)
  );
}

/** @throws MatrixError M_INVALID_PARAM, M_TOO_LARGE */
export function checkIdentityKeys(object: JsonObject, user: UserId, device: DeviceId): void {
  if (!isIdentityKeys(object, user, device))
    throw invalidParam(
      'device_keys are not the keys of this device: its user, its id, algorithms, keys, signatures.',
    );
  if (ed25519Key(identityKeyOf(object, device)) === undefined)
    throw invalidParam('device_keys have no Ed25519 key of the device.');
  checkSize(object, MAX_OBJECT_LENGTH, 'device_keys are');
}

/** A device's Ed25519 key in its identity keys. */
export const identityKeyOf = (keys: JsonObject, device: DeviceId): JsonValue | undefined =>
  own(objectIn(keys, 'keys'), `${ED25519}${device}`);

/** One-time or fallback keys by `algorithm:id`. @throws MatrixError M_INVALID_PARAM, M_TOO_LARGE */
export function parseUploadedKeys(keys: JsonObject): UploadedKey[] {
  return Object.entries(keys).map(([name, value]) => {
    const colon = name.indexOf(':');
    if (colon < 1 || colon === name.length - 1 || name.length > MAX_ID_BYTES)
      throw invalidParam('The name of a key is algorithm:id.');
    if (!isKeyObject(value)) throw invalidParam('A key is text, or an object with key and signatures.');
    checkSize(value, MAX_KEY_LENGTH, 'A key is');
    return { algorithm: name.slice(0, colon), keyId: name.slice(colon + 1), value };
  });
}

/** Whether that is a one-time or fallback key. */
export const isKeyObject = (value: JsonValue): boolean =>
  typeof value === 'string' ||
  (isJsonObject(value) && typeof own(value, 'key') === 'string' && isJsonObject(own(value, 'signatures')));

/** A cross-signing key (client-server API, "Cross-signing"); undefined where the object is none of this user and usage. */
export function crossSigningKey(object: unknown, user: UserId, usage: KeyUsage): CrossSigningRow | undefined {
  if (!isJsonObject(object) || own(object, 'user_id') !== user) return undefined;
  const uses = own(object, 'usage');
  const keys = Object.entries(objectIn(object, 'keys'));
  const [name, publicKey] = keys[0] ?? [];
  if (!Array.isArray(uses) || !uses.includes(usage) || keys.length !== 1) return undefined;
  if (typeof publicKey !== 'string' || name !== `${ED25519}${publicKey}`) return undefined;
  if (ed25519Key(publicKey) === undefined) return undefined;
  const signatures = own(object, 'signatures');
  if (signatures !== undefined && !isJsonObject(signatures)) return undefined;
  return { usage, publicKey, key: JSON.stringify(object) };
}

/** @throws MatrixError M_INVALID_PARAM, M_TOO_LARGE */
export function parseCrossSigningKey(object: JsonObject, user: UserId, usage: KeyUsage): CrossSigningRow {
  checkSize(object, MAX_OBJECT_LENGTH, 'A cross-signing key is');
  const key = crossSigningKey(object, user, usage);
  if (key === undefined)
    throw invalidParam(`The ${usage} key is not one Ed25519 key of the user with that usage.`);
  return key;
}

function checkSize(value: JsonValue, most: number, what: string): void {
  if (JSON.stringify(value).length > most) throw new MatrixError(413, 'M_TOO_LARGE', `${what} too large.`);
}
