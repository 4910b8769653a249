import type { Reader, SqlValue } from './database.ts';

/** How many values one statement takes. Few sizes, so that few statements are prepared. */
const LIST_SIZES = [1, 8, 64, 256] as const;

/**
 * Runs a query once for each piece of a list of values, and puts the rows together.
 * @param sql makes the statement out of the placeholders of one piece, such as `?, ?, ?`
 */
export async function allIn<R>(
  db: Reader,
  values: readonly SqlValue[],
  sql: (placeholders: string) => string,
): Promise<R[]> {
  const rows: R[] = [];
  for (let at = 0; at < values.length; ) {
    const left = values.length - at;
    const size = LIST_SIZES.find((candidate) => candidate >= left) ?? LIST_SIZES.at(-1)!;
    const piece = values.slice(at, at + size);
    // A null equals nothing, so it fills up a piece.
    const padded = [...piece, ...Array<null>(size - piece.length).fill(null)];
    rows.push(...(await db.all<R>(sql(padded.map(() => '?').join(', ')), ...padded)));
    at += piece.length;
  }
  return rows;
}
