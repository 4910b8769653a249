import { base64url } from '../base/bytes.ts';
import type { Random } from '../base/random.ts';
import type { Clock } from '../base/time.ts';
import { forbidden, MatrixError } from '../matrix/error.ts';
import type { ServerName, UserId } from '../matrix/ids.ts';
import type { JsonObject } from '../matrix/json.ts';
import { acceptTerms, findAccount, insertAccount } from '../storage/accounts.ts';
import type { Database } from '../storage/database.ts';
import {
  insertRegistrationToken,
  isAnyRegistrationTokenIssued,
  isRegistrationTokenValid,
  useRegistrationToken,
} from '../storage/registration_tokens.ts';
import type { AuthData, AuthSession, InteractiveAuth, Stage } from './interactive_auth.ts';
import { type Done, notNoted } from './once.ts';
import { hashNew, type Passwords } from './passwords.ts';
import { type Rate, RateLimit } from './rate_limit.ts';
import { hashOf } from './secrets.ts';
import { checkDeviceId, type DeviceRequest, type Session, type Sessions } from './sessions.ts';
import { generatedUserId, newUserId } from './usernames.ts';

const REGISTRATION_TOKEN_BYTES = 15;
/** Of proofs from one place. */
const ATTEMPTS: Rate = { burst: 100, intervalMs: 5_000 };

/** Who may make an account: nobody but the operator, who has a token, or everybody. */
export type RegistrationMode = 'closed' | 'token' | 'open';

/** One document that new users accept (client-server API, "Terms of service at registration"). */
export interface Policy {
  readonly version: string;
  /** By language tag. */
  readonly documents: Readonly<Record<string, { readonly name: string; readonly url: string }>>;
}

export interface RegistrationPolicy {
  readonly mode: RegistrationMode;
  /** By a name of the operator's choice. */
  readonly terms: Readonly<Record<string, Policy>>;
}

interface RegistrationRequest extends DeviceRequest {
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  readonly inhibitLogin?: boolean | undefined;
  readonly auth?: AuthData | null | undefined;
}

export type RegistrationOutcome =
  | { readonly kind: 'registered'; readonly user: UserId; readonly session?: Session }
  /** The body of a 401. */
  | { readonly kind: 'challenge'; readonly body: JsonObject };

export interface RegistrationOptions {
  readonly database: Database;
  readonly clock: Clock;
  readonly random: Random;
  readonly serverName: ServerName;
  readonly policy: RegistrationPolicy;
  readonly passwords: Passwords;
  readonly interactiveAuth: InteractiveAuth;
  readonly sessions: Sessions;
}

/** How accounts are made (client-server API, "Account registration"). */
export class Registration {
  readonly #options: RegistrationOptions;
  readonly #attempts: RateLimit;

  constructor(options: RegistrationOptions) {
    this.#options = options;
    this.#attempts = new RateLimit(options.clock, ATTEMPTS);
  }

