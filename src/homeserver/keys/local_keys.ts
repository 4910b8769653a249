import { equal, utf8 } from '../../base/bytes.ts';
import { sha256 } from '../../crypto/sha256.ts';
import { canonicalJson } from '../../matrix/canonical_json.ts';
import { invalidParam, MatrixError, unknownToken } from '../../matrix/error.ts';
import type { DeviceId, UserId } from '../../matrix/ids.ts';
import type { JsonObject } from '../../matrix/json.ts';
import { findAccount } from '../../storage/accounts.ts';
import {
  crossSigningKeys,
  dropSignaturesOf,
  type SignatureRow,
  signaturesBy,
} from '../../storage/cross_signing.ts';
import type { Database, Reader, Transaction } from '../../storage/database.ts';
import { findDevice } from '../../storage/devices.ts';
import {
  addOneTimeKey,
  countOneTimeKeys,
  fallbackAlgorithms,
  findOneTimeKey,
  identityKeys,
  identityKeysOfUser,
  putFallbackKey,
  putIdentityKeys,
  putKeyClaim,
  takeOneTimeKey,
  useFallbackKey,
} from '../../storage/end_to_end_keys.ts';
import { nextPosition } from '../../storage/stream.ts';
import type { Requester } from '../accounts.ts';
import type { Notifier } from '../notifier.ts';
import { type Done, notNoted, type Once } from '../once.ts';
import type { ClaimedKeys, UserKeys, WantedKeys } from '../ports.ts';
import type { DeviceLists } from './device_lists.ts';
import { checkIdentityKeys, parseUploadedKeys } from './key_objects.ts';
import { isSameJson, isSameSigned, objectIn, withVisibleSignatures } from './signed_objects.ts';

/** Of one device, of all algorithms: ten times what clients keep there. */
const MAX_ONE_TIME_KEYS = 1_000;
/** Algorithms of one device's fallback keys. */
const MAX_FALLBACK_KEYS = 20;
/** Keys of one device that were given away and are remembered: as far back as an upload may be repeated. */
const REMEMBERED_KEYS = 1_000;
/** Keys that one transaction gives away, whose outcome is noted with it. */
const CLAIMED_AT_ONCE = 200;

/** What a device uploads; JSON. */
export interface Upload {
  readonly deviceKeys?: JsonObject | undefined;
  /** By `algorithm:id`. */
  readonly oneTimeKeys?: JsonObject | undefined;
  readonly fallbackKeys?: JsonObject | undefined;
}

/** How many one-time keys are left, by algorithm. */
export type KeyCounts = Readonly<Record<string, number>>;

/** A local user's keys as they themself or others see them. */
export interface LocalUserKeys extends UserKeys {
  /** Only for the user themself. */
  readonly userSigning?: JsonObject | undefined;
  /** What devices are called, where they are called something. */
  readonly names: ReadonlyMap<DeviceId, string>;
}

export interface LocalKeysOptions {
  readonly database: Database;
  readonly lists: DeviceLists;
  readonly notifier: Pick<Notifier, 'published'>;
}

/** Keys of this server's users, for whoever asks: its own clients or other servers. */
export class LocalKeys {
  readonly #database: Database;
  readonly #lists: DeviceLists;
  readonly #notifier: Pick<Notifier, 'published'>;

  constructor({ database, lists, notifier }: LocalKeysOptions) {
    this.#database = database;
    this.#lists = lists;
    this.#notifier = notifier;
  }

