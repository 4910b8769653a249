import type { Millis } from '../base/time.ts';
import type { UserId } from '../matrix/ids.ts';
import type { Reader } from './database.ts';

/** What an operator is told of an account. Times are Unix time in milliseconds. */
export interface AccountOverview {
  readonly user: UserId;
  readonly name: string | null;
  readonly created: Millis;
  readonly admin: boolean;
  readonly standing: 'active' | 'suspended' | 'locked' | 'deactivated';
  readonly hasPassword: boolean;
  readonly devices: number;
  /** When one of its devices called last. */
  readonly lastSeen: Millis | null;
}

interface Row {
  readonly user: UserId;
  readonly name: string | null;
  readonly created: number;
  readonly admin: number;
  readonly locked: number;
  readonly suspended: number;
  readonly deactivated: number | null;
  readonly hasPassword: number;
  readonly devices: number;
  readonly lastSeen: number | null;
}

/** All accounts, by user id. */
export async function accountList(db: Reader): Promise<AccountOverview[]> {
  const rows = await db.all<Row>(
    `SELECT u.user_id AS user, u.displayname AS name, u.created AS created, u.admin AS admin, u.locked AS locked,
       u.suspended AS suspended, u.deactivated AS deactivated, u.password_hash IS NOT NULL AS hasPassword,
       COUNT(d.device_id) AS devices, MAX(d.last_seen) AS lastSeen
     FROM users u LEFT JOIN devices d ON d.user_id = u.user_id GROUP BY u.user_id ORDER BY u.user_id`,
  );
  return rows.map(({ locked, suspended, deactivated, ...row }) => ({
    ...row,
    admin: row.admin === 1,
    hasPassword: row.hasPassword === 1,
    standing:
      deactivated !== null
        ? 'deactivated'
        : locked === 1
          ? 'locked'
          : suspended === 1
            ? 'suspended'
            : 'active',
  }));
}
