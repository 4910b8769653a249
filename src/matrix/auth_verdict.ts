import { bad, ok, type Result } from '../base/result.ts';
import type { Event } from './pdu.ts';
import type { PowerLevels } from './power_levels.ts';

/** Which rule rejected an event, by its number in the room version's text such as "5.3.4", and why. */
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
