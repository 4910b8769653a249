import type { Clock, Millis } from '../../base/time.ts';
import { invalidParam } from '../../matrix/error.ts';
import type { RoomId, UserId } from '../../matrix/ids.ts';
import type { JsonObject } from '../../matrix/json.ts';
import type { Reader } from '../../storage/database.ts';
import { type SyncRoomRow, syncRooms } from '../../storage/sync.ts';
import type { Requester } from '../accounts.ts';
import { allowsRoom, parseSyncFilter, type SyncFilter } from '../filter_events.ts';
import type { Notifier } from '../notifier.ts';
import { strippedStateFor } from './invitation.ts';
import { RoomSections, type SectionRequest } from './room_sections.ts';
import { SentMembers } from './sent_members.ts';
import { delivered, formatPoint, parsePoint } from './token.ts';

/** The longest that a sync waits, whatever the client asks for. */
const MAX_TIMEOUT_MS = 120_000;

/** Where filters are kept that clients refer to by id. */
export interface FilterSource {
  /** The filter as the user posted it, or undefined where there is none. */
  get(user: UserId, filterId: string): Promise<JsonObject | undefined>;
}

/** GET /sync (client-server API, "Syncing"). */
export interface SyncRequest {
  readonly requester: Requester;
  /** A `next_batch`; undefined on a first sync. */
  readonly since?: string | undefined;
  /** How long to wait where there is nothing to tell; cut to 0..120 s. */
  readonly timeoutMs: Millis;
  /** A filter's id, or a filter as JSON. */
  readonly filter?: string | undefined;
  readonly fullState?: boolean;
  readonly useStateAfter?: boolean;
  /** Ends the wait when the client hangs up. */
  readonly signal?: AbortSignal | undefined;
}

interface Answer {
  readonly body: JsonObject;
  readonly now: number;
  readonly empty: boolean;
  readonly joined: readonly RoomId[];
}

/** Tells clients what is new. Reads only; what it tells was committed before. */
export class Sync {
  readonly #reader: Reader;
  readonly #clock: Clock;
  readonly #notifier: Notifier;
  readonly #filters: FilterSource;
  readonly #sections: RoomSections;
  readonly #sentMembers = new SentMembers();

  constructor(of: {
    readonly reader: Reader;
    readonly clock: Clock;
    readonly notifier: Notifier;
    readonly filters: FilterSource;
  }) {
    this.#reader = of.reader;
    this.#clock = of.clock;
    this.#notifier = of.notifier;
    this.#filters = of.filters;
    this.#sections = new RoomSections(of.reader, of.clock);
  }

  /**
   * Answers at once on a first sync, with `fullState`, or where there is something to tell; else waits for it.
   * @throws MatrixError M_INVALID_PARAM where the token or the filter is not one of ours
   */
  async sync(request: SyncRequest): Promise<JsonObject> {
    const { requester, signal } = request;
    const filter = await this.#filter(requester.user, request.filter);
    const since = request.since === undefined ? undefined : positionOf(request.since);
    const sent = this.#sentMembers.round(requester, since);
    const timeoutMs = Math.min(Math.max(request.timeoutMs, 0), MAX_TIMEOUT_MS);
    const waits = since !== undefined && request.fullState !== true;
    const end = this.#clock.monotonic() + timeoutMs;

    // Where nothing was to be told up to a position, the next look starts there.
    for (let from = since; ; ) {
      const answer = await this.#answer(request, { since: from, filter, sent });
      const left = end - this.#clock.monotonic();
      if (!answer.empty || !waits || left <= 0) {
        sent.answered(answer.now);
        return answer.body;
      }
      const outcome = await this.#notifier.wait({
        user: requester.user,
        rooms: answer.joined,
        after: answer.now,
        timeoutMs: left,
        signal,
      });
      if (outcome === 'aborted') return answer.body;
      from = answer.now;
    }
  }

  async #filter(user: UserId, given: string | undefined): Promise<SyncFilter> {
    const json = given === undefined ? {} : await this.#filterJson(user, given);
    const filter = parseSyncFilter(json);
    if (!filter.ok) throw invalidParam(`The filter cannot be used: ${filter.problem}.`);
    return filter.value;
  }

  async #filterJson(user: UserId, given: string): Promise<JsonObject> {
    if (given.startsWith('{')) {
      try {
        return JSON.parse(given) as JsonObject;
      } catch {
        throw invalidParam('The filter is not JSON.');
      }
    }
    const filter = await this.#filters.get(user, given);
    if (filter === undefined) throw invalidParam('There is no filter with that id.');
    return filter;
  }

  async #answer(
    request: SyncRequest,
    given: Pick<SectionRequest, 'since' | 'filter' | 'sent'>,
  ): Promise<Answer> {
    const { requester } = request;
    const { now, rooms } = await syncRooms(this.#reader, requester.user);
    if (given.since !== undefined && given.since > now) throw invalidParam('The token is from the future.');
    const section: SectionRequest = {
      requester,
      now,
      ...given,
      fullState: request.fullState ?? false,
      useStateAfter: request.useStateAfter ?? false,
    };
    const told = {
      join: {} as JsonObject,
      invite: {} as JsonObject,
      knock: {} as JsonObject,
      leave: {} as JsonObject,
    };
    const joined: RoomId[] = [];
    for (const row of rooms) {
      if (row.membership === 'join') joined.push(row.room_id as RoomId);
      if (!allowsRoom(given.filter, row.room_id)) continue;
      const place = await this.#room(row, section);
      if (place !== undefined) told[place.kind][row.room_id] = place.body;
    }
    return {
      body: {
        next_batch: formatPoint(delivered(now)),
        rooms: told,
        account_data: { events: [] },
        presence: { events: [] },
        to_device: { events: [] },
        device_lists: { changed: [], left: [] },
        device_one_time_keys_count: {},
      },
      now,
      empty: Object.values(told).every((part) => Object.keys(part).length === 0),
      joined,
    };
  }

  async #room(
    row: SyncRoomRow,
    request: SectionRequest,
  ): Promise<{ kind: 'join' | 'invite' | 'knock' | 'leave'; body: JsonObject } | undefined> {
    const { since, fullState, filter } = request;
    const changed = since !== undefined && row.position > since;
    const everything = since === undefined || fullState;
    if (row.membership === 'join') {
      if (!hasRoom(row)) return undefined;
      const body = await this.#sections.joined(row, request);
      return body === undefined ? undefined : { kind: 'join', body };
    }
    if (row.membership === 'invite' || row.membership === 'knock') {
      if (!changed && !everything) return undefined;
      const events = await strippedStateFor(this.#reader, row, request.requester.user);
      return { kind: row.membership, body: { [`${row.membership}_state`]: { events } } };
    }
    // That a room was left is told even where it was forgotten at once: other devices would show it for ever.
    if (!changed && !(everything && filter.includeLeave && row.forgotten === 0)) return undefined;
    return { kind: 'leave', body: await this.#sections.left(row, request) };
  }
}

const hasRoom = (row: SyncRoomRow): row is SyncRoomRow & { readonly room: number } => row.room !== null;

function positionOf(token: string): number {
  const point = parsePoint(token);
  if (point?.kind !== 'delivered') throw invalidParam('The token is not one of a sync.');
  return point.position;
}
