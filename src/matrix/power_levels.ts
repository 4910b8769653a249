import type { UserId } from './ids.ts';
import {
  isJsonObject,
  isLooseInteger,
  isLooseNumber,
  type JsonObject,
  type JsonValue,
  numberOf,
  own,
} from './json.ts';
import type { Event } from './pdu.ts';
import type { RoomVersion } from './room_version.ts';

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
/** Of a room's creator up to version 11, where there is no m.room.power_levels event. */
const CREATOR_LEVEL = 100;
/** The most digits that are looked at, so that nobody has long texts of digits read. */
const MAX_LEVEL_CHARACTERS = 1_000;
const LEVEL_TEXT = /^\s*[+-]?[0-9]+\s*$/;

/** A power level. One that a number does not hold exactly is a bigint: the two compare with each other. */
export type Level = number | bigint;

/** The power levels that hold at one point of a room. */
export interface PowerLevels {
  readonly ban: Level;
  readonly kick: Level;
  readonly redact: Level;
  readonly invite: Level;
  /** A user's power level: Infinity for the room's creators (room version 12). */
  user(user: UserId): Level;
  /** The power level required to send an event of a type. */
  event(type: string, isState: boolean): Level;
  /** The power level required to trigger a notification, such as `room`. */
  notification(key: string): Level;
}

/**
 * The creators of a room: `content.creator` of its create event up to version 10, the sender since, and in version 12
 * also the `additional_creators`.
 */
export function creatorsOf(create: Event, version: RoomVersion): ReadonlySet<UserId> {
  const { sender, content } = create.pdu;
  if (version.creators === 'content') return new Set([own(content, 'creator') as UserId]);
  const additional = version.creators === 'additional' ? own(content, 'additional_creators') : undefined;
  // An accepted create event has a list of user ids there (rule 1.4).
  return new Set([sender, ...(Array.isArray(additional) ? (additional as UserId[]) : [])]);
}

/**
 * The levels that an m.room.power_levels event, or the lack of one, gives the room of `create`, where that is known.
 */
export function powerLevels(
  create: Event | undefined,
  power: Event | undefined,
  version: RoomVersion,
): PowerLevels {
  const content = power?.pdu.content ?? {};
  const creators = create === undefined ? new Set() : creatorsOf(create, version);
  const read = (object: JsonObject, key: string) => readLevel(own(object, key), version);
  const level = (name: keyof typeof DEFAULT_LEVELS): Level => read(content, name) ?? DEFAULT_LEVELS[name];
  const entry = (property: string, key: string): Level | undefined => {
    const object = own(content, property);
    return isJsonObject(object) ? read(object, key) : undefined;
  };
  const ofUser = (user: UserId): Level => {
    if (creators.has(user)) {
      if (version.privilegedCreators) return Infinity;
      if (power === undefined) return CREATOR_LEVEL;
    }
    return entry('users', user) ?? level('users_default');
  };
  return {
    ban: level('ban'),
    kick: level('kick'),
    redact: level('redact'),
    invite: level('invite'),
    user: ofUser,
    event: (type, isState) => entry('events', type) ?? level(isState ? 'state_default' : 'events_default'),
    notification: (key) => entry('notifications', key) ?? DEFAULT_NOTIFICATION_LEVEL,
  };
}

/**
 * A power level as a room version reads it (room versions, "Deprecated event content schemas"): an integer; up to
 * version 9 also the text of one; up to version 5 a fraction, which is cut off. Undefined where it is none.
 */
export function readLevel(value: JsonValue | undefined, version: RoomVersion): Level | undefined {
  if (typeof value === 'string') {
    if (version.powerLevels === 'integers' || value.length > MAX_LEVEL_CHARACTERS) return undefined;
    if (!LEVEL_TEXT.test(value)) return undefined;
    const digits = value.trim();
    return withinRange(digits.startsWith('-') ? -BigInt(digits.slice(1)) : BigInt(digits.replace('+', '')));
  }
  if (version.powerLevels !== 'numbers and strings')
    return Number.isInteger(value) ? (value as number) : undefined;
  if (isLooseNumber(value) && isLooseInteger(value)) return withinRange(BigInt(value.rawJSON));
  const number = Math.trunc(numberOf(value));
  return Number.isFinite(number) ? withinRange(BigInt(number)) : undefined;
}

/** As a number where that is exact, so that equal levels are the same value; undefined outside the range of binary64. */
function withinRange(level: bigint): Level | undefined {
  const number = Number(level);
  if (Number.isSafeInteger(number)) return number;
  return Number.isFinite(number) ? level : undefined;
}
