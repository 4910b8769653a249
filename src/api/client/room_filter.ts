import { parseRoomEventFilter, type RoomEventFilter } from '../../homeserver/filter_events.ts';
import { invalidParam } from '../../matrix/error.ts';
import { json, type Query } from './query.ts';

/** The RoomEventFilter in a query's `filter`. @throws MatrixError M_INVALID_PARAM */
export function roomFilter(query: Query): RoomEventFilter {
  const filter = parseRoomEventFilter(json(query, 'filter'));
  if (!filter.ok) throw invalidParam(`The filter cannot be used: ${filter.problem}.`);
  return filter.value;
}
