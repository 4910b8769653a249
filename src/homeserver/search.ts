import { invalidParam } from '../matrix/error.ts';
import type { RoomId } from '../matrix/ids.ts';
import { isJsonObject, type JsonObject, own } from '../matrix/json.ts';
import type { Reader } from '../storage/database.ts';
import {
  countEvents,
  type EventSearch,
  type FoundRow,
  findEvents,
  type SearchKey,
  type SearchPoint,
  searchableRooms,
  searchWords,
} from '../storage/search.ts';
import { streamPosition } from '../storage/sync.ts';
import type { Requester } from './accounts.ts';
import { allowsEvent, allowsRoom, type RoomEventFilter } from './filter_events.ts';
import { type Messages, type View, wholeFilter } from './messages.ts';
import type { RoomQueries } from './rooms/queries.ts';
import { contentOf } from './sync/membership.ts';
import { formatPoint } from './sync/token.ts';

const DEFAULT_LIMIT = 10;
const MAX_LIMIT = 50;
const DEFAULT_CONTEXT = 5;
const MAX_CONTEXT = 20;
/** Events looked at for one answer at most; beyond it the client has to ask again from there. */
const MAX_SCANNED = 500;
const BATCH = 50;

export type GroupKey = 'room_id' | 'sender';

/** What to search for among events (client-server API, "Server Side Search", `room_events`). */
export interface SearchRequest {
  readonly requester: Requester;
  readonly term: string;
  readonly keys: readonly SearchKey[];
  readonly filter: RoomEventFilter;
  readonly by: 'rank' | 'recent';
  readonly context?:
    | {
        readonly before?: number | undefined;
        readonly after?: number | undefined;
        readonly withProfiles: boolean;
      }
    | undefined;
  readonly withState: boolean;
  readonly groupBy: readonly GroupKey[];
  /** The `next_batch` of an answer, or of a group in one. */
  readonly from?: string | undefined;
}

/** Where a page starts, and in which group. */
interface From {
  readonly upTo: number;
  readonly after?: SearchPoint;
  readonly group?: readonly [GroupKey, string];
}

interface Found {
  readonly row: FoundRow;
  readonly view: View;
}

/** Full-text search over what a user may see, where that is not encrypted. */
export class Search {
  readonly #reader: Reader;
  readonly #messages: Messages;
  readonly #queries: RoomQueries;

  constructor(of: { readonly reader: Reader; readonly messages: Messages; readonly queries: RoomQueries }) {
    this.#reader = of.reader;
    this.#messages = of.messages;
    this.#queries = of.queries;
  }

