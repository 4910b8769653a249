import { createHash } from 'node:crypto';
import { base64url } from '../base/bytes.ts';
import type { Random } from '../base/random.ts';
import type { Clock } from '../base/time.ts';
import type { Work } from '../base/work.ts';
import { forbidden, MatrixError, missingParam } from '../matrix/error.ts';
import {
  type DeviceId,
  fitsIdLimit,
  localpartOf,
  parseUserId,
  type ServerName,
  serverOf,
  type UserId,
} from '../matrix/ids.ts';
import type { JsonObject } from '../matrix/json.ts';
import { findAccount, insertAccount, setPasswordHash } from '../storage/accounts.ts';
import type { Database, Transaction } from '../storage/database.ts';
import {
  bindDeviceKey,
  findDeviceKey,
  isSeenToday,
  seeDeviceKey,
  unbindDevice,
} from '../storage/device_keys.ts';
import {
  accessTokenOwner,
  addDevice,
  deleteAllDevices,
  deleteDevice,
  findDevice,
  listDevices,
  removeAccessToken,
  setAccessToken,
} from '../storage/devices.ts';
import {
  insertRegistrationToken,
  isAnyRegistrationTokenIssued,
  isRegistrationTokenValid,
  useRegistrationToken,
} from '../storage/registration_tokens.ts';
import { endingPipes } from './device_logout.ts';
import { type AuthData, challenge, type Stage } from './interactive_auth.ts';
import { type Done, notNoted } from './once.ts';
import { type PasswordCost, Passwords } from './passwords.ts';
import type { DevicePipes } from './ports.ts';
import { type Rate, RateLimit } from './rate_limit.ts';

/** Appendices, "User Identifiers". */
const LOCALPART = /^[a-z0-9._=/+-]+$/;

const ACCESS_TOKEN_BYTES = 32;
const REGISTRATION_TOKEN_BYTES = 15;
const GENERATED_LOCALPART_LENGTH = 12;
const GENERATED_DEVICE_ID_LENGTH = 10;
/** Characters of a device's display name that are kept. */
const MAX_DEVICE_NAME_LENGTH = 100;
/** Of one user: a client that logs in anew at every start is stopped here. */
const MAX_DEVICES = 1_000;
/** Of proofs of one account, wherever they come from; those who are logged in stay so. */
const ATTEMPTS: Rate = { burst: 50, intervalMs: 5_000 };

/**
 * What a login through a pipe answers as access token, which the specification asks for: no secret, and good only where
 * the device's key is proved. A token that nobody needs could only be stolen.
 */
export const KEY_IS_THE_TOKEN = 'pipe';

/** Who may make an account: nobody but the operator, who has a token, or everybody. */
type RegistrationMode = 'closed' | 'token' | 'open';

/** A user's device, as its access token or its key proves it. */
export interface Requester {
  readonly user: UserId;
  readonly device: DeviceId;
}

/** A login that succeeded. */
export interface Session extends Requester {
  readonly accessToken: string;
}

/** What a client says of the device that it logs in. */
interface DeviceRequest {
  /** Left out: a new one. One that is known loses its access token or its key to the new login. */
  readonly deviceId?: string | undefined;
  /** Ignored where the device is known. */
  readonly displayName?: string | undefined;
  /**
   * The key that the client's pipe has proved, in 64 hexadecimal digits: the login binds it to the device. Where it was
   * bound to another device it is that one's no longer.
   */
  readonly key?: string | undefined;
}

interface RegistrationRequest extends DeviceRequest {
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  readonly inhibitLogin?: boolean | undefined;
  readonly auth?: AuthData | null | undefined;
}

export type Registration =
  | { readonly kind: 'registered'; readonly user: UserId; readonly session?: Session }
  /** The body of a 401. */
  | { readonly kind: 'challenge'; readonly body: JsonObject };

export interface AccountsOptions {
  readonly database: Database;
  readonly clock: Clock;
  readonly random: Random;
  readonly work: Work;
  readonly serverName: ServerName;
  readonly registration: RegistrationMode;
  /** Of hashing a password; tests and simulations take a cheap one. */
  readonly passwordCost?: PasswordCost | undefined;
  readonly pipes?: DevicePipes | undefined;
}

