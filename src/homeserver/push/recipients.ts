import type { UserId } from '../../matrix/ids.ts';
import { findAccountData, GLOBAL, ignoredUsers } from '../../storage/account_data.ts';
import type { Transaction } from '../../storage/database.ts';
import { CommittedCache } from './committed_cache.ts';
import { ANY_USER } from './conditions.ts';
import { PUSH_RULES } from './push_rules.ts';
import { effectiveRules, parseRuleSettings } from './rule_settings.ts';
import { CompiledRules } from './ruling.ts';

/** How much is kept, in characters of what the users have stored. */
const MAX_WEIGHT = 8_000_000;
/** Of a user who has stored nothing. */
const BASE_WEIGHT = 200;

/** What decides of which events a user is notified. */
export interface Recipient {
  readonly rules: CompiledRules;
  readonly ignored: ReadonlySet<string>;
  readonly weight: number;
}

/** Of everybody who has changed nothing. */
const PREDEFINED = new CompiledRules(effectiveRules(ANY_USER, parseRuleSettings(undefined)));

/** The rules of local users, ready to judge events by; those used last are kept. */
export class Recipients {
  readonly #cache = new CommittedCache<UserId, Recipient>(MAX_WEIGHT, ({ weight }) => weight);

  get(tx: Transaction, user: UserId): Promise<Recipient> {
    return this.#cache.get(tx, user, async () => {
      const text = await findAccountData(tx, { user, room: GLOBAL, type: PUSH_RULES });
      const ignored = await ignoredUsers(tx, user);
      const rules =
        text === undefined
          ? PREDEFINED
          : new CompiledRules(effectiveRules(ANY_USER, parseRuleSettings(text)));
      return { rules, ignored, weight: BASE_WEIGHT + (text?.length ?? 0) + ignored.size * 50 };
    });
  }

  /** A transaction has changed what a user has stored. */
  changed(tx: Transaction, user: UserId): void {
    this.#cache.changed(tx, user);
  }
}
