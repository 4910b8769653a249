import type { Reader } from '../../storage/database.ts';
import { deliveredEvents, type EventRow } from '../../storage/sync.ts';
import { allowsEvent, allowsRoom, type RoomEventFilter } from '../filter_events.ts';
import { contentOf } from './membership.ts';
import type { Visibility } from './visibility.ts';

/** Events of a timeline where the filter says nothing, and at most. */
const DEFAULT_LIMIT = 10;
const MAX_LIMIT = 100;
/** Events looked at for one room's timeline at most; beyond it the timeline is cut off, and says so. */
const MAX_SCANNED = 1_000;
/** Events read with one statement. */
const BATCH = 100;

export interface Timeline {
  /** Oldest first. */
  readonly events: readonly EventRow[];
  /** Whether there may be more before, in the range that was asked for. */
  readonly limited: boolean;
  /** The stream position at which the events start: nothing at or before it is among them. */
  readonly start: number;
}

/** The newest events with `after` < position <= `upTo` that the filter lets through and the user may see, without what those have sent who are ignored. */
export async function loadTimeline(
  reader: Reader,
  room: { readonly id: number; readonly room_id: string },
  {
    range,
    filter,
    visibility,
    ignored,
  }: {
    readonly range: { readonly after: number; readonly upTo: number };
    readonly filter: RoomEventFilter;
    readonly visibility: Visibility;
    readonly ignored: ReadonlySet<string>;
  },
): Promise<Timeline> {
  const limit = Math.min(filter.limit ?? DEFAULT_LIMIT, MAX_LIMIT);
  const newestFirst: EventRow[] = [];
  const cutBefore = (position: number): Timeline => ({
    events: newestFirst.reverse(),
    limited: true,
    start: position,
  });
  if (!allowsRoom(filter, room.room_id)) return { events: [], limited: false, start: range.after };

  let { upTo } = range;
  for (let scanned = 0; scanned < MAX_SCANNED; ) {
    const rows = await deliveredEvents(reader, room.id, 'b', { after: range.after, upTo, limit: BATCH });
    for (const row of rows) {
      // State of those who are ignored is told (client-server API, "Ignoring Users").
      if (row.state_key === null && ignored.has(row.sender)) continue;
      const content = contentOf(row.json);
      if (!allowsEvent(filter, { type: row.type, sender: row.sender, content })) continue;
      if (!(await visibility.allows(row))) continue;
      // The one too many shows that there is more; the timeline starts just behind it.
      if (newestFirst.length === limit) return cutBefore(row.position!);
      newestFirst.push(row);
    }
    if (rows.length < BATCH) return { events: newestFirst.reverse(), limited: false, start: range.after };
    scanned += rows.length;
    upTo = rows.at(-1)!.position! - 1;
  }
  return cutBefore(upTo);
}
