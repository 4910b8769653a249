import { assert } from '../base/assert.ts';
import type { Random } from '../base/random.ts';
import type { Clock, Millis } from '../base/time.ts';
import type { Work } from '../base/work.ts';
import { forbidden, userLocked } from '../matrix/error.ts';
import type { DeviceId, ServerName, UserId } from '../matrix/ids.ts';
import type { JsonObject } from '../matrix/json.ts';
import { findAccount, insertAccount, setPasswordHash } from '../storage/accounts.ts';
import type { Database } from '../storage/database.ts';
import { setRoomProfileField } from '../storage/profiles.ts';
import {
  addShortToken,
  deleteShortToken,
  deleteShortTokens,
  shortTokenOwner,
} from '../storage/short_tokens.ts';
import { type AuthData, InteractiveAuth } from './interactive_auth.ts';
import type { DeviceLists } from './keys/device_lists.ts';
import { type Done, notNoted } from './once.ts';
import { hashNew, type PasswordCost, Passwords } from './passwords.ts';
import type { DevicePipes } from './ports.ts';
import { type Rate, RateLimit } from './rate_limit.ts';
import { Registration, type RegistrationPolicy, userInUse } from './registration.ts';
import { hashOf, newToken } from './secrets.ts';
import { checkDeviceId, type DeviceRequest, type Session, Sessions } from './sessions.ts';
import { existingUserId, newUserId } from './usernames.ts';

/** Of logins of one account from one place: strangers elsewhere keep nobody out. */
const ATTEMPTS: Rate = { burst: 20, intervalMs: 5_000 };
/** Of login tokens; the specification encourages once a minute. */
const LOGIN_TOKENS: Rate = { burst: 5, intervalMs: 60_000 };
/** The specification recommends two minutes. */
const LOGIN_TOKEN_LIFETIME_MS: Millis = 2 * 60_000;
/** Of one user that have not been used: the older ones are not valid any more. */
const MAX_LOGIN_TOKENS = 10;
const MAX_DISPLAY_NAME_LENGTH = 256;

/** A user's device, as its access token or its key proves it. */
export interface Requester {
  readonly user: UserId;
  readonly device: DeviceId;
  /** Left out where the account may do everything. */
  readonly standing?: 'locked' | 'suspended';
}

export interface AccountsOptions {
  readonly database: Database;
  readonly clock: Clock;
  readonly random: Random;
  readonly work: Work;
  readonly serverName: ServerName;
  readonly registration: RegistrationPolicy;
  /** Of hashing a password; tests and simulations take a cheap one. */
  readonly passwordCost?: PasswordCost | undefined;
  readonly pipes?: DevicePipes | undefined;
  readonly lists?: DeviceLists | undefined;
}

/** Users of this server, and how they prove to be it. */
export class Accounts {
  readonly sessions: Sessions;
  readonly registration: Registration;
  readonly #database: Database;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly serverName: ServerName;
  readonly #passwords: Passwords;
  readonly #interactiveAuth: InteractiveAuth;
  readonly #attempts: RateLimit;
  readonly #loginTokens: RateLimit;

