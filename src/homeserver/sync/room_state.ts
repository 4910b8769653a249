import { isJsonObject, own } from '../../matrix/json.ts';
import { type StateKey, splitStateKey, stateKey } from '../../matrix/pdu.ts';
import type { Reader } from '../../storage/database.ts';
import { type EventRow, firstMembers, memberCounts, stateChanges, stateEntry } from '../../storage/sync.ts';
import { allowsEvent, allowsRoom, type RoomEventFilter } from '../filter_events.ts';
import { contentOf } from './membership.ts';
import type { SentRound } from './sent_members.ts';
import type { Timeline } from './timeline.ts';

/** Heroes in a summary (client-server API, "Syncing": the first 5 members). */
const HEROES = 5;

const MEMBER = 'm.room.member';

export interface Summary {
  /** Absent where the room has a name or an alias of its own. */
  readonly heroes?: readonly string[];
  readonly joined: number;
  readonly invited: number;
}

export interface StateRequest {
  readonly room: { readonly id: number; readonly room_id: string };
  readonly user: string;
  /** The position from which the client knows the state; null: it knows nothing. */
  readonly since: number | null;
  /** The position at the end of the timeline. */
  readonly upTo: number;
  readonly timeline: Timeline;
  /** Whether the client takes the state at the timeline's end, and none from the timeline (`use_state_after`). */
  readonly stateAfter: boolean;
  readonly withSummary: boolean;
  readonly filter: RoomEventFilter;
  readonly sent: SentRound;
}

/**
 * The state that a client is missing, and the room's summary where that may have changed.
 *
 * A client that applies `state` and then the timeline has to end at the state at `upTo`. So a place that the timeline
 * sets is given as of the timeline's start, and every other place as of its end: that brings also what changed inside
 * the range without an event in the timeline (filtered out, not visible, or the work of a state resolution). What no
 * order of events can say, that the timeline's event lost to an older one, only `state_after` says.
 */
export async function loadState(
  reader: Reader,
  request: StateRequest,
): Promise<{ readonly state: readonly EventRow[]; readonly summary: Summary | undefined }> {
  const { room, since, upTo, timeline, filter } = request;
  const lazy = filter.lazyLoadMembers;
  const after = since ?? 0;
  const inTimeline = new Set<StateKey>(request.stateAfter ? [] : timeline.events.flatMap(placeOf));
  const everybody = !(lazy && since === null);
  const changes = await stateChanges(reader, room.id, { after, upTo, members: everybody });

  const state = new Map<StateKey, EventRow>();
  for (const row of changes) {
    const place = stateKey(row.type, row.state_key!);
    if (!inTimeline.has(place)) state.set(place, row);
  }
  for (const place of inTimeline) {
    const { type, key } = splitStateKey(place);
    if (type === MEMBER && !everybody) continue;
    const row = await stateEntry(reader, room.id, { type, key }, { after, upTo: timeline.start });
    if (row !== undefined) state.set(place, row);
  }

  const renamed = changes.some(({ type }) => type === MEMBER || NAMES.some(([name]) => name === type));
  const summary =
    request.withSummary && (since === null || renamed) ? await loadSummary(reader, request) : undefined;
  if (lazy) await addWantedMembers(reader, request, { state, inTimeline, heroes: summary?.heroes ?? [] });

  const rows = allowsRoom(filter, room.room_id)
    ? [...state.values()].filter((row) =>
        allowsEvent(filter, { type: row.type, sender: row.sender, content: contentOf(row.json) }),
      )
    : [];
  if (lazy) {
    for (const row of [...rows, ...timeline.events]) if (row.type === MEMBER) request.sent.add(row.event_id);
  }
  return { state: rows, summary };
}

/** Adds the membership of those who are seen in the response, unless the client has it already. */
async function addWantedMembers(
  reader: Reader,
  request: StateRequest,
  {
    state,
    inTimeline,
    heroes,
  }: {
    readonly state: Map<StateKey, EventRow>;
    readonly inTimeline: ReadonlySet<StateKey>;
    readonly heroes: readonly string[];
  },
): Promise<void> {
  const { room, user, since, upTo, timeline, filter, sent } = request;
  const wanted = new Set([...timeline.events.map(({ sender }) => sender), ...heroes]);
  if (since === null) wanted.add(user);
  for (const member of wanted) {
    const place = stateKey(MEMBER, member);
    if (state.has(place)) continue;
    const at = inTimeline.has(place) ? timeline.start : upTo;
    const row = await stateEntry(reader, room.id, { type: MEMBER, key: member }, { after: 0, upTo: at });
    if (row === undefined) continue;
    const redundant = since !== null && !filter.includeRedundantMembers && sent.has(row.event_id);
    if (!redundant) state.set(place, row);
  }
}

/** State that names a room, and the key of its content that does. */
const NAMES = [
  ['m.room.name', 'name'],
  ['m.room.canonical_alias', 'alias'],
] as const;

async function loadSummary(reader: Reader, { room, user, upTo }: StateRequest): Promise<Summary> {
  const counts = await memberCounts(reader, room.room_id);
  for (const [type, key] of NAMES) {
    const row = await stateEntry(reader, room.id, { type, key: '' }, { after: 0, upTo });
    const content = row === undefined ? undefined : contentOf(row.json);
    const name = isJsonObject(content) ? own(content, key) : undefined;
    if (typeof name === 'string' && name !== '') return counts;
  }
  const present = await firstMembers(reader, room.room_id, { apartFrom: user, present: true, limit: HEROES });
  const heroes =
    present.length > 0
      ? present
      : await firstMembers(reader, room.room_id, { apartFrom: user, present: false, limit: HEROES });
  return { ...counts, heroes };
}

function placeOf(row: EventRow): StateKey[] {
  return row.state_key === null ? [] : [stateKey(row.type, row.state_key)];
}