  /** One page of results, as `room_events` of the answer. @throws MatrixError M_INVALID_PARAM for a strange token */
  async search(request: SearchRequest): Promise<JsonObject> {
    const from = parseFrom(request.from) ?? { upTo: await streamPosition(this.#reader) };
    const words = searchWords(request.term, request.keys);
    const search = words === undefined ? undefined : await this.#eventSearch(request, from, words.match);
    if (words === undefined || search === undefined) return { count: 0, highlights: [], results: [] };
    const { found, end } = await this.#scan(request, search);
    const next = end === undefined ? undefined : formatFrom({ ...from, after: end });
    return {
      count: await countEvents(this.#reader, search),
      highlights: [...words.words],
      results: await this.#rendered(found, request),
      ...(next === undefined ? {} : { next_batch: next }),
      ...(request.groupBy.length === 0 ? {} : { groups: groupsOf(found, request.groupBy, { ...from, end }) }),
      ...(request.withState ? { state: await this.#stateOf(found, request.requester) } : {}),
    };
  }

  /** Undefined where there is no room to search. */
  async #eventSearch(
    { requester, filter, by }: SearchRequest,
    { upTo, after, group }: From,
    match: string,
  ): Promise<EventSearch | undefined> {
    const [key, value] = group ?? [];
    const rooms = (await searchableRooms(this.#reader, requester.user))
      .filter(({ roomId }) => allowsRoom(filter, roomId) && (key !== 'room_id' || roomId === value))
      .map(({ row }) => row);
    if (rooms.length === 0) return undefined;
    const sender = key === 'sender' ? value! : null;
    return { match, rooms, sender, by, after, upTo, limit: BATCH };
  }

  /** Reads on until a page is full of what the user may see. @returns `end` where there may be more */
  async #scan(
    { requester, filter }: SearchRequest,
    search: EventSearch,
  ): Promise<{ readonly found: readonly Found[]; readonly end: SearchPoint | undefined }> {
    const limit = Math.min(filter.limit ?? DEFAULT_LIMIT, MAX_LIMIT);
    const found: Found[] = [];
    const views = new Map<string, View | undefined>();
    let { after } = search;
    for (let scanned = 0; scanned < MAX_SCANNED; ) {
      const rows = await findEvents(this.#reader, { ...search, after });
      for (const row of rows) {
        if (!views.has(row.room_id))
          views.set(row.room_id, await this.#messages.view(requester, row.room_id as RoomId));
        const view = views.get(row.room_id);
        const shown = view?.mayPage === true && (await isShown(view, row, filter));
        // The one too many shows that there is more.
        if (shown && found.length === limit) return { found, end: after };
        if (shown) found.push({ row, view });
        after = { order: row.order_value, row: row.id };
      }
      if (rows.length < BATCH) return { found, end: undefined };
      scanned += rows.length;
    }
    return { found, end: after };
  }

  async #rendered(found: readonly Found[], { context }: SearchRequest): Promise<JsonObject[]> {
    const results: JsonObject[] = [];
    for (const { row, view } of found) {
      const [result] = await this.#messages.bundled(view, [row]);
      results.push({
        rank: -row.rank,
        result: result!,
        ...(context === undefined ? {} : { context: await this.#context(view, row, context) }),
      });
    }
    return results;
  }

  async #context(
    view: View,
    row: FoundRow,
    { before, after, withProfiles }: NonNullable<SearchRequest['context']>,
  ): Promise<JsonObject> {
    const around = await this.#messages.around(view, row, wholeFilter(), {
      before: Math.min(before ?? DEFAULT_CONTEXT, MAX_CONTEXT),
      after: Math.min(after ?? DEFAULT_CONTEXT, MAX_CONTEXT),
    });
    return {
      start: formatPoint(around.before.end),
      end: formatPoint(around.after.end),
      events_before: await this.#messages.bundled(view, around.before.events),
      events_after: await this.#messages.bundled(view, around.after.events),
      ...(withProfiles ? { profile_info: await this.#profiles(around.all, row) } : {}),
    };
  }

  /** What the senders were called at the event that was found. */
  async #profiles(
    events: Parameters<Messages['sendersOf']>[0],
    { state_after }: FoundRow,
  ): Promise<JsonObject> {
    const profiles: JsonObject = {};
    for (const member of await this.#messages.sendersOf(events, state_after)) {
      const { displayname, avatar_url } = contentOf(member.json);
      profiles[member.state_key!] = {
        ...(typeof displayname === 'string' ? { displayname } : {}),
        ...(typeof avatar_url === 'string' ? { avatar_url } : {}),
      };
    }
    return profiles;
  }

  async #stateOf(found: readonly Found[], requester: Requester): Promise<JsonObject> {
    const state: JsonObject = {};
    for (const room of new Set(found.map(({ row }) => row.room_id)))
      state[room] = await this.#queries.state(room as RoomId, requester);
    return state;
  }
}

async function isShown(view: View, row: FoundRow, filter: RoomEventFilter): Promise<boolean> {
  const event = { type: row.type, sender: row.sender, content: contentOf(row.json) };
  if (row.state_key === null && view.ignored.has(row.sender)) return false;
  return allowsEvent(filter, event) && (await view.visibility.allows(row));
}

/** Results by what they have in common, in the order of the results. */
function groupsOf(
  found: readonly Found[],
  keys: readonly GroupKey[],
  { upTo, end }: From & { readonly end: SearchPoint | undefined },
): JsonObject {
  const groups: JsonObject = {};
  for (const key of keys) {
    const byValue = Map.groupBy(found, ({ row }) => (key === 'room_id' ? row.room_id : row.sender));
    groups[key] = Object.fromEntries(
      [...byValue].map(([value, members], at) => [
        value,
        {
          order: at + 1,
          results: members.map(({ row }) => row.event_id),
          ...(end === undefined ? {} : { next_batch: formatFrom({ upTo, after: end, group: [key, value] }) }),
        },
      ]),
    );
  }
  return groups;
}

/** The text of a place in the results: the version of the format, then JSON. */
const formatFrom = (from: From): string => `f1_${Buffer.from(JSON.stringify(from)).toString('base64url')}`;

function parseFrom(token: string | undefined): From | undefined {
  if (token === undefined) return undefined;
  const from = token.startsWith('f1_') ? jsonIn(token.slice(3)) : undefined;
  if (!isFrom(from)) throw invalidParam('The token is not one of this server.');
  return from;
}

function jsonIn(base64url: string): unknown {
  try {
    return JSON.parse(Buffer.from(base64url, 'base64url').toString());
  } catch {
    return undefined;
  }
}

function isFrom(value: unknown): value is From {
  if (!isJsonObject(value) || !Number.isSafeInteger(own(value, 'upTo'))) return false;
  const after = own(value, 'after');
  const group = own(value, 'group');
  const isPoint =
    isJsonObject(after) && Number.isFinite(own(after, 'order')) && Number.isSafeInteger(own(after, 'row'));
  const isGroup =
    Array.isArray(group) && (group[0] === 'room_id' || group[0] === 'sender') && typeof group[1] === 'string';
  return (after === undefined || isPoint) && (group === undefined || isGroup);
}
