import type { Random } from '../base/random.ts';
import type { Clock, Millis } from '../base/time.ts';
import { unknownToken } from '../matrix/error.ts';
import type { UserId } from '../matrix/ids.ts';
import { findAccount } from '../storage/accounts.ts';
import type { Database } from '../storage/database.ts';
import { addShortToken, shortTokenOwner } from '../storage/short_tokens.ts';
import { type Rate, RateLimit } from './rate_limit.ts';
import { hashOf, newToken } from './secrets.ts';

const LIFETIME_MS: Millis = 60 * 60_000;
/** Of one user: the older ones are not valid any more. */
const MAX_TOKENS = 100;
/** Of one user. */
const RATE: Rate = { burst: 50, intervalMs: 10_000 };

export interface OpenIdToken {
  readonly token: string;
  readonly expiresInMs: Millis;
}

/** Tokens by which other services ask who somebody is (client-server API and server-server API, "OpenID"). */
export class OpenId {
  readonly #database: Database;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #rate: RateLimit;

  constructor({
    database,
    clock,
    random,
  }: { readonly database: Database; readonly clock: Clock; readonly random: Random }) {
    this.#database = database;
    this.#clock = clock;
    this.#random = random;
    this.#rate = new RateLimit(clock, RATE);
  }

  /** @throws MatrixError M_LIMIT_EXCEEDED */
  async issue(user: UserId): Promise<OpenIdToken> {
    this.#rate.take(user);
    const token = newToken(this.#random);
    const now = this.#clock.wall();
    const row = { hash: hashOf(token), user, expires: now + LIFETIME_MS };
    await this.#database.transaction((tx) => addShortToken(tx, 'openid_tokens', row, MAX_TOKENS, now));
    return { token, expiresInMs: LIFETIME_MS };
  }

  /** @throws MatrixError M_UNKNOWN_TOKEN, also where the account is locked */
  async userOf(token: string): Promise<UserId> {
    const user = await shortTokenOwner(this.#database, 'openid_tokens', hashOf(token), this.#clock.wall());
    const account = user === undefined ? undefined : await findAccount(this.#database, user);
    if (account === undefined || account.locked) throw unknownToken('The token is not known or has expired.');
    return account.user;
  }
}
