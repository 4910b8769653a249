import type { Random } from '../base/random.ts';
import type { Clock, Millis } from '../base/time.ts';
import { forbidden, invalidParam, unknownToken, userLocked } from '../matrix/error.ts';
import { type DeviceId, fitsIdLimit, type UserId } from '../matrix/ids.ts';
import {
  accessTokenOwner,
  addSuccessor,
  refreshTokenOwner,
  removeTokens,
  setTokens,
  settle,
  type TokenPair,
} from '../storage/access_tokens.ts';
import { type AccountRow, findAccount } from '../storage/accounts.ts';
import { isCrossSigningKey } from '../storage/cross_signing.ts';
import type { Database, Transaction } from '../storage/database.ts';
import {
  bindDeviceKey,
  findDeviceKey,
  isSeenToday,
  seeDeviceKey,
  unbindDevice,
} from '../storage/device_keys.ts';
import { addDevice, findDevice, listDevices, seeDevice } from '../storage/devices.ts';
import type { Requester } from './accounts.ts';
import { deleteAllDevices, deleteDevices } from './device_data.ts';
import { endingPipes } from './device_logout.ts';
import { DeviceLists } from './keys/device_lists.ts';
import { type Done, notNoted } from './once.ts';
import type { DevicePipes } from './ports.ts';
import { hashOf, newToken } from './secrets.ts';
import { letters } from './usernames.ts';

const GENERATED_DEVICE_ID_LENGTH = 10;
/** Characters of a device's display name, and of what a client calls itself, that are kept. */
const MAX_DEVICE_NAME_LENGTH = 100;
const MAX_AGENT_LENGTH = 200;
/** Of one user: a client that logs in anew at every start is stopped here. */
const MAX_DEVICES = 1_000;
/** How long an access token is good that comes with a refresh token. */
const ACCESS_TOKEN_LIFETIME_MS: Millis = 60 * 60_000;
/** Between two times that it is written down when a device called last; "may be a few minutes out of date". */
const SIGHTING_INTERVAL_MS: Millis = 10 * 60_000;

/**
 * What a login through a pipe answers as access token, which the specification asks for: no secret, and good only where
 * the device's key is proved. A token that nobody needs could only be stolen.
 */
export const KEY_IS_THE_TOKEN = 'pipe';

/** A login that succeeded. */
export interface Session extends Requester {
  readonly accessToken: string;
  readonly refreshToken?: string;
  /** How long the access token is good; left out: until it is logged out. */
  readonly expiresInMs?: Millis;
}

/** Where a request comes from and with what. */
export interface Origin {
  /** A network, a server or a key: what is held to a rate. */
  readonly place: string;
  readonly ip: string | null;
  readonly agent: string | null;
}

/** What a client says of the device that it logs in. */
export interface DeviceRequest {
  /** Left out: a new one. One that is known loses its tokens or its key to the new login. */
  readonly deviceId?: string | undefined;
  /** Ignored where the device is known. */
  readonly displayName?: string | undefined;
  /**
   * The key that the client's pipe has proved, in 64 hexadecimal digits: the login binds it to the device. Where it was
   * bound to another device it is that one's no longer.
   */
  readonly key?: string | undefined;
  /** Whether the client can refresh its access token, which then expires. */
  readonly refreshes?: boolean | undefined;
  readonly origin?: Origin | undefined;
}

/** The tokens that a refresh answers. */
export type Refreshed = Required<Pick<Session, 'accessToken' | 'refreshToken' | 'expiresInMs'>>;

export interface SessionsOptions {
  readonly database: Database;
  readonly clock: Clock;
  readonly random: Random;
  readonly pipes?: DevicePipes | undefined;
  readonly lists?: DeviceLists | undefined;
}

/** The sessions of this server's users: their devices, and the tokens or keys that prove them. */
export class Sessions {
  readonly #database: Database;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #pipes: DevicePipes | undefined;
  readonly #lists: DeviceLists;

  constructor({ database, clock, random, pipes, lists = new DeviceLists() }: SessionsOptions) {
    this.#database = database;
    this.#clock = clock;
    this.#random = random;
    this.#pipes = pipes;
    this.#lists = lists;
  }

