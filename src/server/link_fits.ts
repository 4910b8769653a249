import type { Clock } from '../base/time.ts';
import { type LinkFits, MOST_FITTED_PEERS } from '../exchange/link_timing.ts';
import type { Database } from '../storage/database.ts';
import { linkFits, putLinkFits } from '../storage/link_fits.ts';

/** The fits of the timers of each of some links, kept in the database under the links' names. */
export async function storedFits(
  database: Database,
  clock: Clock,
  links: readonly string[],
): Promise<ReadonlyMap<string, LinkFits>> {
  const fits = new Map<string, LinkFits>();
  for (const link of links) {
    fits.set(link, {
      known: await linkFits(database, link, MOST_FITTED_PEERS),
      save: (texts) =>
        database.transaction((tx) => putLinkFits(tx, link, texts, MOST_FITTED_PEERS, clock.wall())),
    });
  }
  return fits;
}
