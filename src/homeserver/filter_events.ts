import { bad, ok, type Result } from '../base/result.ts';
import type { JsonObject, JsonValue } from '../matrix/json.ts';

/** Entries of one list of a filter at most. */
const MAX_LIST = 1_000;

/** A RoomEventFilter (client-server API, "Filtering"); an absent list includes everything. */
export interface RoomEventFilter {
  /** As asked for; whoever applies it has a default and a maximum. */
  readonly limit?: number;
  readonly types?: readonly string[];
  readonly notTypes: readonly string[];
  readonly senders?: ReadonlySet<string>;
  readonly notSenders: ReadonlySet<string>;
  readonly rooms?: ReadonlySet<string>;
  readonly notRooms: ReadonlySet<string>;
  readonly containsUrl?: boolean;
  readonly lazyLoadMembers: boolean;
  readonly includeRedundantMembers: boolean;
}

/** A Filter, as /sync goes by it. What has no rooms of its own has an EventFilter: a RoomEventFilter without them. */
export interface SyncFilter {
  readonly rooms?: ReadonlySet<string>;
  readonly notRooms: ReadonlySet<string>;
  readonly includeLeave: boolean;
  readonly timeline: RoomEventFilter;
  readonly state: RoomEventFilter;
  readonly ephemeral: RoomEventFilter;
  readonly roomAccountData: RoomEventFilter;
  readonly accountData: RoomEventFilter;
  readonly presence: RoomEventFilter;
  /** Paths of the fields that events in rooms are cut down to; undefined: they come whole. */
  readonly eventFields: readonly (readonly string[])[] | undefined;
  readonly eventFormat: 'client' | 'federation';
  /** Whether counts of unread events are told thread by thread. */
  readonly unreadThreadNotifications: boolean;
}

/** What a filter looks at. */
export interface Filterable {
  readonly type: string;
  readonly sender: string;
  readonly content: JsonObject;
}

/** Parses a RoomEventFilter; unknown keys are ignored. The problem says which key is wrong. */
export function parseRoomEventFilter(value: JsonValue | undefined): Result<RoomEventFilter> {
  return parsed(() => roomEventFilter(value ?? {}));
}

/** Parses a Filter as POST /user/{userId}/filter takes it; unknown keys are ignored. */
export function parseSyncFilter(value: JsonValue | undefined): Result<SyncFilter> {
  return parsed(() => {
    const filter = object(value ?? {}, 'filter');
    const room = object(filter.room ?? {}, 'room');
    const rooms = strings(room, 'rooms');
    return {
      ...(rooms === undefined ? {} : { rooms: new Set(rooms) }),
      notRooms: new Set(strings(room, 'not_rooms')),
      includeLeave: flag(room, 'include_leave') ?? false,
      timeline: roomEventFilter(room.timeline ?? {}),
      state: roomEventFilter(room.state ?? {}),
      ephemeral: roomEventFilter(room.ephemeral ?? {}),
      roomAccountData: roomEventFilter(room.account_data ?? {}),
      accountData: roomEventFilter(filter.account_data ?? {}),
      presence: roomEventFilter(filter.presence ?? {}),
      eventFields: strings(filter, 'event_fields')?.map(fieldPath),
      eventFormat: formatIn(filter),
      unreadThreadNotifications:
        flag(object(room.timeline ?? {}, 'timeline'), 'unread_thread_notifications') ?? false,
    };
  });
}

/** Whether a list of rooms lets a room in; being excluded wins. */
export function allowsRoom(
  filter: { readonly rooms?: ReadonlySet<string>; readonly notRooms: ReadonlySet<string> },
  room: string,
): boolean {
  return !filter.notRooms.has(room) && (filter.rooms?.has(room) ?? true);
}

/** Whether a filter lets an event through, its rooms apart. */
export function allowsEvent(filter: RoomEventFilter, event: Filterable): boolean {
  if (!allowsSender(filter, event.sender) || !allowsType(filter, event.type)) return false;
  return filter.containsUrl === undefined || filter.containsUrl === Object.hasOwn(event.content, 'url');
}

