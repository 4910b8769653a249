import { forbidden, invalidParam, MatrixError, missingParam, notFound } from '../../matrix/error.ts';
import type { DeviceId, UserId } from '../../matrix/ids.ts';
import { isJsonObject, type JsonObject } from '../../matrix/json.ts';
import {
  type CrossSigningRow,
  crossSigningKeys,
  dropCrossSigningKey,
  type KeyUsage,
  putCrossSigningKey,
  putSignature,
  type SignatureRow,
} from '../../storage/cross_signing.ts';
import type { Database, Reader, Transaction } from '../../storage/database.ts';
import { listDevices } from '../../storage/devices.ts';
import { identityKeys, identityKeysOfUser } from '../../storage/end_to_end_keys.ts';
import type { Requester } from '../accounts.ts';
import { type Done, notNoted } from '../once.ts';
import type { DeviceLists } from './device_lists.ts';
import { identityKeyOf, parseCrossSigningKey } from './key_objects.ts';
import type { Keys } from './keys.ts';
import { ED25519, ed25519Key, isSameSigned, isSignedBy, objectIn, signaturesOf } from './signed_objects.ts';

/** Keys that one request may sign. */
const MAX_SIGNED = 1_000;
/** Other users whose keys one request may sign: each may have to be asked for elsewhere. */
const MAX_SIGNED_USERS = 100;

/** The cross-signing keys of one upload. */
export type CrossSigningUpload = Readonly<Partial<Record<KeyUsage, CrossSigningRow>>>;

const USAGES = ['master', 'self_signing', 'user_signing'] as const;

/** Keys with which users sign their own devices and other users (client-server API, "Cross-signing"). */
export class CrossSigning {
  readonly #database: Database;
  readonly #keys: Keys;
  readonly #lists: DeviceLists;

  constructor({
    database,
    keys,
    lists,
  }: { readonly database: Database; readonly keys: Keys; readonly lists: DeviceLists }) {
    this.#database = database;
    this.#keys = keys;
    this.#lists = lists;
  }

  /**
   * Looks at what a user would upload.
   * @returns the keys, and whether the user has to prove first who they are: where a new key would take the place of others
   * @throws MatrixError M_INVALID_PARAM, M_INVALID_SIGNATURE, M_MISSING_PARAM without a master key, M_FORBIDDEN where a key is a
   * device's id
   */
  async parse(
    user: UserId,
    objects: Readonly<Partial<Record<KeyUsage, JsonObject>>>,
  ): Promise<{ readonly upload: CrossSigningUpload; readonly isProofNeeded: boolean }> {
    const upload: Partial<Record<KeyUsage, CrossSigningRow>> = {};
    for (const usage of USAGES) {
      const object = objects[usage];
      if (object !== undefined) upload[usage] = parseCrossSigningKey(object, user, usage);
    }
    const { stored, news } = await this.#judge(this.#database, user, upload);
    return { upload, isProofNeeded: stored.has('master') && news.length > 0 };
  }

