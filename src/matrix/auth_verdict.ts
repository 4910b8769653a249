import { bad, ok, type Result } from '../base/result.ts';
import type { Event } from './pdu.ts';
import type { PowerLevels } from './power_levels.ts';

/**
 * Which rule rejected an event, and why. `rule` is the number that the rule has in the text of room version 12, such as
 * "5.3.4", whatever the room's version; of a rule that this text no longer has, the version and number of its first
 * text, such as "v1 4.2".
 */
export interface AuthFailure {
  readonly rule: string;
  readonly reason: string;
}

export type AuthVerdict = Result<void, AuthFailure>;

export const allow: AuthVerdict = ok(undefined);
export const reject = (rule: string, reason: string): AuthVerdict => bad({ rule, reason });

/** The state that an event is checked against, as the rules speak of it. */
export interface AuthState {
  readonly create: Event;
  readonly levels: PowerLevels;
  /** The m.room.power_levels event, if there is one. */
  readonly power: Event | undefined;
  /** A user's membership; 'leave' for who has never been in the room. */
  membership(user: string): string;
  joinRule(): string;
  thirdPartyInvite(token: string): Event | undefined;
}
