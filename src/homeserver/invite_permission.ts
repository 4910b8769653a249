import type { UserId } from '../matrix/ids.ts';
import { isJsonObject, own } from '../matrix/json.ts';
import { findAccountData, GLOBAL } from '../storage/account_data.ts';
import type { Reader } from '../storage/database.ts';

/** Whether a user has said that they take no invites (client-server API, "Invite permission"). */
export async function blocksInvites(db: Reader, user: UserId): Promise<boolean> {
  const text = await findAccountData(db, { user, room: GLOBAL, type: 'm.invite_permission_config' });
  const content: unknown = text === undefined ? undefined : JSON.parse(text);
  return isJsonObject(content) && own(content, 'default_action') === 'block';
}
