import type { Random } from '../base/random.ts';
import { MatrixError } from '../matrix/error.ts';
import {
  fitsIdLimit,
  localpartOf,
  parseUserId,
  type ServerName,
  serverOf,
  type UserId,
} from '../matrix/ids.ts';

/** Appendices, "User Identifiers". */
const LOCALPART = /^[a-z0-9._=/+-]+$/;
const GENERATED_LOCALPART_LENGTH = 12;

/** The user id that a username would get on this server. @throws MatrixError M_INVALID_USERNAME */
export function newUserId(username: string, server: ServerName): UserId {
  // Appendices, "User Identifiers": homeservers downcase usernames when they make user ids of them.
  const localpart = lowerCase(username);
  const user = `@${localpart}:${server}`;
  if (!LOCALPART.test(localpart))
    throw invalidUsername('A username is made of a-z, 0-9, ".", "_", "=", "-", "/" and "+".');
  if (!fitsIdLimit(user)) throw invalidUsername('The username is too long.');
  return user as UserId;
}

/** The user id of somebody who has not asked for a name. */
export function generatedUserId(random: Random, server: ServerName): UserId {
  return `@${letters(random, GENERATED_LOCALPART_LENGTH, 'a')}:${server}` as UserId;
}

/** The user of this server that a name or user id can mean, whether there is one or not. */
export function existingUserId(name: string, server: ServerName): UserId | undefined {
  const parsed = parseUserId(name.startsWith('@') ? name : `@${name}:${server}`);
  if (!parsed.ok || serverOf(parsed.value) !== server) return undefined;
  return `@${lowerCase(localpartOf(parsed.value))}:${server}` as UserId;
}

/** Random letters of the alphabet that begins with `first`. */
export function letters(random: Random, length: number, first: 'a' | 'A'): string {
  const start = first.charCodeAt(0);
  return String.fromCharCode(...Array.from({ length }, () => start + random.integer(26)));
}

/** ASCII only: other letters are not allowed anyhow. */
const lowerCase = (text: string): string => text.replace(/[A-Z]/g, (letter) => letter.toLowerCase());

const invalidUsername = (message: string): MatrixError => new MatrixError(400, 'M_INVALID_USERNAME', message);
