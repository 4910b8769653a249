import type { Clock } from '../../base/time.ts';
import type { EventId, RoomId } from '../../matrix/ids.ts';
import { type JsonObject, parseJson } from '../../matrix/json.ts';
import type { Pdu } from '../../matrix/pdu.ts';
import { type AccountDataRow, accountDataChanges } from '../../storage/account_data.ts';
import type { Reader } from '../../storage/database.ts';
import {
  hasChangedUnread,
  MAIN_TIMELINE,
  type UnreadCount,
  unreadCounts,
} from '../../storage/push_notifications.ts';
import { eventById, type SyncRoomRow } from '../../storage/sync.ts';
import type { Requester } from '../accounts.ts';
import { withAggregations } from '../aggregations.ts';
import { allowsEvent, allowsRoom, type RoomEventFilter, type SyncFilter } from '../filter_events.ts';
import { Renderer, withoutRoom } from '../render.ts';
import { loadEphemeral } from './ephemeral.ts';
import { shaped } from './event_shape.ts';
import { MembershipHistory } from './membership.ts';
import { loadState, type Summary } from './room_state.ts';
import type { SentRound } from './sent_members.ts';
import { loadTimeline, type Timeline } from './timeline.ts';
import { delivered, formatPoint } from './token.ts';
import { Visibility } from './visibility.ts';

/** What one sync asks of every room. */
export interface SectionRequest {
  readonly requester: Requester;
  /** The position that the client has; undefined on a first sync. */
  readonly since: number | undefined;
  /** The position that it will have. */
  readonly now: number;
  readonly filter: SyncFilter;
  readonly fullState: boolean;
  readonly useStateAfter: boolean;
  readonly sent: SentRound;
  /** Users of whom nothing is told but state. */
  readonly ignored: ReadonlySet<string>;
  /** Whether the user is told of no invites (client-server API, "Invite permission"). */
  readonly blocksInvites: boolean;
}

/** A stretch of a room's history and what the client knows of its state. */
interface Stretch {
  readonly room: { readonly id: number; readonly room_id: string };
  readonly after: number;
  readonly upTo: number;
  /** Null: the whole state is sent. */
  readonly knownSince: number | null;
  readonly joinedUntil: number;
  readonly withSummary: boolean;
}

interface Section {
  readonly timeline: Timeline;
  readonly body: JsonObject;
  readonly empty: boolean;
}

/** Builds what /sync says of one room that the user is, or was, joined to. */
export class RoomSections {
  readonly #reader: Reader;
  readonly #clock: Clock;

  constructor(reader: Reader, clock: Clock) {
    this.#reader = reader;
    this.#clock = clock;
  }

