import type { RoomId, UserId } from '../../matrix/ids.ts';
import type { JsonObject, JsonValue } from '../../matrix/json.ts';
import { findAccountData, GLOBAL, putAccountData } from '../../storage/account_data.ts';
import type { Database } from '../../storage/database.ts';
import type { Notifier } from '../notifier.ts';
import { type Done, notNoted } from '../once.ts';
import type { PushRule, PushRuleset } from './predefined_rules.ts';
import type { Recipients } from './recipients.ts';
import {
  carriedTo,
  effectiveRules,
  findRule,
  parseRuleSettings,
  type RuleName,
  type RulePlace,
  type RuleSettings,
  settingsText,
  withChange,
  withoutRule,
  withRule,
} from './rule_settings.ts';

/** The type of account data that tells a user's push rules; stored under it is what the user has changed of them. */
export const PUSH_RULES = 'm.push_rules';

/** What m.push_rules holds. @param stored what is stored under that type */
export const pushRulesContent = (user: UserId, stored: string | undefined): JsonObject => ({
  global: effectiveRules(user, parseRuleSettings(stored)),
});

/** The rules by which a user is notified of events (client-server API, "Push Rules"). */
export class PushRules {
  readonly #database: Database;
  readonly #notifier: Pick<Notifier, 'published'>;
  readonly #recipients: Pick<Recipients, 'changed'>;

  constructor(of: {
    readonly database: Database;
    readonly notifier: Pick<Notifier, 'published'>;
    readonly recipients: Pick<Recipients, 'changed'>;
  }) {
    this.#database = of.database;
    this.#notifier = of.notifier;
    this.#recipients = of.recipients;
  }

  async all(user: UserId): Promise<PushRuleset> {
    const text = await findAccountData(this.#database, { user, room: GLOBAL, type: PUSH_RULES });
    return effectiveRules(user, parseRuleSettings(text));
  }

  /** @throws MatrixError M_NOT_FOUND */
  async get(user: UserId, name: RuleName): Promise<PushRule> {
    return findRule(await this.all(user), name);
  }

  /** Adds a rule of the user's own, or changes one. @throws MatrixError as `withRule`, M_TOO_LARGE */
  put(
    user: UserId,
    name: RuleName,
    { body, place }: { readonly body: JsonObject; readonly place: RulePlace },
    done: Done<void> = notNoted,
  ): Promise<void> {
    return this.#change(user, (settings) => withRule(settings, name, body, place), done);
  }

  /** @throws MatrixError as `withoutRule` */
  delete(user: UserId, name: RuleName, done: Done<void> = notNoted): Promise<void> {
    return this.#change(user, (settings) => withoutRule(settings, name), done);
  }

  /** Enables a rule or not, or gives it other actions. @throws MatrixError as `withChange` */
  set(
    user: UserId,
    name: RuleName,
    change: { readonly enabled: boolean } | { readonly actions: JsonValue },
    done: Done<void> = notNoted,
  ): Promise<void> {
    return this.#change(user, (settings) => withChange(settings, name, change), done);
  }

  /** Makes what a user has said about a room hold for another one as well. @throws MatrixError M_TOO_LARGE */
  carry(user: UserId, from: RoomId, to: RoomId): Promise<void> {
    return this.#change(user, (settings) => carriedTo(settings, from, to), notNoted);
  }

  async #change(
    user: UserId,
    make: (settings: RuleSettings) => RuleSettings,
    done: Done<void>,
  ): Promise<void> {
    const place = { user, room: GLOBAL, type: PUSH_RULES } as const;
    await this.#database.transaction(async (tx) => {
      const text = await findAccountData(tx, place);
      const before = parseRuleSettings(text);
      const after = make(before);
      const position = after === before ? undefined : await putAccountData(tx, place, settingsText(after));
      await done(tx);
      if (position === undefined) return;
      this.#recipients.changed(tx, user);
      tx.afterCommit(() => this.#notifier.published(position, [], [user]));
    });
  }
}
