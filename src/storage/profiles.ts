import type { UserId } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

/** The fields of a profile that are kept, named as the specification names them. */
export type ProfileField = 'displayname' | 'avatar_url';

export type ProfileRow = Readonly<Record<ProfileField, string | null>>;

/** Undefined where there is no such user. */
export async function findProfile(reader: Reader, user: UserId): Promise<ProfileRow | undefined> {
  return reader.get<ProfileRow>('SELECT displayname, avatar_url FROM users WHERE user_id = ?', user);
}

const UPDATE: Readonly<Record<ProfileField, string>> = {
  displayname: 'UPDATE users SET displayname = ? WHERE user_id = ? AND displayname IS DISTINCT FROM ?',
  avatar_url: 'UPDATE users SET avatar_url = ? WHERE user_id = ? AND avatar_url IS DISTINCT FROM ?',
};

/** Sets a field, or removes it with null; answers whether it had another value before. */
export async function setProfileField(
  tx: Transaction,
  user: UserId,
  field: ProfileField,
  value: string | null,
): Promise<boolean> {
  return (await tx.run(UPDATE[field], value, user, value)) === 1;
}
