import { assert } from '../base/assert.ts';
import { type Clock, type Millis, sleep } from '../base/time.ts';
import { forbidden, invalidParam, notFound } from '../matrix/error.ts';
import type { EventId, RoomId } from '../matrix/ids.ts';
import type { JsonObject } from '../matrix/json.ts';
import { ignoredUsers } from '../storage/account_data.ts';
import {
  type BackwardExtremity,
  extremitiesIn,
  isBackwardExtremity,
} from '../storage/backward_extremities.ts';
import type { Reader } from '../storage/database.ts';
import { membershipOf } from '../storage/memberships.ts';
import {
  type Direction,
  type EventRow,
  eventByRow,
  eventsAround,
  type RoomRow,
  roomRow,
  stateEntry,
  stateGroupEntry,
  stateGroupState,
  streamPosition,
  timelineEvent,
} from '../storage/sync.ts';
import type { Requester } from './accounts.ts';
import { withAggregations } from './aggregations.ts';
import { allowsEvent, allowsRoom, parseRoomEventFilter, type RoomEventFilter } from './filter_events.ts';
import { historyVisibilityIn } from './history_visibility.ts';
import type { RemoteHistory } from './ports.ts';
import { Renderer } from './render.ts';
import { contentOf, MembershipHistory } from './sync/membership.ts';
import { pageOfEvents } from './sync/pagination.ts';
import {
  BEGINNING,
  delivered,
  formatPoint,
  type Point,
  parsePoint,
  pointAt,
  sameAgain,
} from './sync/token.ts';
import { Visibility } from './sync/visibility.ts';

/** Events in an answer where the client says nothing, as the specification has it, and at most. */
const DEFAULT_LIMIT = 10;
const MAX_LIMIT = 500;
/** Events looked at for one answer at most; beyond it the client has to ask again from there. */
const MAX_SCANNED = 2_000;
/** Batches of history that one answer asks other servers for, and how long it waits for them in all. */
const MAX_BATCHES = 4;
const FILL_WAIT_MS: Millis = 20_000;
/** Events before which one batch is asked for. */
const MAX_FILLED_FROM = 20;
/** Events read with one statement where they are looked for by time. */
const TIMED_BATCH = 50;

export interface MessagesRequest {
  readonly requester: Requester;
  readonly room: RoomId;
  readonly dir: Direction;
  readonly from?: string | undefined;
  readonly to?: string | undefined;
  readonly limit?: number | undefined;
  readonly filter: RoomEventFilter;
}

export interface ContextRequest {
  readonly requester: Requester;
  readonly room: RoomId;
  readonly event: EventId;
  readonly limit?: number | undefined;
  readonly filter: RoomEventFilter;
}

export interface PeekRequest {
  readonly requester: Requester;
  readonly room: RoomId;
  /** Left out: from now on. */
  readonly from?: string | undefined;
}

/** What happened in a room from a point on. */
export interface Peeked {
  readonly start: Point;
  readonly end: Point;
  readonly chunk: readonly JsonObject[];
  /** Whether there may be more behind `end` already. */
  readonly more: boolean;
}

export interface TimestampRequest {
  readonly requester: Requester;
  readonly room: RoomId;
  /** Unix time. */
  readonly time: Millis;
  readonly dir: Direction;
}

/** A room as one user may look into it. */
export interface View {
  readonly requester: Requester;
  readonly room: RoomRow;
  /** The stream's position when the request came: nothing behind it is looked at. */
  readonly now: number;
  readonly visibility: Visibility;
  readonly renderer: Renderer;
  /** Of whom the user sees nothing but state. */
  readonly ignored: ReadonlySet<string>;
  /** Whether they are, or were, joined, or everybody may look in. */
  readonly mayPage: boolean;
  /** Where looking back starts by itself. */
  readonly latest: Point;
}

type TimedRow = EventRow & { readonly origin_server_ts: Millis };

interface Range {
  readonly dir: Direction;
  readonly from: Point;
  readonly to: Point;
  readonly limit: number;
  readonly filter: RoomEventFilter;
}

interface Scan {
  readonly events: readonly EventRow[];
  /** The point behind the last event looked at, in the direction of the scan. */
  readonly end: Point;
  /** Whether there may be more beyond `end`. */
  readonly more: boolean;
}

/** A room's history: /messages, /context and single events (client-server API, "Getting events for a room"). */
export class Messages {
  readonly #reader: Reader;
  readonly #clock: Clock;
  readonly #remote: RemoteHistory | undefined;

  constructor(of: { readonly reader: Reader; readonly clock: Clock; readonly remote?: RemoteHistory }) {
    this.#reader = of.reader;
    this.#clock = of.clock;
    this.#remote = of.remote;
  }

