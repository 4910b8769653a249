import type { Reader } from '../../storage/database.ts';
import {
  type Direction,
  deliveredEvents,
  type EventRow,
  type HistoricPlace,
  historicEvents,
} from '../../storage/sync.ts';
import type { Point } from './token.ts';

/** Events read with one statement. */
const BATCH = 100;

/** Behind every event that was never delivered. */
const END_OF_HISTORIC: HistoricPlace = { depth: Number.MAX_SAFE_INTEGER, id: Number.MAX_SAFE_INTEGER };

const historicPlace = (point: Point): HistoricPlace => (point.kind === 'historic' ? point : END_OF_HISTORIC);
const deliveredPosition = (point: Point): number => (point.kind === 'delivered' ? point.position : 0);

/**
 * Some of the next events from one point to another, in the direction `dir`: 'b' newest first, 'f' oldest first.
 * Empty only where there are none. Not yet judged by who may see them.
 */
export async function pageOfEvents(
  reader: Reader,
  room: number,
  { dir, from, to }: { readonly dir: Direction; readonly from: Point; readonly to: Point },
): Promise<EventRow[]> {
  const [older, newer] = dir === 'b' ? [to, from] : [from, to];
  const positions = { after: deliveredPosition(older), upTo: deliveredPosition(newer), limit: BATCH };
  const places = { after: historicPlace(older), upTo: historicPlace(newer), limit: BATCH };
  const historicToo = older.kind === 'historic';
  if (dir === 'b') {
    const rows = await deliveredEvents(reader, room, dir, positions);
    return rows.length > 0 || !historicToo ? rows : historicEvents(reader, room, dir, places);
  }
  const rows = historicToo ? await historicEvents(reader, room, dir, places) : [];
  return rows.length > 0 ? rows : deliveredEvents(reader, room, dir, positions);
}
