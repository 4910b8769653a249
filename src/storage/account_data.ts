import type { RoomId, UserId } from '../matrix/ids.ts';
import { isJsonObject, type JsonObject, own } from '../matrix/json.ts';
import type { Reader, Transaction } from './database.ts';
import { nextPosition } from './stream.ts';

/** In the place of a room: what belongs to none. */
export const GLOBAL = '';

/** Where one user's data stands: in a room, or with `GLOBAL` in none. */
export interface AccountDataPlace {
  readonly user: UserId;
  readonly room: RoomId | typeof GLOBAL;
  readonly type: string;
}

export interface AccountDataRow {
  readonly type: string;
  /** JSON text of an object. */
  readonly content: string;
}

/** The JSON text of what was stored, or undefined. */
export async function findAccountData(
  reader: Reader,
  { user, room, type }: AccountDataPlace,
): Promise<string | undefined> {
  const row = await reader.get<{ content: string }>(
    'SELECT content FROM account_data WHERE user_id = ? AND room = ? AND type = ?',
    ...[user, room, type],
  );
  return row?.content;
}

/** Stores data at a new position of the stream; where it is there already as it is, nothing happens. @returns the position */
export async function putAccountData(
  tx: Transaction,
  place: AccountDataPlace,
  content: string,
): Promise<number | undefined> {
  const { user, room, type } = place;
  if ((await findAccountData(tx, place)) === content) return undefined;
  const position = await nextPosition(tx);
  await tx.run(
    `INSERT INTO account_data (user_id, room, type, content, position) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT (user_id, room, type) DO UPDATE SET content = excluded.content, position = excluded.position`,
    ...[user, room, type, content, position],
  );
  return position;
}

/** How many entries a user has, in rooms and in none. */
export async function countAccountData(reader: Reader, user: UserId): Promise<number> {
  const row = await reader.get<{ entries: number }>(
    'SELECT COUNT(*) AS entries FROM account_data WHERE user_id = ?',
    user,
  );
  return row!.entries;
}

/** What changed in `after` < position <= `upTo`, in the order of its changes. */
export function accountDataChanges(
  reader: Reader,
  user: string,
  room: string,
  range: { readonly after: number; readonly upTo: number },
): Promise<AccountDataRow[]> {
  return reader.all<AccountDataRow>(
    `SELECT type, content FROM account_data WHERE user_id = ? AND room = ? AND position > ? AND position <= ?
     ORDER BY position`,
    ...[user, room, range.after, range.upTo],
  );
}

/** Whom a user ignores (client-server API, "Ignoring Users"). */
export async function ignoredUsers(reader: Reader, user: string): Promise<ReadonlySet<string>> {
  const text = await findAccountData(reader, {
    ...{ user: user as UserId, room: GLOBAL, type: 'm.ignored_user_list' },
  });
  const content: JsonObject = text === undefined ? {} : (JSON.parse(text) as JsonObject);
  const ignored = own(content, 'ignored_users');
  return new Set(isJsonObject(ignored) ? Object.keys(ignored).filter((other) => other !== user) : []);
}