  /**
   * One page of history, from a point in either direction. Tokens are those of /sync; the order is by stream position,
   * after what was backfilled, by depth: so that a gap that /sync left is closed exactly by paging from its
   * `prev_batch` to the last `next_batch`.
   * @throws MatrixError M_FORBIDDEN where the user never was in the room, M_INVALID_PARAM for a strange token
   */
  async messages(request: MessagesRequest): Promise<JsonObject> {
    const { dir, filter } = request;
    const view = await this.view(request.requester, request.room);
    if (view?.mayPage !== true) throw forbidden('You are not in the room.');
    const from = this.point(request.from, view) ?? (dir === 'b' ? view.latest : BEGINNING);
    const to = this.point(request.to, view) ?? (dir === 'b' ? BEGINNING : delivered(view.now));
    const limit = limitOf(request.limit ?? filter.limit);
    const range = { dir, from, to, limit, filter };
    const scan = dir === 'b' ? await this.#scanBack(view, range) : await this.#scan(view, range);

    const chunk = await this.bundled(view, scan.events);
    const body: JsonObject = { start: request.from ?? formatPoint(from), chunk };
    if (scan.more) {
      const end = formatPoint(scan.end);
      body.end = end === body.start ? sameAgain(end) : end;
    }
    const first = scan.events[0];
    if (filter.lazyLoadMembers && first !== undefined) {
      const members = await this.sendersOf(scan.events, first.state_after);
      body.state = await view.renderer.stateRows(request.room, members);
    }
    return body;
  }