  /** A room that the user is joined to at `now`; undefined where there is nothing to tell. */
  async joined(
    row: SyncRoomRow & { readonly room: number },
    request: SectionRequest,
  ): Promise<JsonObject | undefined> {
    const { since, now } = request;
    const seen = since ?? -1;
    if (!request.fullState && lastChange(row) <= seen) return undefined;

    const history =
      since === undefined || row.position <= since
        ? undefined
        : await MembershipHistory.load(this.#reader, row.room, request.requester.user, now);
    const newly = history !== undefined && !history.joinedAt(since!);
    const section = await this.#section(
      {
        room: { id: row.room, room_id: row.room_id },
        // Somebody who comes back has seen what was before they left.
        after: newly ? history.departure(since!) : (since ?? 0),
        upTo: now,
        knownSince: newly || request.fullState ? null : (since ?? null),
        joinedUntil: Number.POSITIVE_INFINITY,
        withSummary: true,
      },
      request,
    );
    const { filter, ignored, requester } = request;
    const known = newly ? null : (since ?? null);
    const ephemeral = await loadEphemeral(this.#reader, {
      room: row.room_id,
      user: requester.user,
      filter: filter.ephemeral,
      ignored,
      since: known,
      upTo: now,
    });
    const data = await this.#accountData(row.room_id, known, request);
    const nothing = section.empty && ephemeral.length === 0 && data.length === 0;
    if (nothing && !newly && !request.fullState && since !== undefined) {
      if (!(await hasChangedUnread(this.#reader, requester.user, row.room_id, since))) return undefined;
    }
    if (newly) markLimited(section);
    return {
      ...section.body,
      ephemeral: { events: ephemeral },
      account_data: { events: data },
      ...unreadParts(
        await unreadCounts(this.#reader, requester.user, row.room_id),
        filter.unreadThreadNotifications,
      ),
    };
  }

  /** A room that the user has left, was banned from, or whose invite came to nothing. */
  async left(row: SyncRoomRow, request: SectionRequest): Promise<JsonObject> {
    const { since } = request;
    const history =
      row.room === null || row.event_json !== null
        ? undefined
        : await MembershipHistory.load(this.#reader, row.room, request.requester.user, request.now);
    const departure = history?.departure(request.now) ?? 0;
    if (row.room === null || history === undefined || departure === 0) return this.#neverJoined(row, request);

    const wasJoined = since !== undefined && history.joinedAt(since);
    const newly = since !== undefined && !wasJoined && history.joinedSince(since);
    const section = await this.#section(
      {
        room: { id: row.room, room_id: row.room_id },
        after: newly ? history.departure(since) : (since ?? 0),
        upTo: departure,
        knownSince: newly || request.fullState ? null : (since ?? null),
        joinedUntil: departure,
        withSummary: false,
      },
      request,
    );
    // A ban after the leave is not part of what they may see, but it is theirs. What lies between is a gap; where an
    // invite in between hid the leave from them, its end too.
    const later = row.position > departure;
    if (newly || later) markLimited(section);
    if (later) await this.#appendMembership(section.body, row, request);
    const data = await this.#accountData(row.room_id, newly ? null : (since ?? null), request);
    return { ...section.body, account_data: { events: data } };
  }

  async #section(stretch: Stretch, request: SectionRequest): Promise<Section> {
    const { room, upTo } = stretch;
    const { requester, filter, useStateAfter } = request;
    const visibility = new Visibility(this.#reader, requester.user, stretch.joinedUntil);
    const timeline = await loadTimeline(this.#reader, room, {
      ...{ range: stretch, filter: filter.timeline, visibility, ignored: request.ignored },
    });
    const { state, summary } = await loadState(this.#reader, {
      room,
      user: requester.user,
      since: stretch.knownSince,
      upTo,
      timeline,
      stateAfter: useStateAfter,
      withSummary: stretch.withSummary,
      filter: filter.state,
      sent: request.sent,
    });

    const renderer = new Renderer({ reader: this.#reader, clock: this.#clock, requester });
    const roomId = room.room_id as RoomId;
    const { user } = requester;
    const shown = timeline.limited
      ? await withAggregations(this.#reader, {
          ...{ room: roomId, user, visibility, renderer, ignored: request.ignored },
          rows: timeline.events,
        })
      : await renderer.timelineEvents(roomId, timeline.events, visibility);
    const events = shaped(shown, timeline.events, filter).map(withoutRoom);
    const stateEvents = shaped(await renderer.stateRows(roomId, state), state, filter).map(withoutRoom);
    return {
      timeline,
      body: {
        ...(summary === undefined ? {} : { summary: summaryBody(summary) }),
        [useStateAfter ? 'state_after' : 'state']: { events: stateEvents },
        timeline: {
          events,
          limited: timeline.limited,
          prev_batch: formatPoint(delivered(timeline.start)),
        },
      },
      empty: events.length === 0 && stateEvents.length === 0 && summary === undefined && !timeline.limited,
    };
  }

  /** The user's own data of a room, where it changed after a position; null: all of it. */
  async #accountData(room: string, since: number | null, request: SectionRequest): Promise<JsonObject[]> {
    const { requester, now, filter } = request;
    if (!allowsRoom(filter.roomAccountData, room)) return [];
    const range = { after: since ?? 0, upTo: now };
    const rows = await accountDataChanges(this.#reader, requester.user, room, range);
    return accountDataEvents(rows, requester.user, filter.roomAccountData);
  }

  async #neverJoined(row: SyncRoomRow, request: SectionRequest): Promise<JsonObject> {
    const body: JsonObject = {
      [request.useStateAfter ? 'state_after' : 'state']: { events: [] },
      timeline: { events: [], limited: false },
      account_data: { events: [] },
    };
    await this.#appendMembership(body, row, request);
    return body;
  }

  /** Puts the user's own membership event, as it is now, at the end of a timeline. */
  async #appendMembership(body: JsonObject, row: SyncRoomRow, { requester }: SectionRequest): Promise<void> {
    const json = row.event_json ?? (await eventById(this.#reader, row.event_id))?.json;
    if (json === undefined) return;
    const pdu = parseJson(json) as unknown as Pdu;
    const event = { id: row.event_id as EventId, room: row.room_id as RoomId, pdu };
    const renderer = new Renderer({ reader: this.#reader, clock: this.#clock, requester });
    const shown = (await renderer.stateEvents([{ event, redactedBy: null }])).map(withoutRoom);
    for (const part of ['timeline', 'state_after']) {
      const { events } = (body[part] ?? {}) as { events?: JsonObject[] };
      events?.push(...shown);
    }
  }
}

/** The position of the newest thing that a joined room may have to be told for. */
const lastChange = (row: SyncRoomRow): number =>
  Math.max(row.last_event ?? 0, row.last_change ?? 0, row.position, row.last_ephemeral, row.last_data ?? 0);

/** Account data as /sync tells it, as far as a filter lets it through. */
export function accountDataEvents(
  rows: readonly AccountDataRow[],
  user: string,
  filter: RoomEventFilter,
): JsonObject[] {
  return rows
    .map(({ type, content }) => ({ type, content: JSON.parse(content) as JsonObject }))
    .filter(({ type, content }) => allowsEvent(filter, { type, sender: user, content }));
}

/**
 * What happened while the user was away may not all be known here yet, and a client may not have what it was sent
 * before; so the timeline of somebody who comes, or comes back, counts as cut off unless it starts with the room.
 */
function markLimited({ timeline, body }: Section): void {
  if (timeline.events[0]?.type === 'm.room.create') return;
  (body.timeline as JsonObject).limited = true;
}

/** Client-server API, GET /sync: threads are apart from the main timeline where a client asks for them. */
function unreadParts(counts: readonly UnreadCount[], isByThread: boolean): JsonObject {
  const [main, threads] = [
    counts.filter(({ thread }) => !isByThread || thread === MAIN_TIMELINE),
    counts.filter(({ thread }) => isByThread && thread !== MAIN_TIMELINE),
  ];
  const total = (of: 'highlights' | 'notifications'): number =>
    main.reduce((sum, count) => sum + count[of], 0);
  return {
    unread_notifications: {
      highlight_count: total('highlights'),
      notification_count: total('notifications'),
    },
    ...(isByThread && {
      unread_thread_notifications: Object.fromEntries(
        threads.map(({ thread, highlights, notifications }) => [
          thread,
          { highlight_count: highlights, notification_count: notifications },
        ]),
      ),
    }),
  };
}

function summaryBody({ heroes, joined, invited }: Summary): JsonObject {
  return {
    ...(heroes === undefined ? {} : { 'm.heroes': [...heroes] }),
    'm.joined_member_count': joined,
    'm.invited_member_count': invited,
  };
}
