import { seededRandom } from '../../src/base/random.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { Work } from '../../src/base/work.ts';
import { Accounts, type AccountsOptions } from '../../src/homeserver/accounts.ts';
import type { PasswordCost } from '../../src/homeserver/passwords.ts';
import type { RegistrationMode, RegistrationPolicy } from '../../src/homeserver/registration.ts';
import type { ServerName } from '../../src/matrix/ids.ts';
import type { SqliteDatabase } from '../../src/storage/sqlite.ts';
import { temporaryDatabase } from '../storage/temporary_database.ts';

/** The least that argon2id takes. */
export const CHEAP: PasswordCost = { memoryKib: 8, passes: 1, lanes: 1 };

export type AccountServiceOptions = Partial<Omit<AccountsOptions, 'registration'>> & {
  /** The mode alone: without terms. */
  readonly registration?: RegistrationMode | RegistrationPolicy;
};

/** An accounts service of `a.example` over a new database, with a clock that stands still and seeded dice. */
export function accountService({ registration = 'open', ...options }: AccountServiceOptions = {}): {
  accounts: Accounts;
  database: SqliteDatabase;
  clock: VirtualClock;
  work: Work;
} {
  const database = temporaryDatabase();
  const clock = new VirtualClock();
  const work = new Work();
  const accounts = new Accounts({
    database,
    clock,
    random: seededRandom(1),
    work,
    serverName: 'a.example' as ServerName,
    registration: typeof registration === 'string' ? { mode: registration, terms: {} } : registration,
    passwordCost: CHEAP,
    ...options,
  });
  return { accounts, database, clock, work };
}