  /**
   * What has happened in a room since a point, oldest first (client-server API, "Room Previews").
   * @throws MatrixError as `messages`
   */
  async peek({ requester, room, from }: PeekRequest): Promise<Peeked> {
    const view = await this.view(requester, room);
    if (view?.mayPage !== true) throw forbidden('You are not in the room.');
    const now = delivered(view.now);
    const start = this.point(from, view) ?? now;
    const scan = await this.#scan(view, {
      dir: 'f',
      from: start,
      to: now,
      limit: MAX_LIMIT,
      filter: wholeFilter(),
    });
    const chunk = await view.renderer.timelineEvents(room, scan.events, view.visibility);
    return { start, chunk, more: scan.more, end: scan.more ? scan.end : now };
  }

  /**
   * The event that is closest to a time in a direction of time, among those that the user may see. Where a gap in what is
   * known of the room is between, another server may know a closer one.
   * @throws MatrixError M_FORBIDDEN, M_NOT_FOUND
   */
  async closest({ requester, room, time, dir }: TimestampRequest): Promise<JsonObject> {
    const view = await this.view(requester, room);
    if (view?.mayPage !== true) throw forbidden('You are not in the room.');
    const here = await this.#closestHere(view, time, dir);
    // Whatever is missing is behind the event that names it: that one is just ahead of the time.
    const ahead = dir === 'f' ? here : await this.#closestHere(view, time, 'f');
    const isCut =
      here?.origin_server_ts !== time &&
      ahead !== undefined &&
      (await isBackwardExtremity(this.#reader, ahead.id));
    const there = isCut ? await this.#remote?.closest({ room, time, dir }) : undefined;
    const isCloser =
      there !== undefined &&
      (here === undefined || Math.abs(there.time - time) < Math.abs(here.origin_server_ts - time));
    if (isCloser && (await this.#isVisible(view, there.event)))
      return { event_id: there.event, origin_server_ts: there.time };
    if (here === undefined) throw notFound('There is no event on that side of that time.');
    return { event_id: here.event_id, origin_server_ts: here.origin_server_ts };
  }

  async #isVisible(view: View, event: EventId): Promise<boolean> {
    const row = await timelineEvent(this.#reader, view.room.id, event);
    return row !== undefined && (await view.visibility.allows(row));
  }

  async #closestHere(view: View, time: Millis, dir: Direction): Promise<TimedRow | undefined> {
    // Rows are above 0, so that what is of that very time counts in either direction.
    let from = { time, row: dir === 'f' ? 0 : Number.MAX_SAFE_INTEGER };
    for (let scanned = 0; scanned < MAX_SCANNED; scanned += TIMED_BATCH) {
      const rows = await eventsAround(this.#reader, view.room.id, dir, { ...from, limit: TIMED_BATCH });
      for (const row of rows) if (await view.visibility.allows(row)) return row;
      const last = rows.at(-1);
      if (last === undefined) return undefined;
      from = { time: last.origin_server_ts, row: last.id };
    }
    return undefined;
  }

  /** One event. @throws MatrixError M_NOT_FOUND where it is not there or the user may not see it */
  async event(requester: Requester, room: RoomId, event: EventId): Promise<JsonObject> {
    const { view, row } = await this.visibleEvent(requester, room, event);
    return (await this.bundled(view, [row]))[0]!;
  }

  /** An event with what came just before and after it. @throws MatrixError M_NOT_FOUND as `event` */
  async context(request: ContextRequest): Promise<JsonObject> {
    const { filter } = request;
    const { view, row } = await this.visibleEvent(request.requester, request.room, request.event);
    const limit = limitOf(request.limit ?? filter.limit);
    const { before, after, all } = await this.around(view, row, filter, {
      before: Math.floor(limit / 2),
      after: Math.ceil(limit / 2),
    });
    const { state_after } = all.at(-1)!;
    const render = (rows: readonly EventRow[]): Promise<JsonObject[]> => this.bundled(view, rows);
    const state =
      state_after === null ? [] : await stateGroupState(this.#reader, state_after, !filter.lazyLoadMembers);
    if (filter.lazyLoadMembers) state.push(...(await this.sendersOf(all, state_after)));
    return {
      start: formatPoint(before.end),
      end: formatPoint(after.end),
      event: (await render([row]))[0]!,
      events_before: await render(before.events),
      events_after: await render(after.events),
      state: await view.renderer.stateRows(
        request.room,
        state.filter((each) => passes(filter, view, each)),
      ),
    };
  }

  /**
   * What came just before and after an event.
   * @param most events on each side
   * @returns `all`: oldest first, with the event itself
   */
  async around(
    view: View,
    row: EventRow,
    filter: RoomEventFilter,
    most: { readonly before: number; readonly after: number },
  ): Promise<{ readonly before: Scan; readonly after: Scan; readonly all: readonly EventRow[] }> {
    const before = await this.#scan(view, {
      ...{ dir: 'b', from: pointAt(row, -1), to: BEGINNING, limit: most.before, filter },
    });
    const after = await this.#scan(view, {
      ...{ dir: 'f', from: pointAt(row, 0), to: delivered(view.now), limit: most.after, filter },
    });
    return { before, after, all: [...before.events.toReversed(), row, ...after.events] };
  }

  /** @throws MatrixError M_NOT_FOUND where the event is not there or the user may not see it */
  async visibleEvent(
    requester: Requester,
    room: RoomId,
    event: EventId,
  ): Promise<{ readonly view: View; readonly row: EventRow }> {
    const view = await this.view(requester, room);
    const row = view === undefined ? undefined : await timelineEvent(this.#reader, view.room.id, event);
    if (view === undefined || row === undefined || !(await view.visibility.allows(row)))
      throw notFound('There is no such event, or you may not see it.');
    return { view, row };
  }

  /** A room as a user may look into it; undefined where it is not known here, or the user has forgotten it. */
  async view(requester: Requester, roomId: RoomId): Promise<View | undefined> {
    const now = await streamPosition(this.#reader);
    const room = await roomRow(this.#reader, roomId);
    if (room === undefined) return undefined;
    if ((await membershipOf(this.#reader, roomId, requester.user))?.forgotten === true) return undefined;
    const { joinedUntil } = await MembershipHistory.load(this.#reader, room.id, requester.user, now);
    const place = { type: 'm.room.history_visibility', key: '' };
    const setting = await stateEntry(this.#reader, room.id, place, { after: 0, upTo: now });
    const worldReadable =
      setting !== undefined && historyVisibilityIn(contentOf(setting.json)) === 'world_readable';
    return {
      requester,
      room,
      now,
      visibility: new Visibility(this.#reader, requester.user, joinedUntil),
      renderer: new Renderer({ reader: this.#reader, clock: this.#clock, requester }),
      ignored: await ignoredUsers(this.#reader, requester.user),
      mayPage: joinedUntil > 0 || worldReadable,
      latest: delivered(worldReadable ? now : Math.min(now, joinedUntil)),
    };
  }

  /** Where a token of the client's points to. @throws MatrixError M_INVALID_PARAM where it is none of ours */
  point(token: string | undefined, view: View): Point | undefined {
    if (token === undefined) return undefined;
    const point = parsePoint(token);
    if (point === undefined || (point.kind === 'delivered' && point.position > view.now))
      throw invalidParam('The token is not one of this server.');
    return point;
  }

  /**
   * `#scan` backwards, with what is missing on the way brought from other servers. Nothing from behind a place where more is
   * about to come is told, so that whoever goes on from `end` gets it; what nobody can be asked for is passed over.
   */
  async #scanBack(view: View, range: Range): Promise<Scan> {
    const deadline = this.#clock.monotonic() + FILL_WAIT_MS;
    const remote = this.#remote;
    for (let batch = 0; ; batch++) {
      const scan = await this.#scan(view, range);
      const missing = remote === undefined ? [] : await this.#missingIn(view, range, scan);
      const deepest = missing[0];
      if (remote === undefined || deepest === undefined) return scan;
      const waitMs = deadline - this.#clock.monotonic();
      const isTimeLeft = batch < MAX_BATCHES && waitMs > 0;
      const filled = isTimeLeft
        ? await within(
            this.#clock,
            waitMs,
            remote.backfill(
              view.room.room_id as RoomId,
              missing.map(({ id }) => id),
            ),
          )
        : undefined;
      if (filled === false) return scan;
      if (filled === undefined) {
        const to = later({ kind: 'historic', depth: deepest.depth, id: 0 }, range.to);
        const cut = await this.#scan(view, { ...range, to });
        return cut.more ? cut : { ...cut, end: to, more: true };
      }
    }
  }

  /** The deepest events among those scanned before which history is missing that the user could see. */
  async #missingIn(view: View, { from, to }: Range, scan: Scan): Promise<readonly BackwardExtremity[]> {
    const reached = scan.more ? scan.end : to;
    // What is brought comes behind everything that was delivered.
    if (reached.kind === 'delivered') return [];
    const upTo = from.kind === 'historic' ? from.depth : Number.MAX_SAFE_INTEGER;
    const range = { after: reached.depth, upTo, limit: MAX_FILLED_FROM };
    const visible: BackwardExtremity[] = [];
    for (const one of await extremitiesIn(this.#reader, view.room.id, range)) {
      if (this.#remote?.isHopeless(one.id)) continue;
      const row = await eventByRow(this.#reader, one.row);
      if (row !== undefined && (await view.visibility.allowsBefore(row))) visible.push(one);
    }
    return visible;
  }

  /** Events as clients get them, with what is known of their children. */
  bundled(view: View, rows: readonly EventRow[]): Promise<JsonObject[]> {
    const { visibility, renderer, ignored } = view;
    const { user } = view.requester;
    const room = view.room.room_id as RoomId;
    return withAggregations(this.#reader, { room, user, visibility, renderer, ignored, rows });
  }

  /** The first `limit` events between two points that pass the filter and that the user may see. */
  async #scan(view: View, range: Range): Promise<Scan> {
    const { dir, to, limit, filter } = range;
    const events: EventRow[] = [];
    let end = range.from;
    for (let scanned = 0; scanned < MAX_SCANNED; ) {
      const rows = await pageOfEvents(this.#reader, view.room.id, { dir, from: end, to });
      if (rows.length === 0) return { events, end, more: false };
      for (const row of rows) {
        const shown = passes(filter, view, row) && (await view.visibility.allows(row));
        // The one too many shows that there is more.
        if (shown && events.length === limit) return { events, end, more: true };
        if (shown) events.push(row);
        end = pointAt(row, dir === 'b' ? -1 : 0);
      }
      scanned += rows.length;
    }
    return { events, end, more: true };
  }

  /** The membership events of those who sent `events`, as a state group has them. */
  async sendersOf(events: readonly EventRow[], group: number | null): Promise<EventRow[]> {
    if (group === null) return [];
    const members: EventRow[] = [];
    for (const sender of new Set(events.map((row) => row.sender))) {
      const member = await stateGroupEntry(this.#reader, group, 'm.room.member', sender);
      if (member !== undefined) members.push(member);
    }
    return members;
  }
}

function passes(filter: RoomEventFilter, view: View, row: EventRow): boolean {
  const content = contentOf(row.json);
  return (
    allowsRoom(filter, view.room.room_id) &&
    (row.state_key !== null || !view.ignored.has(row.sender)) &&
    allowsEvent(filter, { type: row.type, sender: row.sender, content })
  );
}

/** What comes of a promise within a time; undefined where nothing does. */
async function within<T>(clock: Clock, waitMs: Millis, outcome: Promise<T>): Promise<T | undefined> {
  const decided = new AbortController();
  try {
    return await Promise.race([outcome, sleep(clock, waitMs, decided.signal).then(() => undefined)]);
  } finally {
    decided.abort();
  }
}

/** Of two points in what was never delivered, the one further on; where one is elsewhere, the first. */
const later = (a: Point & { kind: 'historic' }, b: Point): Point =>
  b.kind === 'historic' && (b.depth > a.depth || (b.depth === a.depth && b.id > a.id)) ? b : a;

/** The filter that leaves nothing out. */
export function wholeFilter(): RoomEventFilter {
  const filter = parseRoomEventFilter(undefined);
  assert(filter.ok, 'a filter that says nothing is one');
  return filter.value;
}

const limitOf = (asked: number | undefined): number => Math.min(asked ?? DEFAULT_LIMIT, MAX_LIMIT);
