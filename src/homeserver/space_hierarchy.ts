import { forbidden, invalidParam, notFound } from '../matrix/error.ts';
import {
  parseRoomId,
  parseServerName,
  type RoomId,
  type ServerName,
  serverOf,
  type UserId,
} from '../matrix/ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../matrix/json.ts';
import { splitStateKey } from '../matrix/pdu.ts';
import type { Reader } from '../storage/database.ts';
import { eventsById } from '../storage/events.ts';
import { membershipOf } from '../storage/memberships.ts';
import type { RemoteSpaces, SpaceChild, ToldSpace } from './ports.ts';
import type { RoomSummaries } from './room_summaries.ts';
import type { RoomNow } from './rooms/current_state.ts';

// The specification's.
const CHILD = 'm.space.child';
const SPACE = 'm.space';
/** client-server API, "Ordering of children within a space". */
const ORDER = /^[\x20-\x7e]{1,50}$/;

// Ours.
/** Rooms in one answer where the client says nothing, and at most. */
const DEFAULT_LIMIT = 50;
const MAX_LIMIT = 100;
/** How deep a space is gone into where the client says nothing, and at most. */
const MAX_DEPTH = 20;
/** Rooms of a space, its spaces and theirs that are looked at; what is beyond them is not told. */
const MAX_WALKED = 2_000;
/** Children of one space that are looked at, servers of one child, and children that another server is told. */
const MAX_CHILDREN = 1_000;
const MAX_VIA = 10;
const MAX_TOLD_CHILDREN = 100;
/** Rooms that other servers are asked for one answer. */
const MAX_ASKED = 30;

export interface HierarchyRequest {
  readonly user: UserId;
  readonly room: RoomId;
  readonly suggestedOnly?: boolean | undefined;
  readonly limit?: number | undefined;
  readonly maxDepth?: number | undefined;
  readonly from?: string | undefined;
}

/** Where an answer goes on: rooms that have been told, and what cannot change between pages. */
interface Page {
  readonly skip: number;
  readonly maxDepth: number;
  readonly suggestedOnly: boolean;
}

interface Entry {
  readonly room: RoomId;
  readonly via: readonly ServerName[];
  readonly depth: number;
  /** What the server that told of the room's space told of it. */
  readonly told: JsonObject | undefined;
}

/** A room as a user may see it, with what is below it. */
interface Seen {
  readonly summary: JsonObject;
  readonly children: readonly SpaceChild[];
  readonly told?: ToldSpace;
}

/** The rooms of spaces (client-server API, "Discovering rooms within spaces"; server-server API, "Spaces"). */
export class SpaceHierarchy {
  readonly #db: Reader;
  readonly #summaries: RoomSummaries;
  readonly #remote: RemoteSpaces | undefined;

  constructor(options: {
    readonly database: Reader;
    readonly summaries: RoomSummaries;
    /** Left out: rooms that this server is not in are not told. */
    readonly remote?: RemoteSpaces;
  }) {
    this.#db = options.database;
    this.#summaries = options.summaries;
    this.#remote = options.remote;
  }