  /**
   * Stores what a device uploads, all or nothing (client-server API, "Uploading keys"). @returns how many one-time keys are left
   * @throws MatrixError M_INVALID_PARAM, M_TOO_LARGE, M_UNKNOWN for another key under the id of one that is there
   */
  async upload(
    { user, device }: Requester,
    { deviceKeys, oneTimeKeys = {}, fallbackKeys = {} }: Upload,
    done: Done<KeyCounts> = notNoted,
  ): Promise<KeyCounts> {
    if (deviceKeys !== undefined) checkIdentityKeys(deviceKeys, user, device);
    const oneTime = parseUploadedKeys(oneTimeKeys).map((key) => ({ ...key, hash: hashOfKey(key.value) }));
    const fallback = parseUploadedKeys(fallbackKeys);
    return this.#database.transaction(async (tx) => {
      // It may have been logged out meanwhile, and its rows with it.
      if ((await findDevice(tx, user, device)) === undefined) throw unknownToken('The device is logged out.');
      if (deviceKeys !== undefined) await this.#setIdentityKeys(tx, user, device, deviceKeys);
      for (const { algorithm, keyId, value, hash } of oneTime) {
        const place = { user, device, algorithm };
        const known = await findOneTimeKey(tx, place, keyId);
        if (known !== undefined && equal(known.hash, hash)) continue;
        // The same words for everybody: clients look for them.
        if (known?.isGiven === 0)
          throw new MatrixError(400, 'M_UNKNOWN', `One time key ${algorithm}:${keyId} already exists.`);
        await addOneTimeKey(tx, place, { keyId, key: JSON.stringify(value) }, hash);
      }
      for (const { algorithm, keyId, value } of fallback)
        await putFallbackKey(tx, { user, device, algorithm }, { keyId, key: JSON.stringify(value) });
      if (
        fallback.length > 0 &&
        (await fallbackAlgorithms(tx, user, device, 'all')).length > MAX_FALLBACK_KEYS
      )
        throw tooMany();
      const counts = await keyCounts(tx, user, device);
      if (
        oneTime.length > 0 &&
        Object.values(counts).reduce((sum, count) => sum + count, 0) > MAX_ONE_TIME_KEYS
      )
        throw tooMany();
      await done(tx, counts);
      return counts;
    });
  }

  /**
   * The keys of local users. Who is not there is no user here.
   * @param wanted which of their devices; an empty list: all
   * @param viewer undefined: another server
   */
  async query(
    wanted: ReadonlyMap<UserId, readonly DeviceId[]>,
    viewer?: UserId,
  ): Promise<ReadonlyMap<UserId, LocalUserKeys>> {
    const found = new Map<UserId, LocalUserKeys>();
    for (const [user, devices] of wanted) {
      const keys = await keysOfUser(this.#database, user, { viewer, devices });
      if (keys !== undefined) found.set(user, keys);
    }
    return found;
  }

  /** All devices of a user with their keys, as other servers see them; undefined: no user here. */
  async devicesOf(
    user: UserId,
  ): Promise<{ readonly keys: UserKeys; readonly names: ReadonlyMap<DeviceId, string> } | undefined> {
    const keys = await keysOfUser(this.#database, user, { viewer: undefined, devices: [] });
    return keys === undefined ? undefined : { keys, names: keys.names };
  }

  /**
   * Gives away keys of local users, each one-time key once: what was given is on the disk before it is answered. Who asks once
   * more with the same request gets the same.
   */
  async claim(wanted: WantedKeys, once: Once): Promise<ClaimedKeys> {
    const places = [...wanted].flatMap(([user, devices]) =>
      [...devices].map(([device, algorithm]) => ({ user, device, algorithm })),
    );
    const claimed = new Map<UserId, Map<DeviceId, JsonObject>>();
    for (let at = 0; at < places.length; at += CLAIMED_AT_ONCE) {
      const piece = places.slice(at, at + CLAIMED_AT_ONCE);
      const keys = await once.step(`keys ${at}`, (done: Done<GivenKey[]>) => this.#give(piece, done));
      for (const { user, device, name, key } of keys) {
        const devices = claimed.get(user) ?? new Map<DeviceId, JsonObject>();
        devices.set(device, Object.fromEntries([[name, JSON.parse(key)]]));
        claimed.set(user, devices);
      }
    }
    return claimed;
  }

  async #give(places: readonly Place[], done: Done<GivenKey[]>): Promise<GivenKey[]> {
    return this.#database.transaction(async (tx) => {
      const given: GivenKey[] = [];
      for (const place of places) {
        const { user, device, algorithm } = place;
        const taken = await takeOneTimeKey(tx, place, REMEMBERED_KEYS);
        const fallback = taken === undefined ? await useFallbackKey(tx, place) : undefined;
        const row = taken ?? fallback;
        if (row === undefined) continue;
        given.push({ user, device, name: `${algorithm}:${row.keyId}`, key: row.key });
        if (fallback?.isFirstUse === false) continue;
        const position = await nextPosition(tx);
        await putKeyClaim(tx, user, device, position);
        tx.afterCommit(() => this.#notifier.published(position, [], [user]));
      }
      await done(tx, given);
      return given;
    });
  }

  async #setIdentityKeys(tx: Transaction, user: UserId, device: DeviceId, keys: JsonObject): Promise<void> {
    const text = await identityKeys(tx, user, device);
    const before = text === undefined ? undefined : (JSON.parse(text) as JsonObject);
    if (before !== undefined) {
      if (isSameJson(before, keys)) return;
      // Others keep to the keys that they know of a device, and could not reach one that has new ones.
      if (!isSameJson(objectIn(before, 'keys'), objectIn(keys, 'keys')))
        throw invalidParam('The identity keys of a device cannot be changed; log in as a new device.');
      if (!isSameSigned(before, keys)) await dropSignaturesOf(tx, user, device);
    }
    await putIdentityKeys(tx, user, device, JSON.stringify(keys));
    await this.#lists.devicesChanged(tx, user, [device]);
  }
}

