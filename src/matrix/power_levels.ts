import type { UserId } from './ids.ts';
import { isJsonObject, type JsonObject, own } from './json.ts';
import type { Event } from './pdu.ts';

// Client-server API, m.room.power_levels: what holds where the event does not say, or where there is none.
const DEFAULT_LEVELS = {
  ban: 50,
  kick: 50,
  redact: 50,
  invite: 0,
  users_default: 0,
  events_default: 0,
  state_default: 50,
} as const;
const DEFAULT_NOTIFICATION_LEVEL = 50;

/** The power levels that hold at one point of a room. */
export interface PowerLevels {
  readonly ban: number;
  readonly kick: number;
  readonly redact: number;
  readonly invite: number;
  /** A user's power level: Infinity for the room's creators (room version 12). */
  user(user: UserId): number;
  /** The power level required to send an event of a type. */
  event(type: string, isState: boolean): number;
  /** The power level required to trigger a notification, such as `room`. */
  notification(key: string): number;
}

/**
 * The creators of a room (room version 12, "Event format"): the sender of the create event and its
 * `additional_creators`.
 */
export function creatorsOf(create: Event): ReadonlySet<UserId> {
  const additional = own(create.pdu.content, 'additional_creators');
  // An accepted create event has a list of user ids there (rule 1.4).
  return new Set([create.pdu.sender, ...(Array.isArray(additional) ? (additional as UserId[]) : [])]);
}

/** The levels that an m.room.power_levels event, or the lack of one, gives the room of `create`. */
export function powerLevels(create: Event, power: Event | undefined): PowerLevels {
  const content = power?.pdu.content ?? {};
  const creators = creatorsOf(create);
  const level = (name: keyof typeof DEFAULT_LEVELS): number => integer(content, name) ?? DEFAULT_LEVELS[name];
  return {
    ban: level('ban'),
    kick: level('kick'),
    redact: level('redact'),
    invite: level('invite'),
    user: (user) =>
      creators.has(user) ? Infinity : (integerIn(content, 'users', user) ?? level('users_default')),
    event: (type, isState) =>
      integerIn(content, 'events', type) ?? level(isState ? 'state_default' : 'events_default'),
    notification: (key) => integerIn(content, 'notifications', key) ?? DEFAULT_NOTIFICATION_LEVEL,
  };
}

/** The number under a key: an integer, since canonical JSON has no others. */
function integer(object: JsonObject, key: string): number | undefined {
  const value = own(object, key);
  return typeof value === 'number' ? value : undefined;
}

function integerIn(content: JsonObject, property: string, key: string): number | undefined {
  const object = own(content, property);
  return isJsonObject(object) ? integer(object, key) : undefined;
}
