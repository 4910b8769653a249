import { type AuthState, type AuthVerdict, allow, reject } from './auth_verdict.ts';
import { parseUserId } from './ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from './json.ts';
import type { Pdu } from './pdu.ts';
import { creatorsOf, type Level, readLevel } from './power_levels.ts';
import type { RoomVersion } from './room_version.ts';

const LEVELS = [
  'users_default',
  'events_default',
  'state_default',
  'ban',
  'redact',
  'kick',
  'invite',
] as const;

/** Rule 10: m.room.power_levels. */
export function authorisePowerLevels(pdu: Pdu, state: AuthState, version: RoomVersion): AuthVerdict {
  const { content } = pdu;
  const malformed = checkShape(content, state, version);
  if (!malformed.ok) return malformed;
  if (state.power === undefined) return allow; // 10.5
  const before = state.power.pdu.content;
  const senderLevel = state.levels.user(pdu.sender);

  for (const { current, next } of changes(pick(before, LEVELS), pick(content, LEVELS), version)) {
    if (current !== undefined && current > senderLevel)
      return reject('10.6.1', 'a level above the sender is changed');
    if (next !== undefined && next > senderLevel) return reject('10.6.2', 'a level is set above the sender');
  }
  const entries = guardedIn(version).flatMap((name) =>
    changes(objectIn(before, name), objectIn(content, name), version),
  );
  for (const { current } of entries) {
    if (current !== undefined && current > senderLevel)
      return reject('10.7.1', 'an entry above the sender is changed');
  }
  for (const { next } of entries) {
    if (next !== undefined && next > senderLevel) return reject('10.8.1', 'an entry is set above the sender');
  }
  const users = changes(objectIn(before, 'users'), objectIn(content, 'users'), version);
  for (const { key, current } of users) {
    if (key !== pdu.sender && current !== undefined && current >= senderLevel) {
      return reject('10.9.1', 'the level of a user not below the sender is changed');
    }
  }
  for (const { next } of users) {
    if (next !== undefined && next > senderLevel) return reject('10.10.1', 'a user is set above the sender');
  }
  return allow; // the last 10.10
}

const guardedIn = (version: RoomVersion) =>
  version.guardsNotifications ? ['events', 'notifications'] : ['events'];

function checkShape(content: JsonObject, state: AuthState, version: RoomVersion): AuthVerdict {
  const isLevel = (value: JsonValue): boolean => readLevel(value, version) !== undefined;
  const isLevels = (value: JsonValue): boolean => isJsonObject(value) && Object.values(value).every(isLevel);
  // Up to version 9 the text asks this of `users` alone; but a level that nobody can read is none that could be kept to.
  for (const name of LEVELS) {
    const level = own(content, name);
    if (level !== undefined && !isLevel(level)) return reject('10.1', `${name} is not a level`);
  }
  for (const name of guardedIn(version)) {
    const entries = own(content, name);
    if (entries !== undefined && !isLevels(entries))
      return reject('10.2', `${name} is not an object of levels`);
  }
  const users = own(content, 'users');
  if (users === undefined) return allow;
  if (!isLevels(users) || !Object.keys(users as JsonObject).every((user) => parseUserId(user).ok)) {
    return reject('10.3', 'users is not an object of user ids and levels');
  }
  for (const creator of version.privilegedCreators ? creatorsOf(state.create, version) : []) {
    if (Object.hasOwn(users as JsonObject, creator))
      return reject('10.4', 'users names a creator of the room');
  }
  return allow;
}

const pick = (content: JsonObject, names: readonly string[]): JsonObject =>
  Object.fromEntries(
    names.filter((name) => Object.hasOwn(content, name)).map((name) => [name, content[name]!]),
  );

function objectIn(content: JsonObject, name: string): JsonObject {
  const value = own(content, name);
  return isJsonObject(value) ? value : {};
}

interface Change {
  readonly key: string;
  /** Undefined where the entry is added. */
  readonly current: Level | undefined;
  /** Undefined where the entry is removed. */
  readonly next: Level | undefined;
}

/** The entries that are added, changed or removed between two objects of levels. */
function changes(before: JsonObject, after: JsonObject, version: RoomVersion): Change[] {
  return [...new Set([...Object.keys(before), ...Object.keys(after)])]
    .map((key) => ({
      key,
      current: readLevel(own(before, key), version),
      next: readLevel(own(after, key), version),
    }))
    .filter(({ current, next }) => current !== next);
}