export const allowsSender = (filter: RoomEventFilter, sender: string): boolean =>
  !filter.notSenders.has(sender) && (filter.senders?.has(sender) ?? true);

export const allowsType = (filter: RoomEventFilter, type: string): boolean =>
  !filter.notTypes.some((pattern) => matchesPattern(pattern, type)) &&
  (filter.types?.some((pattern) => matchesPattern(pattern, type)) ?? true);

/** Whether a text matches a pattern in which `*` stands for any sequence of characters. Takes no more than |pattern| * |text| steps. */
export function matchesPattern(pattern: string, text: string): boolean {
  let at = 0;
  let cursor = 0;
  let star = -1;
  let resume = 0;
  while (at < text.length) {
    if (pattern[cursor] === '*') {
      star = cursor++;
      resume = at;
    } else if (cursor < pattern.length && pattern[cursor] === text[at]) {
      cursor++;
      at++;
    } else if (star >= 0) {
      cursor = star + 1;
      at = ++resume;
    } else {
      return false;
    }
  }
  while (pattern[cursor] === '*') cursor++;
  return cursor === pattern.length;
}

class FilterProblem extends Error {}

function parsed<T>(parse: () => T): Result<T> {
  try {
    return ok(parse());
  } catch (error) {
    if (error instanceof FilterProblem) return bad(error.message);
    throw error;
  }
}

function roomEventFilter(value: JsonValue): RoomEventFilter {
  const from = object(value, 'event filter');
  const limit = from.limit;
  if (limit !== undefined && (typeof limit !== 'number' || !Number.isInteger(limit) || limit < 0))
    throw new FilterProblem('limit is not a positive integer');
  const types = strings(from, 'types');
  const senders = strings(from, 'senders');
  const rooms = strings(from, 'rooms');
  const containsUrl = flag(from, 'contains_url');
  return {
    ...(limit === undefined ? {} : { limit }),
    ...(types === undefined ? {} : { types }),
    notTypes: strings(from, 'not_types') ?? [],
    ...(senders === undefined ? {} : { senders: new Set(senders) }),
    notSenders: new Set(strings(from, 'not_senders')),
    ...(rooms === undefined ? {} : { rooms: new Set(rooms) }),
    notRooms: new Set(strings(from, 'not_rooms')),
    ...(containsUrl === undefined ? {} : { containsUrl }),
    lazyLoadMembers: flag(from, 'lazy_load_members') ?? false,
    includeRedundantMembers: flag(from, 'include_redundant_members') ?? false,
  };
}

function object(value: JsonValue, name: string): JsonObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new FilterProblem(`${name} is not an object`);
  return value;
}

function strings(from: JsonObject, key: string): readonly string[] | undefined {
  const value = from[key];
  if (value === undefined || value === null) return undefined;
  if (!Array.isArray(value) || value.length > MAX_LIST || !value.every((item) => typeof item === 'string'))
    throw new FilterProblem(`${key} is not a list of at most ${MAX_LIST} strings`);
  return value as string[];
}

function flag(from: JsonObject, key: string): boolean | undefined {
  const value = from[key];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'boolean') throw new FilterProblem(`${key} is not a boolean`);
  return value;
}

/** The keys of a path such as `content.body`, in which `\.` is a dot of a key and `\\` a backslash. */
function fieldPath(text: string): string[] {
  const keys: string[] = [];
  let key = '';
  for (const [part] of text.matchAll(/\\[.\\]|./gs)) {
    if (part === '.') {
      keys.push(key);
      key = '';
    } else key += part.length === 2 ? part[1] : part;
  }
  keys.push(key);
  return keys;
}

function formatIn(filter: JsonObject): 'client' | 'federation' {
  const format = filter.event_format ?? 'client';
  if (format !== 'client' && format !== 'federation')
    throw new FilterProblem('event_format is neither client nor federation');
  return format;
}