  constructor(options: AccountsOptions) {
    const { database, clock, random, work, serverName, registration: policy, passwordCost: cost } = options;
    this.#database = database;
    this.#clock = clock;
    this.#random = random;
    this.serverName = serverName;
    this.#passwords = new Passwords({ random, work, cost });
    this.#interactiveAuth = new InteractiveAuth(options);
    this.#attempts = new RateLimit(clock, ATTEMPTS);
    this.#loginTokens = new RateLimit(clock, LOGIN_TOKENS);
    this.sessions = new Sessions(options);
    this.registration = new Registration({
      ...{ database, clock, random, serverName, policy },
      ...{ passwords: this.#passwords, interactiveAuth: this.#interactiveAuth, sessions: this.sessions },
    });
  }

  /** Whether somebody has that user id who can be spoken with: not whether it can be had. */
  async localUserExists(user: UserId): Promise<boolean> {
    return (await findAccount(this.#database, user))?.deactivated === null;
  }

  /**
   * Makes an account for the operator, whatever the mode.
   * @throws MatrixError M_INVALID_USERNAME, M_USER_IN_USE, M_INVALID_PARAM
   */
  async create(
    username: string,
    password: string,
    {
      admin = false,
      displayName,
    }: { readonly admin?: boolean; readonly displayName?: string | undefined } = {},
  ): Promise<UserId> {
    const user = newUserId(username, this.serverName);
    if ((await findAccount(this.#database, user)) !== undefined) throw userInUse();
    const passwordHash = await hashNew(this.#passwords, password);
    await this.#database.transaction(async (tx) => {
      if (!(await insertAccount(tx, { user, passwordHash, admin }, this.#clock.wall()))) throw userInUse();
      if (displayName !== undefined)
        await setRoomProfileField(tx, user, 'displayname', displayName.slice(0, MAX_DISPLAY_NAME_LENGTH));
    });
    return user;
  }

  /**
   * Logs in with a password. @param name a user id or its localpart @param done told of it in the transaction that does it
   * @throws MatrixError M_FORBIDDEN, and nothing that tells an unknown user from a wrong password or a deactivated one;
   * M_USER_LOCKED, M_LIMIT_EXCEEDED
   */
  async login(
    name: string,
    password: string,
    device: DeviceRequest,
    done: Done<Session> = notNoted,
  ): Promise<Session> {
    checkDeviceId(device.deviceId);
    const place = device.origin?.place ?? '';
    const user = existingUserId(name, this.serverName);
    if (user !== undefined) this.#attempts.take(`${user} ${place}`);
    const account = user === undefined ? undefined : await findAccount(this.#database, user);
    const valid = await this.#passwords.verify(password, account?.passwordHash, place);
    if (!valid || account === undefined) throw wrong();
    return this.#database.transaction(async (tx) => {
      // The password may have been changed while it was checked.
      const now = await findAccount(tx, account.user);
      if (now?.passwordHash !== account.passwordHash) throw wrong();
      const session = await this.sessions.logIn(tx, account.user, device);
      await done(tx, session);
      return session;
    });
  }

  /** Logs in somebody whose account the operator has just made. @throws MatrixError */
  loginAs(user: UserId, device: DeviceRequest): Promise<Session> {
    return this.#database.transaction((tx) => this.sessions.logIn(tx, user, device));
  }

  /** Logs in with a token of `issueLoginToken`, which is used up by it. @throws MatrixError M_FORBIDDEN, M_USER_LOCKED */
  async loginWithToken(
    token: string,
    device: DeviceRequest,
    done: Done<Session> = notNoted,
  ): Promise<Session> {
    checkDeviceId(device.deviceId);
    const hash = hashOf(token);
    return this.#database.transaction(async (tx) => {
      const user = await shortTokenOwner(tx, 'login_tokens', hash, this.#clock.wall());
      if (user === undefined) throw forbidden('The login token is not valid.');
      await deleteShortToken(tx, 'login_tokens', hash);
      const session = await this.sessions.logIn(tx, user, device);
      await done(tx, session);
      return session;
    });
  }

  /** A token that logs in one more device of the user, soon. @throws MatrixError M_LIMIT_EXCEEDED */
  async issueLoginToken({
    user,
  }: Requester): Promise<{ readonly token: string; readonly expiresInMs: Millis }> {
    this.#loginTokens.take(user);
    const token = newToken(this.#random);
    const now = this.#clock.wall();
    const row = { hash: hashOf(token), user, expires: now + LOGIN_TOKEN_LIFETIME_MS };
    await this.#database.transaction((tx) => addShortToken(tx, 'login_tokens', row, MAX_LOGIN_TOKENS, now));
    return { token, expiresInMs: LOGIN_TOKEN_LIFETIME_MS };
  }

  /**
   * Lets a user prove once more who it is, by its password, before something that cannot be undone.
   * @param operation what it is, with its target: a proof is good for that alone
   * @returns undefined where that is proved, else the body of a 401 @throws MatrixError M_LIMIT_EXCEEDED
   */
  async confirm(
    { user, device }: Requester,
    operation: string,
    auth: AuthData | null | undefined,
  ): Promise<JsonObject | undefined> {
    // "In the case that the homeserver does not know about the supplied 3PID": it knows of none.
    if (auth?.identifier !== undefined && auth.identifier.type !== 'm.id.user') throw wrong();
    const proof = await this.#interactiveAuth.advance({
      operation: `${operation} ${user} ${device}`,
      stages: ['m.login.password'],
      auth,
      check: async (_stage, { identifier, password }) => {
        this.#attempts.take(`${user} of ${device}`);
        const account = await findAccount(this.#database, user);
        const valid = await this.#passwords.verify(password ?? '', account?.passwordHash, user);
        const named = identifier?.user;
        const isOwn = named !== undefined && existingUserId(named, this.serverName) === user;
        return valid && isOwn ? undefined : WRONG;
      },
    });
    if (proof.kind === 'challenge') return proof.body;
    this.#interactiveAuth.end(proof.session);
    return undefined;
  }

  /**
   * The same of somebody who is on no device: the password tells whose account it is.
   * @param place where the request comes from, as for a login
   * @returns the user, or the body of a 401 @throws MatrixError as `confirm`; M_USER_LOCKED
   */
  async confirmStranger(
    place: string,
    operation: string,
    auth: AuthData | null | undefined,
  ): Promise<{ readonly user: UserId } | { readonly refused: JsonObject }> {
    if (auth?.identifier !== undefined && auth.identifier.type !== 'm.id.user') throw wrong();
    let owner: UserId | undefined;
    const proof = await this.#interactiveAuth.advance({
      operation: `${operation} from ${place}`,
      stages: ['m.login.password'],
      auth,
      check: async (_stage, { identifier, password }) => {
        const user = existingUserId(identifier?.user ?? '', this.serverName);
        if (user !== undefined) this.#attempts.take(`${user} ${place}`);
        const account = user === undefined ? undefined : await findAccount(this.#database, user);
        const valid = await this.#passwords.verify(password ?? '', account?.passwordHash, place);
        if (!valid || account === undefined) return WRONG;
        if (account.locked) throw userLocked();
        owner = account.user;
        return undefined;
      },
    });
    if (proof.kind === 'challenge') return { refused: proof.body };
    this.#interactiveAuth.end(proof.session);
    assert(owner !== undefined, 'a session ends with the request that proves it');
    return { user: owner };
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
    const hash = await hashNew(this.#passwords, password, user);
    await this.#database.transaction(async (tx) => {
      await setPasswordHash(tx, user, hash);
      if (logOut === 'others') {
        await this.sessions.logoutOthers(tx, requester, device);
        await deleteShortTokens(tx, user);
      }
      await done(tx);
    });
  }
}

const WRONG = 'The user or the password is wrong.';
const wrong = () => forbidden(WRONG);
