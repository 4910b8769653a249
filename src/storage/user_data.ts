import type { UserId } from '../matrix/ids.ts';
import type { Transaction } from './database.ts';
import { deleteAllKeyBackups } from './key_backups.ts';
import { deleteAllUnread } from './push_notifications.ts';

/** Deletes what a user has stored for their own clients, and what is known of their activity. */
export async function deleteSettings(tx: Transaction, user: UserId): Promise<void> {
  await tx.run('DELETE FROM filters WHERE user_id = ?', user);
  await tx.run('DELETE FROM account_data WHERE user_id = ?', user);
  await tx.run("DELETE FROM receipts WHERE user_id = ? AND type = 'm.read.private'", user);
  await tx.run('DELETE FROM presence WHERE user_id = ?', user);
  await deleteAllKeyBackups(tx, user);
  await deleteAllUnread(tx, user);
  await tx.run('DELETE FROM delayed_events WHERE user_id = ?', user);
}

/** Deletes what a user shows of themselves. */
export async function deleteProfile(tx: Transaction, user: UserId): Promise<void> {
  await tx.run('UPDATE users SET displayname = NULL, avatar_url = NULL WHERE user_id = ?', user);
  await tx.run('DELETE FROM profile_fields WHERE user_id = ?', user);
}