/** Users of this server, and how they prove to be it: passwords, access tokens, tokens to register. */
export class Accounts {
  readonly #database: Database;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #serverName: ServerName;
  readonly #registration: RegistrationMode;
  readonly #passwords: Passwords;
  readonly #attempts: RateLimit;
  readonly #pipes: DevicePipes | undefined;

  constructor({
    database,
    clock,
    random,
    work,
    serverName,
    registration,
    passwordCost,
    pipes,
  }: AccountsOptions) {
    this.#database = database;
    this.#clock = clock;
    this.#random = random;
    this.#serverName = serverName;
    this.#registration = registration;
    this.#passwords = new Passwords({ random, work, cost: passwordCost });
    this.#attempts = new RateLimit(clock, ATTEMPTS);
    this.#pipes = pipes;
  }

  /** Whose access token it is. */
  authenticate(token: string): Promise<Requester | undefined> {
    return accessTokenOwner(this.#database, sha256(token));
  }

  /** Whose key it is that a pipe has proved. @param key 64 hexadecimal digits */
  async authenticateKey(key: string): Promise<Requester | undefined> {
    const row = await findDeviceKey(this.#database, key);
    if (row === undefined) return undefined;
    const now = this.#clock.wall();
    const isStillBound =
      isSeenToday(row, now) || (await this.#database.transaction((tx) => seeDeviceKey(tx, key, now)));
    return isStillBound ? { user: row.user, device: row.device } : undefined;
  }

  async localUserExists(user: UserId): Promise<boolean> {
    return (await findAccount(this.#database, user)) !== undefined;
  }

  /**
   * The user id that a username would get. @throws MatrixError M_INVALID_USERNAME, M_USER_IN_USE, or M_FORBIDDEN where
   * nobody can register
   */
  async checkAvailable(username: string): Promise<UserId> {
    this.#assertRegistrationOpen();
    const user = this.#newUserId(username);
    if (await this.localUserExists(user)) throw userInUse();
    return user;
  }

  /**
   * Makes an account, or says what it takes (client-server API, POST /register).
   * @param done told of it in the transaction that makes the account
   * @throws MatrixError M_INVALID_USERNAME, M_USER_IN_USE, M_FORBIDDEN, M_MISSING_PARAM, M_INVALID_PARAM,
   * M_LIMIT_EXCEEDED
   */
  async register(request: RegistrationRequest, done: Done<Registration> = notNoted): Promise<Registration> {
    this.#assertRegistrationOpen();
    const { username, password, auth } = request;
    // These come before the proof: a client learns early that it has to ask the user for another name.
    const user = username === undefined ? this.#generatedUserId() : await this.checkAvailable(username);
    const deviceId = checkedDeviceId(request.deviceId);

    const stage: Stage = this.#registration === 'token' ? 'm.login.registration_token' : 'm.login.dummy';
    const refused = (problem?: string): Registration => ({
      kind: 'challenge',
      body: challenge(this.#random, stage, auth, problem),
    });
    if (auth?.type !== stage) return refused();
    this.#attempts.take(user);
    const token = stage === 'm.login.registration_token' ? sha256(auth.token ?? '') : undefined;
    if (token !== undefined && !(await isRegistrationTokenValid(this.#database, token, this.#clock.wall()))) {
      return refused('The registration token is not valid.');
    }

    const passwordHash = await this.#hashNew(password);
    return this.#database.transaction(async (tx) => {
      const now = this.#clock.wall();
      // A token that runs out, or a name that somebody takes, between the check and here.
      if (!(await insertAccount(tx, { user, passwordHash }, now))) throw userInUse();
      if (token !== undefined && !(await useRegistrationToken(tx, token, now))) {
        throw forbidden('The registration token is not valid any more.');
      }
      const outcome: Registration =
        request.inhibitLogin === true
          ? { kind: 'registered', user }
          : { kind: 'registered', user, session: await this.#logIn(tx, user, { ...request, deviceId }) };
      await done(tx, outcome);
      return outcome;
    });
  }

  /** Makes an account for the operator, whatever the mode. @throws MatrixError as `register` */
  async create(username: string, password: string): Promise<UserId> {
    const user = this.#newUserId(username);
    const passwordHash = await this.#hashNew(password);
    await this.#database.transaction(async (tx) => {
      if (!(await insertAccount(tx, { user, passwordHash }, this.#clock.wall()))) throw userInUse();
    });
    return user;
  }

  /**
   * Logs in with a password. @param name a user id or its localpart @param done told of it in the transaction that does it
   * @throws MatrixError M_FORBIDDEN, and nothing that tells an unknown user from a wrong password; M_LIMIT_EXCEEDED
   */
  async login(
    name: string,
    password: string,
    device: DeviceRequest,
    done: Done<Session> = notNoted,
  ): Promise<Session> {
    const deviceId = checkedDeviceId(device.deviceId);
    const user = this.#existingUserId(name);
    if (user !== undefined) this.#attempts.take(user);
    const account = user === undefined ? undefined : await findAccount(this.#database, user);
    const valid = await this.#passwords.verify(password, account?.passwordHash);
    if (!valid || account === undefined) throw forbidden('The user or the password is wrong.');
    return this.#database.transaction(async (tx) => {
      // The password may have been changed while it was checked.
      const now = await findAccount(tx, account.user);
      if (now?.passwordHash !== account.passwordHash) throw forbidden('The user or the password is wrong.');
      const session = await this.#logIn(tx, account.user, { ...device, deviceId });
      await done(tx, session);
      return session;
    });
  }

  /**
   * Lets a user prove once more who it is, by its password, before something that cannot be undone.
   * @returns undefined where that is proved, else the body of a 401 @throws MatrixError M_LIMIT_EXCEEDED
   */
  async confirm({ user }: Requester, auth: AuthData | null | undefined): Promise<JsonObject | undefined> {
    const stage = 'm.login.password';
    if (auth?.type !== stage) return challenge(this.#random, stage, auth);
    this.#attempts.take(user);
    const named = auth.identifier?.user;
    const account = await findAccount(this.#database, user);
    const valid = await this.#passwords.verify(auth.password ?? '', account?.passwordHash);
    if (valid && named !== undefined && this.#existingUserId(named) === user) return undefined;
    return challenge(this.#random, stage, auth, 'The user or the password is wrong.');
  }

  /**
   * Sets a password. @param logOut `others`: every device but this one is logged out; `nobody`: all stay
   * @throws MatrixError M_INVALID_PARAM
   */
  async setPassword(
    requester: Requester,
    password: string,
    logOut: 'others' | 'nobody',
    done: Done<void> = notNoted,
  ): Promise<void> {
    const { user, device } = requester;
    const hash = await this.#hashNew(password);
    await this.#database.transaction(async (tx) => {
      await setPasswordHash(tx, user, hash);
      if (logOut === 'others')
        await endingPipes(tx, this.#pipes, requester, () => deleteAllDevices(tx, user, device));
      await done(tx);
    });
  }

  /** Deletes the device with its access token and its key. */
  async logout(requester: Requester, done: Done<void> = notNoted): Promise<void> {
    const { user, device } = requester;
    await this.#database.transaction(async (tx) => {
      await endingPipes(tx, this.#pipes, requester, () => deleteDevice(tx, user, device));
      await done(tx);
    });
  }

  /** Deletes all devices of the user. */
  async logoutAll(requester: Requester, done: Done<void> = notNoted): Promise<void> {
    await this.#database.transaction(async (tx) => {
      await endingPipes(tx, this.#pipes, requester, () => deleteAllDevices(tx, requester.user));
      await done(tx);
    });
  }

  /** @throws MatrixError M_FORBIDDEN where nobody can register */
  async isRegistrationTokenValid(token: string): Promise<boolean> {
    this.#assertRegistrationOpen();
    return isRegistrationTokenValid(this.#database, sha256(token), this.#clock.wall());
  }

  /**
   * A new token that lets somebody register; only its hash is kept.
   * @param usesLeft how many accounts it makes; null: any number
   * @param expires Unix time in milliseconds; null: never
   */
  async issueRegistrationToken({
    usesLeft,
    expires,
  }: {
    usesLeft: number | null;
    expires: number | null;
  }): Promise<string> {
    const token = base64url(this.#random.bytes(REGISTRATION_TOKEN_BYTES));
    const row = { hash: sha256(token), usesLeft, expires };
    await this.#database.transaction((tx) => insertRegistrationToken(tx, row, this.#clock.wall()));
    return token;
  }

  /** A token without limits where none was ever issued, for the operator's first start; else undefined. */
  async issueFirstRegistrationToken(): Promise<string | undefined> {
    if (await isAnyRegistrationTokenIssued(this.#database)) return undefined;
    return this.issueRegistrationToken({ usesLeft: null, expires: null });
  }

  #assertRegistrationOpen(): void {
    if (this.#registration === 'closed') throw forbidden('Accounts are not made here; ask the operator.');
  }

  async #logIn(
    tx: Transaction,
    user: UserId,
    { deviceId, displayName, key }: DeviceRequest,
  ): Promise<Session> {
    const now = this.#clock.wall();
    const device = (deviceId ?? this.#letters(GENERATED_DEVICE_ID_LENGTH, 'A')) as DeviceId;
    const known = await findDevice(tx, user, device);
    if (known === undefined && (await listDevices(tx, user)).length >= MAX_DEVICES) {
      throw forbidden('The account has too many devices; log some of them out first.');
    }
    const name = displayName?.slice(0, MAX_DEVICE_NAME_LENGTH).toWellFormed() ?? null;
    await addDevice(tx, user, { device, displayName: name }, now);
    const replaced = await unbindDevice(tx, user, device);
    if (replaced !== undefined && replaced !== key) tx.afterCommit(() => this.#pipes?.revoked([replaced]));
    if (key !== undefined) {
      await removeAccessToken(tx, user, device);
      await bindDeviceKey(tx, key, user, device, now);
      tx.afterCommit(() => this.#pipes?.bound(key));
      return { user, device, accessToken: KEY_IS_THE_TOKEN };
    }
    const accessToken = base64url(this.#random.bytes(ACCESS_TOKEN_BYTES));
    await setAccessToken(tx, user, device, sha256(accessToken), now);
    return { user, device, accessToken };
  }

  async #hashNew(password: string | undefined): Promise<string> {
    if (password === undefined) throw missingParam('The password is missing.');
    if (!this.#passwords.accepts(password)) {
      throw new MatrixError(400, 'M_INVALID_PARAM', 'The password is empty or too long.');
    }
    return this.#passwords.hash(password);
  }

  #newUserId(username: string): UserId {
    // Appendices, "User Identifiers": homeservers downcase usernames when they make user ids of them.
    const localpart = lowerCase(username);
    const user = `@${localpart}:${this.#serverName}`;
    if (!LOCALPART.test(localpart)) {
      throw new MatrixError(
        400,
        'M_INVALID_USERNAME',
        'A username is made of a-z, 0-9, ".", "_", "=", "-", "/" and "+".',
      );
    }
    if (!fitsIdLimit(user)) throw new MatrixError(400, 'M_INVALID_USERNAME', 'The username is too long.');
    return user as UserId;
  }

  #generatedUserId(): UserId {
    return `@${this.#letters(GENERATED_LOCALPART_LENGTH, 'a')}:${this.#serverName}` as UserId;
  }

  /** The user of this server that a name can mean, whether there is one or not. */
  #existingUserId(name: string): UserId | undefined {
    const parsed = parseUserId(name.startsWith('@') ? name : `@${name}:${this.#serverName}`);
    if (!parsed.ok || serverOf(parsed.value) !== this.#serverName) return undefined;
    return `@${lowerCase(localpartOf(parsed.value))}:${this.#serverName}` as UserId;
  }

  #letters(length: number, first: 'a' | 'A'): string {
    const start = first.charCodeAt(0);
    return String.fromCharCode(...Array.from({ length }, () => start + this.#random.integer(26)));
  }
}

const sha256 = (text: string): Uint8Array => createHash('sha256').update(text).digest();

/** ASCII only: other letters are not allowed anyhow. */
const lowerCase = (text: string): string => text.replace(/[A-Z]/g, (letter) => letter.toLowerCase());

const userInUse = (): MatrixError => new MatrixError(400, 'M_USER_IN_USE', 'The username is taken.');

function checkedDeviceId(deviceId: string | undefined): string | undefined {
  if (deviceId !== undefined && (deviceId === '' || !fitsIdLimit(deviceId) || !deviceId.isWellFormed())) {
    throw new MatrixError(400, 'M_INVALID_PARAM', 'The device id is empty, too long or not valid text.');
  }
  return deviceId;
}