  /** Whose access token it is. @throws MatrixError M_UNKNOWN_TOKEN where it has expired */
  async authenticate(token: string): Promise<Requester | undefined> {
    const owner = await accessTokenOwner(this.#database, hashOf(token));
    if (owner === undefined) return undefined;
    if (owner.expires !== null && owner.expires <= this.#clock.wall())
      throw unknownToken('The access token has expired.', true);
    if (owner.replaces !== null) await this.#database.transaction((tx) => settle(tx, owner));
    return requester(owner.user, owner.device, {
      locked: owner.locked === 1,
      suspended: owner.suspended === 1,
    });
  }

  /** Whose key it is that a pipe has proved. @param key 64 hexadecimal digits */
  async authenticateKey(key: string): Promise<Requester | undefined> {
    const row = await findDeviceKey(this.#database, key);
    if (row === undefined) return undefined;
    const now = this.#clock.wall();
    const isStillBound =
      isSeenToday(row, now) || (await this.#database.transaction((tx) => seeDeviceKey(tx, key, now)));
    const account = await findAccount(this.#database, row.user);
    return isStillBound && account !== undefined ? requester(row.user, row.device, account) : undefined;
  }

  /** Notes that a device has called, where that was not noted shortly before. */
  async seen({ user, device }: Requester, { ip, agent }: Origin): Promise<void> {
    const row = await findDevice(this.#database, user, device);
    const at = this.#clock.wall();
    if (row === undefined || (row.lastSeen !== null && Math.abs(at - row.lastSeen) < SIGHTING_INTERVAL_MS))
      return;
    await this.#database.transaction((tx) =>
      seeDevice(tx, user, device, { at, ip, agent: shortened(agent, MAX_AGENT_LENGTH) }),
    );
  }

  /**
   * Logs a device in, as part of the transaction that has made sure whose it is.
   * @throws MatrixError M_USER_LOCKED, M_FORBIDDEN where the user has too many devices
   */
  async logIn(
    tx: Transaction,
    user: UserId,
    { deviceId, displayName, key, refreshes, origin }: DeviceRequest,
  ): Promise<Session> {
    const account = await findAccount(tx, user);
    if (account === undefined || account.deactivated !== null) throw forbidden('The account is closed.');
    if (account.locked) throw userLocked();
    const now = this.#clock.wall();
    const device = (deviceId ?? letters(this.#random, GENERATED_DEVICE_ID_LENGTH, 'A')) as DeviceId;
    const known = await findDevice(tx, user, device);
    if (known === undefined && (await listDevices(tx, user)).length >= MAX_DEVICES) {
      throw forbidden('The account has too many devices; log some of them out first.');
    }
    // Client-server API, "Cross-signing": keys are told from devices by their names.
    if (known === undefined && (await isCrossSigningKey(tx, user, device)))
      throw forbidden('The device id is the public key of a cross-signing key.');
    const name = shortened(displayName ?? null, MAX_DEVICE_NAME_LENGTH);
    await addDevice(tx, user, { device, displayName: name }, now);
    if (origin !== undefined) {
      const { ip, agent } = origin;
      await seeDevice(tx, user, device, { at: now, ip, agent: shortened(agent, MAX_AGENT_LENGTH) });
    }
    const replaced = await unbindDevice(tx, user, device);
    if (replaced !== undefined && replaced !== key) tx.afterCommit(() => this.#pipes?.revoked([replaced]));
    if (key !== undefined) {
      await removeTokens(tx, user, device);
      await bindDeviceKey(tx, key, user, device, now);
      tx.afterCommit(() => this.#pipes?.bound(key));
      return { user, device, accessToken: KEY_IS_THE_TOKEN };
    }
    const { pair, tokens } = this.#newPair(refreshes === true);
    await setTokens(tx, user, device, pair, now);
    return { user, device, ...tokens };
  }

  /**
   * New tokens for the device of a refresh token. The old ones stay valid until a new one has been used, so that a
   * client that the answer does not reach can ask again.
   * @throws MatrixError M_UNKNOWN_TOKEN, M_USER_LOCKED
   */
  async refresh(refreshToken: string): Promise<Refreshed> {
    const hash = hashOf(refreshToken);
    return this.#database.transaction(async (tx) => {
      const owner = await refreshTokenOwner(tx, hash);
      if (owner === undefined) throw unknownToken('The refresh token is not known.');
      if (owner.locked === 1) throw userLocked();
      if (owner.replaces !== null) await settle(tx, owner);
      const { pair, tokens } = this.#newPair(true);
      await addSuccessor(tx, owner, pair, this.#clock.wall());
      return tokens as Refreshed;
    });
  }

  /** Deletes the device with its tokens and its key. */
  async logout(requester: Requester, done: Done<void> = notNoted): Promise<void> {
    const { user, device } = requester;
    await this.#database.transaction(async (tx) => {
      await endingPipes(tx, this.#pipes, requester, () => deleteDevices(tx, user, [device], this.#lists));
      await done(tx);
    });
  }

  /** Deletes all devices of the user. */
  async logoutAll(requester: Requester, done: Done<void> = notNoted): Promise<void> {
    await this.#database.transaction(async (tx) => {
      await this.logoutOthers(tx, requester, undefined);
      await done(tx);
    });
  }

  /** Deletes all devices of the user but `except`, as part of a transaction. */
  logoutOthers(tx: Transaction, requester: Requester, except: DeviceId | undefined): Promise<void> {
    return endingPipes(tx, this.#pipes, requester, () =>
      deleteAllDevices(tx, requester.user, this.#lists, except),
    );
  }

  #newPair(refreshes: boolean): {
    readonly pair: TokenPair;
    readonly tokens: Pick<Session, 'accessToken' | 'refreshToken' | 'expiresInMs'>;
  } {
    const accessToken = newToken(this.#random);
    if (!refreshes)
      return {
        pair: { hash: hashOf(accessToken), expires: null, refreshHash: null },
        tokens: { accessToken },
      };
    const refreshToken = newToken(this.#random);
    return {
      pair: {
        hash: hashOf(accessToken),
        expires: this.#clock.wall() + ACCESS_TOKEN_LIFETIME_MS,
        refreshHash: hashOf(refreshToken),
      },
      tokens: { accessToken, refreshToken, expiresInMs: ACCESS_TOKEN_LIFETIME_MS },
    };
  }
}

/** @throws MatrixError M_INVALID_PARAM */
export function checkDeviceId(deviceId: string | undefined): void {
  if (deviceId !== undefined && (deviceId === '' || !fitsIdLimit(deviceId) || !deviceId.isWellFormed()))
    throw invalidParam('The device id is empty, too long or not valid text.');
}

function requester(
  user: UserId,
  device: DeviceId,
  { locked, suspended }: Pick<AccountRow, 'locked' | 'suspended'>,
): Requester {
  if (locked) return { user, device, standing: 'locked' };
  return suspended ? { user, device, standing: 'suspended' } : { user, device };
}

const shortened = (text: string | null, length: number): string | null =>
  text?.slice(0, length).toWellFormed() ?? null;
