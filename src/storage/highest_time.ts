import type { Millis } from '../base/time.ts';
import type { Reader } from './database.ts';

/**
 * The highest time that this server has stored of its own clock, in Unix milliseconds; 0 where there is none. A machine without a
 * battery for its clock starts in the past, where keys that are over would be valid again.
 */
export async function highestTime(db: Reader): Promise<Millis> {
  const row = await db.get<{ highest: number | null }>(
    `SELECT max(time) AS highest FROM (
       SELECT max(last_seen) AS time FROM pipe_peers UNION ALL SELECT max(saved) FROM pipe_sessions)`,
  );
  return row?.highest ?? 0;
}
