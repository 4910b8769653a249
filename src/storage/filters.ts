import type { UserId } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

/**
 * Stores a filter and answers its id; one that the user has stored before keeps its id. Of more than `most` filters
 * of one user, the oldest go.
 * @param hash SHA-256 of `json`
 */
export async function storeFilter(
  tx: Transaction,
  filter: { readonly user: UserId; readonly hash: Uint8Array; readonly json: string },
  most: number,
): Promise<number> {
  const added = await tx.run(
    'INSERT INTO filters (user_id, hash, json) VALUES (?, ?, ?) ON CONFLICT DO NOTHING',
    filter.user,
    filter.hash,
    filter.json,
  );
  if (added === 1) {
    await tx.run(
      `DELETE FROM filters WHERE user_id = ?
       AND id NOT IN (SELECT id FROM filters WHERE user_id = ? ORDER BY id DESC LIMIT ?)`,
      filter.user,
      filter.user,
      most,
    );
  }
  const row = await tx.get<{ id: number }>(
    'SELECT id FROM filters WHERE user_id = ? AND hash = ?',
    filter.user,
    filter.hash,
  );
  return row!.id;
}

/** The JSON text of a filter of that user. */
export async function findFilter(reader: Reader, user: UserId, id: number): Promise<string | undefined> {
  const row = await reader.get<{ json: string }>(
    'SELECT json FROM filters WHERE user_id = ? AND id = ?',
    user,
    id,
  );
  return row?.json;
}