  /**
   * A page of a space's rooms, each before those that are in it, and each once. What the user could neither read nor join
   * nor ask to join is left out. A page's token counts rooms: the walk begins anew.
   * @throws MatrixError M_FORBIDDEN where the user may not see the room, M_INVALID_PARAM
   */
  async page(request: HierarchyRequest): Promise<JsonObject> {
    const { user, room } = request;
    const page = pageOf(request);
    const limit = Math.min(request.limit ?? DEFAULT_LIMIT, MAX_LIMIT);
    if (limit === 0) throw invalidParam('limit is not above 0.');
    const rooms: JsonObject[] = [];
    const reached = new Set<RoomId>();
    const asked = { left: MAX_ASKED };
    const stack: Entry[] = [{ room, via: await this.#via(room, user), depth: 0, told: undefined }];
    let told = 0;
    for (let next = stack.pop(); next !== undefined && reached.size < MAX_WALKED; next = stack.pop()) {
      if (reached.has(next.room)) continue;
      reached.add(next.room);
      const seen = await this.#look(next, user, page.suggestedOnly, asked);
      if (seen === undefined && next.depth === 0) throw forbidden('You may not look into this room.');
      if (seen === undefined) continue;
      if (told >= page.skip && rooms.length === limit)
        return { rooms, next_batch: tokenOf({ ...page, skip: told }) };
      if (told >= page.skip)
        rooms.push({ ...seen.summary, children_state: seen.children.map(({ event }) => event) });
      told++;
      if (next.depth === page.maxDepth) continue;
      for (const child of seen.children.toReversed()) {
        if (seen.told?.inaccessible.has(child.room)) continue;
        const { room: of, via } = child;
        stack.push({ room: of, via, depth: next.depth + 1, told: seen.told?.childSummaries.get(of) });
      }
    }
    return { rooms };
  }

  /**
   * What another server is told of a room and those right below it that it could look into or join.
   * @throws MatrixError M_NOT_FOUND
   */
  async forServer(room: RoomId, server: ServerName, suggestedOnly: boolean): Promise<JsonObject> {
    const local = await this.#summaries.forServer(room, server);
    if (local.kind !== 'seen') throw notFound('The room was not found');
    const below = await this.#childrenOf(local.summary, local.now, suggestedOnly);
    const children: JsonObject[] = [];
    const inaccessible: RoomId[] = [];
    for (const child of below.slice(0, MAX_TOLD_CHILDREN)) {
      const found = await this.#summaries.forServer(child.room, server);
      if (found.kind === 'seen') children.push(found.summary);
      if (found.kind === 'hidden') inaccessible.push(child.room);
    }
    return {
      room: { ...local.summary, children_state: below.map(({ event }) => event) },
      children,
      inaccessible_children: inaccessible,
    };
  }

  /** What is here goes before what others tell. */
  async #look(
    { room, via, told }: Entry,
    user: UserId,
    suggestedOnly: boolean,
    asked: { left: number },
  ): Promise<Seen | undefined> {
    const local = await this.#summaries.forUser(room, user);
    if (local.kind === 'hidden') return undefined;
    if (local.kind === 'seen') {
      const isBanned = (await membershipOf(this.#db, room, user))?.membership === 'ban';
      if (isBanned && local.summary.world_readable !== true) return undefined;
      return {
        summary: local.summary,
        children: await this.#childrenOf(local.summary, local.now, suggestedOnly),
      };
    }
    const mayAsk = (told === undefined || told.room_type === SPACE) && asked.left > 0 && via.length > 0;
    if (mayAsk) asked.left--;
    const space = mayAsk ? await this.#remote?.space(room, via, { suggestedOnly }) : undefined;
    const invitation = await this.#summaries.invitation(room, user);
    const summary = space?.summary ?? told;
    if (summary === undefined) return invitation && { summary: invitation, children: [] };
    if (invitation === undefined && !(await this.#summaries.isOpenTo(summary, user))) return undefined;
    return { summary, children: space?.children ?? [], ...(space !== undefined && { told: space }) };
  }

  /** Who may know a room that is not reached from another: whoever made it, and whoever invited the user. */
  async #via(room: RoomId, user: UserId): Promise<ServerName[]> {
    const invite = (await membershipOf(this.#db, room, user))?.event;
    const inviter = invite == null ? [] : [serverOf(invite.pdu.sender)];
    return [...new Set([...inviter, ...(room.includes(':') ? [serverOf(room)] : [])])];
  }

  /** The children of a space, in their order; none of any other room. */
  async #childrenOf(summary: JsonObject, now: RoomNow, suggestedOnly: boolean): Promise<SpaceChild[]> {
    if (summary.room_type !== SPACE) return [];
    const ids = [...now.state.map]
      .filter(([place]) => splitStateKey(place).type === CHILD)
      .map(([, id]) => id);
    const events = await eventsById(this.#db, ids.slice(0, MAX_CHILDREN));
    return inOrder(
      events.flatMap(({ event: { pdu } }) => spaceChildIn({ ...pdu } as unknown as JsonObject)),
      suggestedOnly,
    );
  }
}

/** Valid children in the order in which they are shown. */
export function inOrder(children: readonly SpaceChild[], suggestedOnly: boolean): SpaceChild[] {
  return children
    .filter(({ event }) => !suggestedOnly || own(event.content as JsonObject, 'suggested') === true)
    .sort((a, b) => {
      const [first, second] = [orderOf(a), orderOf(b)];
      if (first !== second) {
        if (first === undefined || second === undefined) return first === undefined ? 1 : -1;
        return first < second ? -1 : 1;
      }
      const [earlier, later] = [Number(a.event.origin_server_ts), Number(b.event.origin_server_ts)];
      return earlier - later || (a.room < b.room ? -1 : 1);
    });
}

function orderOf({ event }: SpaceChild): string | undefined {
  const order = own(event.content as JsonObject, 'order');
  return typeof order === 'string' && ORDER.test(order) ? order : undefined;
}

/** An event as the child of a space; none where it is not one, or one that was taken back. */
export function spaceChildIn(value: JsonValue): SpaceChild[] {
  if (!isJsonObject(value) || own(value, 'type') !== CHILD) return [];
  const [key, sender, content, at] = ['state_key', 'sender', 'content', 'origin_server_ts'].map((name) =>
    own(value, name),
  );
  const room = typeof key === 'string' ? parseRoomId(key) : undefined;
  if (!room?.ok || typeof sender !== 'string' || !isJsonObject(content) || typeof at !== 'number') return [];
  const listed = own(content, 'via');
  const via = (Array.isArray(listed) ? listed.slice(0, MAX_VIA) : []).flatMap((name) => {
    const server = typeof name === 'string' ? parseServerName(name) : undefined;
    return server?.ok ? [server.value] : [];
  });
  if (via.length === 0) return [];
  const event = { type: CHILD, state_key: room.value, sender, content, origin_server_ts: at };
  return [{ room: room.value, via, event }];
}

const tokenOf = ({ skip, maxDepth, suggestedOnly }: Page): string =>
  `h1_${skip}_${maxDepth}_${suggestedOnly ? 1 : 0}`;

/** @throws MatrixError M_INVALID_PARAM */
function pageOf({ from, maxDepth, suggestedOnly }: HierarchyRequest): Page {
  const depth = Math.min(maxDepth ?? MAX_DEPTH, MAX_DEPTH);
  if (from === undefined) return { skip: 0, maxDepth: depth, suggestedOnly: suggestedOnly === true };
  const [, skip, depthThen, suggested] = /^h1_(\d{1,4})_(\d{1,2})_([01])$/.exec(from) ?? [];
  if (skip === undefined) throw invalidParam('from is not a token of this server.');
  const page = { skip: Number(skip), maxDepth: Number(depthThen), suggestedOnly: suggested === '1' };
  const isSame =
    (maxDepth === undefined || depth === page.maxDepth) &&
    (suggestedOnly === undefined || suggestedOnly === page.suggestedOnly);
  if (!isSame) throw invalidParam('suggested_only and max_depth cannot change between pages.');
  return page;
}
