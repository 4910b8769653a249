import { parseUserId, serverOf, type UserId } from '../../matrix/ids.ts';
import type { JsonValue } from '../../matrix/json.ts';

/** A user of the server that speaks; undefined: it is none, or none of its. */
export function userOf(origin: string, value: JsonValue | undefined): UserId | undefined {
  const user = typeof value === 'string' ? parseUserId(value) : undefined;
  return user?.ok === true && serverOf(user.value) === origin ? user.value : undefined;
}
