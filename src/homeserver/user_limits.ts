import type { Clock, Millis } from '../base/time.ts';
import type { UserId } from '../matrix/ids.ts';
import { RateLimit } from './rate_limit.ts';

/** What users are held to a rate in: events and state, joins and knocks, invites, new rooms, reports, files, previews. */
export type LimitedAct = 'sends' | 'joins' | 'invites' | 'creates' | 'reports' | 'uploads' | 'previews';

/** How often a user may do something, as the configuration has it. */
export interface UserRate {
  /** How many times at once. */
  readonly burst: number;
  /** Between two times in the long run. */
  readonly interval_ms: Millis;
}

export type UserRates = Readonly<Record<LimitedAct, UserRate>>;

/** Generous for people, tight for loops that run wild: a room costs its servers more than a message. */
export const USER_RATES: UserRates = {
  sends: { burst: 300, interval_ms: 100 },
  joins: { burst: 100, interval_ms: 1_000 },
  invites: { burst: 100, interval_ms: 1_000 },
  creates: { burst: 50, interval_ms: 10_000 },
  reports: { burst: 10, interval_ms: 60_000 },
  uploads: { burst: 100, interval_ms: 1_000 },
  previews: { burst: 50, interval_ms: 2_000 },
};

/** Where a service asks whether a user may go on. */
export type UserLimit = (act: LimitedAct, user: UserId) => void;

/** For those who are held to no rate. */
export const unlimited: UserLimit = () => undefined;

/**
 * Buckets for each user and act (client-server API, "Rate limiting").
 * @returns what throws MatrixError 429 M_LIMIT_EXCEEDED with `retry_after_ms` where a user does something too often
 */
export function userLimits(clock: Clock, rates: UserRates): UserLimit {
  const limits = new Map(
    Object.entries(rates).map(([act, { burst, interval_ms: intervalMs }]) => [
      act,
      new RateLimit(clock, { burst, intervalMs }),
    ]),
  );
  return (act, user) => limits.get(act)!.take(user);
}