  /**
   * The user id that a username would get. @throws MatrixError M_INVALID_USERNAME, M_USER_IN_USE, or M_FORBIDDEN where
   * nobody can register
   */
  async checkAvailable(username: string): Promise<UserId> {
    this.#assertOpen();
    const user = newUserId(username, this.#options.serverName);
    if ((await findAccount(this.#options.database, user)) !== undefined) throw userInUse();
    return user;
  }

  /**
   * Makes an account, or says what it takes (client-server API, POST /register).
   * @param done told of it in the transaction that makes the account
   * @throws MatrixError M_INVALID_USERNAME, M_USER_IN_USE, M_FORBIDDEN, M_MISSING_PARAM, M_INVALID_PARAM,
   * M_LIMIT_EXCEEDED
   */
  async register(
    request: RegistrationRequest,
    done: Done<RegistrationOutcome> = notNoted,
  ): Promise<RegistrationOutcome> {
    this.#assertOpen();
    const { database, random, serverName, passwords, interactiveAuth } = this.#options;
    const { username, auth } = request;
    // These come before the proof: a client learns early that it has to ask the user for another name.
    const wanted = username === undefined ? undefined : await this.checkAvailable(username);
    checkDeviceId(request.deviceId);
    const place = request.origin?.place ?? '';
    if (auth?.type !== undefined) this.#attempts.take(place);
    const proof = await interactiveAuth.advance({
      operation: 'register',
      stages: this.#stages(),
      params: this.#params(),
      auth,
      check: (stage, data, session) => this.#check(stage, data, session),
    });
    if (proof.kind === 'challenge') return proof;

    const user = wanted ?? generatedUserId(random, serverName);
    const passwordHash = await hashNew(passwords, request.password, place);
    const outcome = await database.transaction((tx) =>
      this.#make(tx, { ...request, user, passwordHash }, proof.session, done),
    );
    interactiveAuth.end(proof.session);
    return outcome;
  }

  async #make(
    tx: Parameters<Parameters<Database['transaction']>[0]>[0],
    request: RegistrationRequest & { readonly user: UserId; readonly passwordHash: string },
    { registrationToken }: AuthSession,
    done: Done<RegistrationOutcome>,
  ): Promise<RegistrationOutcome> {
    const { clock, policy, sessions } = this.#options;
    const { user, passwordHash } = request;
    const now = clock.wall();
    // A token that runs out, or a name that somebody takes, between the check and here.
    if (!(await insertAccount(tx, { user, passwordHash }, now))) throw userInUse();
    if (registrationToken !== undefined && !(await useRegistrationToken(tx, registrationToken, now)))
      throw forbidden('The registration token is not valid any more.');
    const versions = Object.entries(policy.terms).map(([name, { version }]) => [name, version] as const);
    await acceptTerms(tx, user, new Map(versions), now);
    const outcome: RegistrationOutcome =
      request.inhibitLogin === true
        ? { kind: 'registered', user }
        : { kind: 'registered', user, session: await sessions.logIn(tx, user, request) };
    await done(tx, outcome);
    return outcome;
  }

  /** @throws MatrixError M_FORBIDDEN where nobody can register */
  async isTokenValid(token: string): Promise<boolean> {
    this.#assertOpen();
    return isRegistrationTokenValid(this.#options.database, hashOf(token), this.#options.clock.wall());
  }

  /**
   * A new token that lets somebody register; only its hash is kept.
   * @param usesLeft how many accounts it makes; null: any number
   * @param expires Unix time in milliseconds; null: never
   */
  async issueToken({
    usesLeft,
    expires,
  }: {
    usesLeft: number | null;
    expires: number | null;
  }): Promise<string> {
    const { database, clock, random } = this.#options;
    // A command line would take a token with a hyphen in front for an option.
    const token = base64url(random.bytes(REGISTRATION_TOKEN_BYTES)).replace(/^-/, '_');
    const row = { hash: hashOf(token), usesLeft, expires };
    await database.transaction((tx) => insertRegistrationToken(tx, row, clock.wall()));
    return token;
  }

  /** A token without limits where none was ever issued, for the operator's first start; else undefined. */
  async issueFirstToken(): Promise<string | undefined> {
    if (await isAnyRegistrationTokenIssued(this.#options.database)) return undefined;
    return this.issueToken({ usesLeft: null, expires: null });
  }

  #stages(): readonly Stage[] {
    const { mode, terms } = this.#options.policy;
    const stages: Stage[] = [];
    if (mode === 'token') stages.push('m.login.registration_token');
    if (Object.keys(terms).length > 0) stages.push('m.login.terms');
    return stages.length === 0 ? ['m.login.dummy'] : stages;
  }

  #params(): JsonObject {
    const { terms } = this.#options.policy;
    if (Object.keys(terms).length === 0) return {};
    const policies = Object.entries(terms).map(([name, { version, documents }]) => [
      name,
      { ...documents, version },
    ]);
    return { 'm.login.terms': { policies: Object.fromEntries(policies) as JsonObject } };
  }

  async #check(stage: Stage, { token }: AuthData, session: AuthSession): Promise<string | undefined> {
    if (stage !== 'm.login.registration_token') return undefined;
    const hash = hashOf(token ?? '');
    if (!(await isRegistrationTokenValid(this.#options.database, hash, this.#options.clock.wall())))
      return 'The registration token is not valid.';
    session.registrationToken = hash;
    return undefined;
  }

  #assertOpen(): void {
    if (this.#options.policy.mode === 'closed')
      throw forbidden('Accounts are not made here; ask the operator.');
  }
}

export const userInUse = (): MatrixError => new MatrixError(400, 'M_USER_IN_USE', 'The username is taken.');