  /**
   * Stores keys of `parse`; those that are there already stay as they are. A new master key ends those that the old one has
   * signed. @param isProved whether the user has proved who they are
   * @throws MatrixError as `parse`; M_FORBIDDEN where that became necessary meanwhile
   */
  async upload(
    user: UserId,
    upload: CrossSigningUpload,
    isProved: boolean,
    done: Done<void> = notNoted,
  ): Promise<void> {
    await this.#database.transaction(async (tx) => {
      const { stored, news } = await this.#judge(tx, user, upload);
      if (!isProved && stored.has('master') && news.length > 0)
        throw forbidden('Other cross-signing keys have been uploaded meanwhile.');
      const usages = new Set(news.map(({ usage }) => usage));
      if (usages.has('master') && stored.has('master'))
        for (const usage of USAGES) await dropCrossSigningKey(tx, user, usage);
      for (const key of news) await putCrossSigningKey(tx, user, key);
      if (usages.has('master') || usages.has('self_signing')) await this.#lists.signingKeysChanged(tx, user);
      if (usages.has('user_signing')) await this.#lists.privatelyChanged(tx, user, user);
      await done(tx);
    });
  }

  /**
   * Adds signatures to keys: of the user's own devices, of their own master key, and of others' master keys.
   * @param signed by user, then by device id or public key, the object with the new signatures
   * @returns what could not be done, by user and key: errors as the operations answer them
   */
  async addSignatures(
    { user }: Requester,
    signed: JsonObject,
    done: Done<JsonObject> = notNoted,
  ): Promise<JsonObject> {
    const entries = Object.entries(signed).flatMap(([target, keys]) =>
      Object.entries(isJsonObject(keys) ? keys : {}).map(
        ([keyId, object]) => ({ target: target as UserId, keyId, object }) satisfies Entry,
      ),
    );
    const others = [...new Set(entries.map(({ target }) => target))].filter((target) => target !== user);
    if (entries.length > MAX_SIGNED || others.length > MAX_SIGNED_USERS)
      throw new MatrixError(413, 'M_TOO_LARGE', 'These are too many keys for one request.');
    const masters = new Map(
      await Promise.all(
        others.map(async (other) => [other, (await this.#keys.keysOf(other, user))?.master] as const),
      ),
    );
    return this.#database.transaction(async (tx) => {
      const failures = new Map<UserId, [string, JsonObject][]>();
      const changes: Changes = { devices: new Set(), isMaster: false, others: new Set() };
      const own = new Map((await crossSigningKeys(tx, user)).map((row) => [row.usage, row]));
      for (const entry of entries) {
        try {
          if (entry.target === user) await this.#signOwn(tx, entry, own, changes);
          else await this.#signOther(tx, user, entry, own, masters.get(entry.target), changes);
        } catch (error) {
          if (!(error instanceof MatrixError)) throw error;
          const ofUser = failures.get(entry.target) ?? [];
          failures.set(entry.target, [...ofUser, [entry.keyId, error.toJson()]]);
        }
      }
      await this.#lists.devicesChanged(tx, user, [...changes.devices]);
      if (changes.isMaster) await this.#lists.signingKeysChanged(tx, user);
      for (const other of changes.others) await this.#lists.privatelyChanged(tx, user, other);
      const answer = Object.fromEntries(
        [...failures].map(([name, keys]) => [name, Object.fromEntries(keys)]),
      );
      await done(tx, answer);
      return answer;
    });
  }

  /** What of an upload is new, and whether that may be stored. */
  async #judge(
    reader: Reader,
    user: UserId,
    upload: CrossSigningUpload,
  ): Promise<{ readonly stored: ReadonlyMap<KeyUsage, CrossSigningRow>; readonly news: CrossSigningRow[] }> {
    const stored = new Map((await crossSigningKeys(reader, user)).map((row) => [row.usage, row]));
    const master = upload.master ?? stored.get('master');
    if (master === undefined) throw missingParam('There is no master signing key.');
    const isNewMaster = stored.get('master')?.publicKey !== master.publicKey;
    const keys = USAGES.flatMap((usage) => upload[usage] ?? []);
    const news = keys.filter(
      ({ usage, publicKey }) => isNewMaster || stored.get(usage)?.publicKey !== publicKey,
    );
    for (const { usage, key } of keys)
      if (usage !== 'master' && !isSigned(JSON.parse(key) as JsonObject, user, master.publicKey))
        throw invalidSignature(`The ${usage} key is not signed by the master key.`);
    const devices = new Set<string>((await listDevices(reader, user)).map(({ device }) => device));
    if (news.some(({ publicKey }) => devices.has(publicKey)))
      throw forbidden('The public key is the id of a device.');
    return { stored, news };
  }

  async #signOwn(
    tx: Transaction,
    { target: user, keyId, object }: Entry,
    own: ReadonlyMap<KeyUsage, CrossSigningRow>,
    changes: Changes,
  ): Promise<void> {
    const master = own.get('master');
    if (master !== undefined && keyId === master.publicKey) {
      const signers = new Map(
        (await identityKeysOfUser(tx, user)).map(({ device, keys }) => [
          `${ED25519}${device}`,
          identityKeyOf(JSON.parse(keys) as JsonObject, device),
        ]),
      );
      for (const signature of newSignatures(object, JSON.parse(master.key) as JsonObject, user, signers))
        if (await putSignature(tx, user, { keyId, ...signature })) changes.isMaster = true;
      return;
    }
    const text = await identityKeys(tx, user, keyId as DeviceId);
    if (text === undefined) throw notFound('There is no such key.');
    const signers = signersOf(own.get('self_signing'));
    for (const signature of newSignatures(object, JSON.parse(text) as JsonObject, user, signers))
      if (await putSignature(tx, user, { keyId, ...signature })) changes.devices.add(keyId as DeviceId);
  }

  async #signOther(
    tx: Transaction,
    user: UserId,
    { target, keyId, object }: Entry,
    own: ReadonlyMap<KeyUsage, CrossSigningRow>,
    master: JsonObject | undefined,
    changes: Changes,
  ): Promise<void> {
    if (master === undefined || !Object.hasOwn(objectIn(master, 'keys'), `${ED25519}${keyId}`))
      throw notFound('The user has no such master key.');
    for (const signature of newSignatures(object, master, user, signersOf(own.get('user_signing'))))
      if (await putSignature(tx, target, { keyId, ...signature })) changes.others.add(target);
  }
}

interface Entry {
  readonly target: UserId;
  readonly keyId: string;
  readonly object: unknown;
}

/** What a request has changed. */
interface Changes {
  readonly devices: Set<DeviceId>;
  isMaster: boolean;
  readonly others: Set<UserId>;
}

/**
 * The valid signatures by one user in an object that has to be the stored one but for its signatures, without those that were
 * uploaded with it. Signatures by other keys are passed over: clients send along what they know.
 * @param signers the public keys that may sign it, by their names
 * @throws MatrixError M_INVALID_PARAM, M_INVALID_SIGNATURE where one is wrong, or there is none
 */
function newSignatures(
  object: unknown,
  stored: JsonObject,
  signer: UserId,
  signers: ReadonlyMap<string, unknown>,
): Omit<SignatureRow, 'keyId'>[] {
  if (!isJsonObject(object) || !isSameSigned(object, stored))
    throw invalidParam('The object is not the one that was uploaded.');
  const known = new Map(signaturesOf(stored, signer));
  const signatures = signaturesOf(object, signer).filter(([signerKey]) => signers.has(signerKey));
  if (signatures.length === 0) throw invalidSignature('The object is signed by no key that signs such keys.');
  for (const [signerKey] of signatures)
    if (!isSignedBy(object, signer, signerKey, ed25519Key(signers.get(signerKey))))
      throw invalidSignature('A signature is wrong.');
  return signatures.flatMap(([signerKey, signature]) =>
    known.get(signerKey) === signature ? [] : [{ signer, signerKey, signature }],
  );
}

const signersOf = (row: CrossSigningRow | undefined): ReadonlyMap<string, string> =>
  new Map(row === undefined ? [] : [[`${ED25519}${row.publicKey}`, row.publicKey]]);

const isSigned = (object: JsonObject, user: UserId, publicKey: string): boolean =>
  isSignedBy(object, user, `${ED25519}${publicKey}`, ed25519Key(publicKey));

const invalidSignature = (message: string): MatrixError =>
  new MatrixError(400, 'M_INVALID_SIGNATURE', message);
