import { forbidden } from '../matrix/error.ts';
import type { EventId, RoomId, UserId } from '../matrix/ids.ts';
import type { JsonObject } from '../matrix/json.ts';
import type { Reader } from '../storage/database.ts';
import { kinOf, lastInThreads, type Place, threadShares } from '../storage/relations.ts';
import { type Direction, type EventRow, timelineEvent } from '../storage/sync.ts';
import type { Requester } from './accounts.ts';
import type { Messages, View } from './messages.ts';
import { BEGINNING, delivered, formatPoint, type Point, pointAt } from './sync/token.ts';

const DEFAULT_LIMIT = 20;
const MAX_LIMIT = 100;
/** How far children of children are looked for, as is told to clients. */
const RECURSION_DEPTH = 3;
/** Events looked at for one answer at most; beyond it the client has to ask again from there. */
const MAX_SCANNED = 1_000;

export interface RelatedRequest {
  readonly requester: Requester;
  readonly room: RoomId;
  readonly event: EventId;
  readonly relType?: string | undefined;
  readonly type?: string | undefined;
  readonly recurse: boolean;
  readonly dir: Direction;
  readonly from?: string | undefined;
  readonly to?: string | undefined;
  readonly limit?: number | undefined;
}

export interface ThreadsRequest {
  readonly requester: Requester;
  readonly room: RoomId;
  readonly participatedOnly: boolean;
  readonly from?: string | undefined;
  readonly limit?: number | undefined;
}

/** Events by what they point at (client-server API, "Relationships API" and "Querying threads in a room"). */
export class Relations {
  readonly #reader: Reader;
  readonly #messages: Messages;

  constructor(of: { readonly reader: Reader; readonly messages: Messages }) {
    this.#reader = of.reader;
    this.#messages = of.messages;
  }

  /**
   * One page of the events that point at an event, as far as the user may see them.
   * @throws MatrixError M_NOT_FOUND where they may not see the event itself, M_INVALID_PARAM for a strange token
   */
  async related(request: RelatedRequest): Promise<JsonObject> {
    const { dir, relType = null, type = null } = request;
    const { view } = await this.#messages.visibleEvent(request.requester, request.room, request.event);
    const from = this.#messages.point(request.from, view) ?? (dir === 'b' ? delivered(view.now) : BEGINNING);
    const to = this.#messages.point(request.to, view) ?? (dir === 'b' ? BEGINNING : delivered(view.now));
    const limit = limitOf(request.limit);
    const levels = request.recurse ? RECURSION_DEPTH : 1;
    const { rows, end, more } = await this.#scan(
      view,
      from,
      limit,
      (at) => {
        const [older, newer] = dir === 'b' ? [to, at] : [at, to];
        const range = { after: placeOf(older), upTo: placeOf(newer), limit: limit + 1 };
        return kinOf(this.#reader, view.room.id, {
          parent: request.event,
          relType,
          type,
          levels,
          dir,
          ...range,
        });
      },
      dir,
    );
    return {
      chunk: await this.#messages.bundled(view, rows),
      ...(more ? { next_batch: formatPoint(end) } : {}),
      ...(request.from === undefined ? {} : { prev_batch: request.from }),
      ...(request.recurse ? { recursion_depth: RECURSION_DEPTH } : {}),
    };
  }

  /**
   * One page of the room's threads: their roots, that with the latest event first.
   * @throws MatrixError M_FORBIDDEN where the user never was in the room, M_INVALID_PARAM for a strange token
   */
  async threads(request: ThreadsRequest): Promise<JsonObject> {
    const { requester, room } = request;
    const view = await this.#messages.view(requester, room);
    if (view?.mayPage !== true) throw forbidden('You are not in the room.');
    const from = this.#messages.point(request.from, view) ?? delivered(view.now);
    const limit = limitOf(request.limit);
    const apartFrom = [...view.ignored];
    const wanted = async (row: EventRow & { readonly root: string }): Promise<boolean> =>
      !request.participatedOnly || (await this.#hasPart(requester.user, view, row.root));
    const { rows, end, more } = await this.#scan(
      view,
      from,
      limit,
      (at) => lastInThreads(this.#reader, view.room.id, { upTo: placeOf(at), limit: limit + 1, apartFrom }),
      'b',
      wanted,
    );
    const roots: EventRow[] = [];
    for (const { root } of rows) {
      const row = await timelineEvent(this.#reader, view.room.id, root);
      if (row !== undefined && (await view.visibility.allows(row))) roots.push(row);
    }
    const shown = await this.#messages.bundled(view, roots);
    return {
      // A client that aggregates for itself would have the root of somebody whom it ignores as a redacted event.
      chunk: shown.map((root, at) => (view.ignored.has(roots[at]!.sender) ? { ...root, content: {} } : root)),
      ...(more ? { next_batch: formatPoint(end) } : {}),
    };
  }

  async #hasPart(user: UserId, view: View, root: string): Promise<boolean> {
    if ((await timelineEvent(this.#reader, view.room.id, root))?.sender === user) return true;
    return (await threadShares(this.#reader, [root])).some(({ sender }) => sender === user);
  }

  /** Reads on until a page is full of what the user may see. */
  async #scan<Row extends EventRow>(
    view: View,
    from: Point,
    limit: number,
    read: (at: Point) => Promise<readonly Row[]>,
    dir: Direction,
    wanted: (row: Row) => Promise<boolean> = async () => true,
  ): Promise<{ readonly rows: readonly Row[]; readonly end: Point; readonly more: boolean }> {
    const rows: Row[] = [];
    let end = from;
    for (let scanned = 0; scanned < MAX_SCANNED; ) {
      const page = await read(end);
      if (page.length === 0) return { rows, end, more: false };
      for (const row of page) {
        const shown =
          !view.ignored.has(row.sender) && (await view.visibility.allows(row)) && (await wanted(row));
        // The one too many shows that there is more.
        if (shown && rows.length === limit) return { rows, end, more: true };
        if (shown) rows.push(row);
        end = pointAt(row, dir === 'b' ? -1 : 0);
      }
      scanned += page.length;
    }
    return { rows, end, more: true };
  }
}

const placeOf = (point: Point): Place =>
  point.kind === 'delivered' ? [point.position, 0, 0] : [0, point.depth, point.id];

const limitOf = (asked: number | undefined): number => Math.min(asked ?? DEFAULT_LIMIT, MAX_LIMIT);