interface Place {
  readonly user: UserId;
  readonly device: DeviceId;
  readonly algorithm: string;
}

interface GivenKey {
  readonly user: UserId;
  readonly device: DeviceId;
  /** `algorithm:id` */
  readonly name: string;
  /** JSON text. */
  readonly key: string;
}

/** How many one-time keys of a device are left; Curve25519's also where there are none, which clients wait for. */
export async function keyCounts(reader: Reader, user: UserId, device: DeviceId): Promise<KeyCounts> {
  const rows = await countOneTimeKeys(reader, user, device);
  return Object.fromEntries([
    ['signed_curve25519', 0],
    ...rows.map(({ algorithm, count }) => [algorithm, count] as const),
  ]);
}

/** A local user's keys, with the signatures that `viewer` may see; undefined where there is no such user. */
export async function keysOfUser(
  reader: Reader,
  user: UserId,
  { viewer, devices }: { readonly viewer: UserId | undefined; readonly devices: readonly DeviceId[] },
): Promise<LocalUserKeys | undefined> {
  if ((await findAccount(reader, user)) === undefined) return undefined;
  const signatures = await signaturesBy(reader, user, user);
  if (viewer !== undefined && viewer !== user) signatures.push(...(await signaturesBy(reader, user, viewer)));
  const seen = (text: string, keyId: string): JsonObject =>
    withVisibleSignatures(JSON.parse(text) as JsonObject, { owner: user, viewer }, of(signatures, keyId));
  const rows = (await identityKeysOfUser(reader, user)).filter(
    ({ device }) => devices.length === 0 || devices.includes(device),
  );
  const keys = new Map(
    (await crossSigningKeys(reader, user)).map(({ usage, publicKey, key }) => [usage, seen(key, publicKey)]),
  );
  return {
    devices: new Map(rows.map(({ device, keys: text }) => [device, seen(text, device)])),
    names: new Map(
      rows.flatMap(({ device, displayName }) => (displayName === null ? [] : [[device, displayName]])),
    ),
    master: keys.get('master'),
    selfSigning: keys.get('self_signing'),
    userSigning: viewer === user ? keys.get('user_signing') : undefined,
  };
}

const of = (signatures: readonly SignatureRow[], keyId: string): SignatureRow[] =>
  signatures.filter((row) => row.keyId === keyId);

function hashOfKey(value: UploadedValue): Uint8Array {
  const text = canonicalJson(value, 'any');
  if (!text.ok) throw invalidParam('A key has no canonical form.');
  return sha256(utf8(text.value));
}
type UploadedValue = Parameters<typeof canonicalJson>[0];

const tooMany = (): MatrixError => new MatrixError(413, 'M_TOO_LARGE', 'There is no room for so many keys.');

/** One-time keys as the operations answer them: by user and device. */
export const claimedJson = (keys: ClaimedKeys): JsonObject =>
  Object.fromEntries([...keys].map(([user, devices]) => [user, Object.fromEntries(devices)]));
