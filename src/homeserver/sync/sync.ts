import type { Clock, Millis } from '../../base/time.ts';
import { invalidParam } from '../../matrix/error.ts';
import type { RoomId, UserId } from '../../matrix/ids.ts';
import type { JsonObject } from '../../matrix/json.ts';
import { type AccountDataRow, accountDataChanges, GLOBAL, ignoredUsers } from '../../storage/account_data.ts';
import type { Reader } from '../../storage/database.ts';
import type { PresenceState } from '../../storage/presence.ts';
import { eventById, type SyncRoomRow, streamPosition, syncRooms } from '../../storage/sync.ts';
import type { Requester } from '../accounts.ts';
import { allowsRoom, parseSyncFilter, type SyncFilter } from '../filter_events.ts';
import { blocksInvites } from '../invite_permission.ts';
import { type DeviceListChanges, deviceListChanges } from '../keys/device_list_changes.ts';
import type { Notifier } from '../notifier.ts';
import type { Presence } from '../presence.ts';
import { PUSH_RULES, pushRulesContent } from '../push/push_rules.ts';
import type { ToDevice } from '../to_device.ts';
import { strippedStateFor } from './invitation.ts';
import { loadKeys } from './keys.ts';
import { loadPresence } from './presence.ts';
import { accountDataEvents, RoomSections, type SectionRequest } from './room_sections.ts';
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
  /** What the device is while it syncs; left out: online. */
  readonly setPresence?: PresenceState | undefined;
  /** Whether the client knows the predefined push rules, so that they are told only where the user has others. */
  readonly knowsPushRules?: boolean;
  /** Ends the wait when the client hangs up. */
  readonly signal?: AbortSignal | undefined;
}

const KINDS = ['join', 'invite', 'knock', 'leave'] as const;
type Kind = (typeof KINDS)[number];

/** What one request is answered from. */
interface Look {
  readonly section: SectionRequest;
  /** All rooms of the user. */
  readonly rooms: readonly SyncRoomRow[];
  /** Everything but the rooms. */
  readonly top: JsonObject;
  /** Whether that tells anything. */
  readonly isTopEmpty: boolean;
}

interface Told {
  readonly kind: Kind;
  readonly room: string;
  readonly body: JsonObject;
}

/**
 * Tells clients what is new. Reads only, but that a device's inbox is emptied of what its position says that it has; what it
 * tells was committed before.
 */
export class Sync {
  readonly #reader: Reader;
  readonly #clock: Clock;
  readonly #notifier: Notifier;
  readonly #filters: FilterSource;
  readonly #presence: Presence | undefined;
  readonly #toDevice: Pick<ToDevice, 'events' | 'acknowledge'> | undefined;
  readonly #turn: (() => Promise<void>) | undefined;
  readonly #sections: RoomSections;
  readonly #sentMembers = new SentMembers();

  /**
   * @param of.presence left out: nobody's is told
   * @param of.toDevice left out: no messages to devices are told
   * @param of.turn lets others have their turn between two rooms; left out: all are read at one go
   */
  constructor(of: {
    readonly reader: Reader;
    readonly clock: Clock;
    readonly notifier: Notifier;
    readonly filters: FilterSource;
    readonly presence?: Presence;
    readonly toDevice?: Pick<ToDevice, 'events' | 'acknowledge'>;
    readonly turn?: (() => Promise<void>) | undefined;
  }) {
    this.#reader = of.reader;
    this.#clock = of.clock;
    this.#notifier = of.notifier;
    this.#filters = of.filters;
    this.#presence = of.presence;
    this.#toDevice = of.toDevice;
    this.#turn = of.turn;
    this.#sections = new RoomSections(of.reader, of.clock);
  }

