import type { Millis } from '../base/time.ts';
import type { Reader, Transaction } from './database.ts';

/** How long the fit of a peer that is not talked to is kept. */
const KEPT_MS = 180 * 24 * 60 * 60 * 1000;

/** The kept fits of one link's peers, as they were given, by peer: the `most` newest. */
export async function linkFits(db: Reader, link: string, most: number): Promise<Map<string, string>> {
  const rows = await db.all<{ peer: string; fit: string }>(
    'SELECT peer, fit FROM link_fits WHERE link = ? ORDER BY updated DESC, peer LIMIT ?',
    link,
    most,
  );
  return new Map(rows.map(({ peer, fit }) => [peer, fit]));
}

/**
 * Keeps the fits of some peers, in the place of earlier ones, and forgets what is old and all but the `most` newest.
 * @param now Unix time
 */
export async function putLinkFits(
  tx: Transaction,
  link: string,
  fits: ReadonlyMap<string, string>,
  most: number,
  now: Millis,
): Promise<void> {
  for (const [peer, fit] of fits) {
    await tx.run(
      `INSERT INTO link_fits (link, peer, fit, updated) VALUES (?, ?, ?, ?)
       ON CONFLICT (link, peer) DO UPDATE SET fit = excluded.fit, updated = excluded.updated`,
      link,
      peer,
      fit,
      now,
    );
  }
  await tx.run('DELETE FROM link_fits WHERE link = ? AND updated < ?', link, now - KEPT_MS);
  await tx.run(
    `DELETE FROM link_fits WHERE link = ? AND peer NOT IN
       (SELECT peer FROM link_fits WHERE link = ? ORDER BY updated DESC, peer LIMIT ?)`,
    link,
    link,
    most,
  );
}
