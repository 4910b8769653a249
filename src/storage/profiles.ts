import type { UserId } from '../matrix/ids.ts';
import type { JsonObject, JsonValue } from '../matrix/json.ts';
import type { Reader, Transaction } from './database.ts';

/** The fields of a profile that are shown in rooms, named as the specification names them. */
export type RoomProfileField = 'displayname' | 'avatar_url';

const OF_USERS: Readonly<Record<RoomProfileField, string>> = {
  displayname: 'UPDATE users SET displayname = ? WHERE user_id = ? AND displayname IS DISTINCT FROM ?',
  avatar_url: 'UPDATE users SET avatar_url = ? WHERE user_id = ? AND avatar_url IS DISTINCT FROM ?',
};

/** All fields that a user has set; undefined where there is no such user. */
export async function findProfile(reader: Reader, user: UserId): Promise<JsonObject | undefined> {
  const row = await reader.get<Record<RoomProfileField, string | null>>(
    'SELECT displayname, avatar_url FROM users WHERE user_id = ?',
    user,
  );
  if (row === undefined) return undefined;
  const fields = await reader.all<{ name: string; value: string }>(
    'SELECT name, value FROM profile_fields WHERE user_id = ? ORDER BY name',
    user,
  );
  return {
    ...(row.displayname === null ? {} : { displayname: row.displayname }),
    ...(row.avatar_url === null ? {} : { avatar_url: row.avatar_url }),
    ...Object.fromEntries(fields.map(({ name, value }) => [name, JSON.parse(value) as JsonValue])),
  };
}

/** Sets a field that rooms show, or removes it with null; answers whether it had another value before. */
export async function setRoomProfileField(
  tx: Transaction,
  user: UserId,
  field: RoomProfileField,
  value: string | null,
): Promise<boolean> {
  return (await tx.run(OF_USERS[field], value, user, value)) === 1;
}

/** Sets any other field, or removes it with undefined. */
export async function setProfileField(
  tx: Transaction,
  user: UserId,
  name: string,
  value: JsonValue | undefined,
): Promise<void> {
  if (value === undefined) {
    await tx.run('DELETE FROM profile_fields WHERE user_id = ? AND name = ?', user, name);
    return;
  }
  await tx.run(
    `INSERT INTO profile_fields (user_id, name, value) VALUES (?, ?, ?)
     ON CONFLICT (user_id, name) DO UPDATE SET value = excluded.value`,
    ...[user, name, JSON.stringify(value)],
  );
}

/** Notes that a user's rooms have to be told. */
export async function noteProfileChange(tx: Transaction, user: UserId): Promise<void> {
  await tx.run(
    `INSERT INTO profile_changes (user_id, change) VALUES (?, 1)
     ON CONFLICT (user_id) DO UPDATE SET change = change + 1`,
    user,
  );
}

/** The number of the change that the rooms have not been told of; undefined: they know. */
export async function profileChange(reader: Reader, user: UserId): Promise<number | undefined> {
  const row = await reader.get<{ change: number }>(
    'SELECT change FROM profile_changes WHERE user_id = ?',
    user,
  );
  return row?.change;
}

/** The rooms have been told of a change; of a newer one they still have to be. */
export async function clearProfileChange(tx: Transaction, user: UserId, change: number): Promise<void> {
  await tx.run('DELETE FROM profile_changes WHERE user_id = ? AND change = ?', user, change);
}

export async function usersWithProfileChanges(reader: Reader): Promise<UserId[]> {
  const rows = await reader.all<{ user_id: UserId }>('SELECT user_id FROM profile_changes ORDER BY user_id');
  return rows.map(({ user_id }) => user_id);
}