  /**
   * Answers at once on a first sync, with `fullState`, or where there is something to tell; else waits for it.
   * @throws MatrixError M_INVALID_PARAM where the token or the filter is not one of ours
   */
  async sync(request: SyncRequest): Promise<JsonObject> {
    const { requester, signal } = request;
    const { filter, since } = await this.#parsed(request);
    const sent = this.#sentMembers.round(requester, since);
    const timeoutMs = Math.min(Math.max(request.timeoutMs, 0), MAX_TIMEOUT_MS);
    const waits = since !== undefined && request.fullState !== true;
    const end = this.#clock.monotonic() + timeoutMs;
    const synced = this.#presence?.syncing(requester, request.setPresence ?? 'online');
    try {
      // Where nothing was to be told up to a position, the next look starts there.
      for (let from = since; ; ) {
        const look = await this.#look(request, { since: from, filter, sent });
        const rooms = emptyRooms();
        for await (const { kind, room, body } of this.#told(look)) rooms[kind][room] = body;
        const { now } = look.section;
        const isEmpty = look.isTopEmpty && KINDS.every((kind) => Object.keys(rooms[kind]).length === 0);
        const left = end - this.#clock.monotonic();
        if (!isEmpty || !waits || left <= 0) {
          sent.answered(now);
          return { ...look.top, rooms };
        }
        const outcome = await this.#notifier.wait({
          user: requester.user,
          rooms: joinedRooms(look.rooms),
          after: now,
          timeoutMs: left,
          signal,
        });
        if (outcome === 'aborted') return { ...look.top, rooms };
        from = now;
      }
    } finally {
      synced?.();
    }
  }

  /**
   * The JSON text of an answer that does not wait, in pieces, each made when it is asked for: so that of a first sync no
   * more than one room is in memory.
   * @throws MatrixError as `sync`, before the first piece
   */
  async streamed(request: SyncRequest): Promise<AsyncIterable<string>> {
    const { filter, since } = await this.#parsed(request);
    const sent = this.#sentMembers.round(request.requester, since);
    const look = await this.#look(request, { since, filter, sent });
    return this.#pieces(request, look, () => sent.answered(look.section.now));
  }

  async *#pieces(request: SyncRequest, look: Look, done: () => void): AsyncGenerator<string> {
    const synced = this.#presence?.syncing(request.requester, request.setPresence ?? 'online');
    try {
      const top = JSON.stringify(look.top);
      yield `${top.slice(0, -1)},"rooms":{"${KINDS[0]}":{`;
      let [open]: readonly Kind[] = KINDS;
      let separator = '';
      const upTo = (kind: Kind): string => {
        let text = '';
        for (; open !== kind; separator = '') {
          open = KINDS[KINDS.indexOf(open!) + 1];
          text += `},"${open}":{`;
        }
        return text;
      };
      for await (const { kind, room, body } of this.#told(look)) {
        const before = upTo(kind);
        yield `${before}${separator}${JSON.stringify(room)}:${JSON.stringify(body)}`;
        separator = ',';
      }
      yield `${upTo('leave')}}}}`;
      done();
    } finally {
      synced?.();
    }
  }

  /**
   * Whose keys a user has to ask for again (client-server API, "Tracking the device list for a user").
   * @param from a `next_batch` @param to a later one: it has to be one, and what happened behind it is told as well
   * @throws MatrixError M_INVALID_PARAM where a token is not one of ours
   */
  async deviceLists({ user }: Requester, from: string, to: string): Promise<DeviceListChanges> {
    const [after, end] = [positionOf(from), positionOf(to)];
    const { now, rooms } = await syncRooms(this.#reader, user);
    if (Math.max(after, end) > now) throw invalidParam('The token is from the future.');
    return deviceListChanges(this.#reader, rooms, { viewer: user, after, upTo: now });
  }

  async #parsed(
    request: SyncRequest,
  ): Promise<{ readonly filter: SyncFilter; readonly since: number | undefined }> {
    const filter = await this.#filter(request.requester.user, request.filter);
    if (request.since === undefined) return { filter, since: undefined };
    const since = positionOf(request.since);
    if (since > (await streamPosition(this.#reader))) throw invalidParam('The token is from the future.');
    await this.#toDevice?.acknowledge(request.requester, since);
    return { filter, since };
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

  async #look(request: SyncRequest, given: Pick<SectionRequest, 'since' | 'filter' | 'sent'>): Promise<Look> {
    const { requester } = request;
    const { user } = requester;
    const { since, filter } = given;
    const { now, rooms } = await syncRooms(this.#reader, user);
    const ignored = await ignoredUsers(this.#reader, user);
    const range = { after: since ?? 0, upTo: now };
    const data = await this.#globalData(user, range, request);
    const accountData = accountDataEvents(data, user, filter.accountData);
    const presence =
      this.#presence === undefined
        ? []
        : await loadPresence(this.#reader, this.#presence, rooms, { user, since, now, filter, ignored });
    const messages = (await this.#toDevice?.events(this.#reader, requester, range)) ?? [];
    const keys = await loadKeys(this.#reader, rooms, { requester, since, now });
    return {
      section: {
        requester,
        now,
        ...given,
        fullState: request.fullState ?? false,
        useStateAfter: request.useStateAfter ?? false,
        ignored,
        blocksInvites: await blocksInvites(this.#reader, user),
      },
      rooms,
      top: {
        next_batch: formatPoint(delivered(now)),
        account_data: { events: accountData },
        presence: { events: presence },
        to_device: { events: messages },
        ...keys.sections,
      },
      isTopEmpty: accountData.length + presence.length + messages.length === 0 && !keys.isNews,
    };
  }

  /** What changed of the user's data that belongs to no room; the push rules as a whole, which everybody has. */
  async #globalData(
    user: UserId,
    range: { readonly after: number; readonly upTo: number },
    { since, knowsPushRules }: SyncRequest,
  ): Promise<AccountDataRow[]> {
    const data = await accountDataChanges(this.#reader, user, GLOBAL, range);
    const rules = (stored: string | undefined): AccountDataRow => ({
      ...{ type: PUSH_RULES, content: JSON.stringify(pushRulesContent(user, stored)) },
    });
    const told = data.map((row) => (row.type === PUSH_RULES ? rules(row.content) : row));
    const isMissing = since === undefined && knowsPushRules !== true;
    return isMissing && !data.some(({ type }) => type === PUSH_RULES) ? [rules(undefined), ...told] : told;
  }

  /** What is told of rooms, in the order of `KINDS`. */
  async *#told({ rooms, section }: Look): AsyncGenerator<Told> {
    for (const kind of KINDS) {
      for (const row of rooms) {
        if (kindOf(row) !== kind || !allowsRoom(section.filter, row.room_id)) continue;
        const body = await this.#room(row, section);
        if (body === undefined) continue;
        yield { kind, room: row.room_id, body };
        await this.#turn?.();
      }
    }
  }

  async #room(row: SyncRoomRow, request: SectionRequest): Promise<JsonObject | undefined> {
    const { since, fullState, filter, ignored } = request;
    const changed = since !== undefined && row.position > since;
    const everything = since === undefined || fullState;
    if (row.membership === 'join') return hasRoom(row) ? this.#sections.joined(row, request) : undefined;
    if (row.membership === 'invite' || row.membership === 'knock') {
      if (!changed && !everything) return undefined;
      if (row.membership === 'invite' && request.blocksInvites) return undefined;
      if (row.membership === 'invite' && ignored.size > 0 && ignored.has(await this.#inviter(row)))
        return undefined;
      const events = await strippedStateFor(this.#reader, row, request.requester.user);
      return { [`${row.membership}_state`]: { events } };
    }
    // That a room was left is told even where it was forgotten at once: other devices would show it for ever.
    if (!changed && !(everything && filter.includeLeave && row.forgotten === 0)) return undefined;
    return this.#sections.left(row, request);
  }

  /** Who sent an invite. */
  async #inviter(row: SyncRoomRow): Promise<string> {
    const json = row.event_json ?? (await eventById(this.#reader, row.event_id))?.json;
    return json === undefined ? '' : String((JSON.parse(json) as JsonObject).sender);
  }
}

const kindOf = ({ membership }: SyncRoomRow): Kind =>
  membership === 'join' || membership === 'invite' || membership === 'knock' ? membership : 'leave';

const emptyRooms = (): Record<Kind, JsonObject> => ({ join: {}, invite: {}, knock: {}, leave: {} });

const joinedRooms = (rooms: readonly SyncRoomRow[]): RoomId[] =>
  rooms.flatMap(({ membership, room_id }) => (membership === 'join' ? [room_id as RoomId] : []));

const hasRoom = (row: SyncRoomRow): row is SyncRoomRow & { readonly room: number } => row.room !== null;

function positionOf(token: string): number {
  const point = parsePoint(token);
  if (point?.kind !== 'delivered') throw invalidParam('The token is not one of a sync.');
  return point.position;
}
