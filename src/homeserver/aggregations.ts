import type { RoomId, UserId } from '../matrix/ids.ts';
import type { JsonObject } from '../matrix/json.ts';
import type { Reader } from '../storage/database.ts';
import { editsOf, lastEdits, references, type ThreadShare, threadShares } from '../storage/relations.ts';
import { type EventRow, eventsByRow } from '../storage/sync.ts';
import type { Renderer } from './render.ts';
import type { Visibility } from './sync/visibility.ts';

/** One room as one user sees it. */
interface Viewed {
  readonly room: RoomId;
  readonly user: UserId;
  readonly visibility: Visibility;
  readonly renderer: Renderer;
  readonly ignored: ReadonlySet<string>;
}

interface Thread {
  readonly latest: EventRow;
  readonly count: number;
  readonly participated: boolean;
}

/** What is known of the children of some events, by the parents' ids. */
interface Aggregations {
  readonly edits: ReadonlyMap<string, EventRow>;
  readonly referring: ReadonlyMap<string, readonly string[]>;
  readonly threads: ReadonlyMap<string, Thread>;
}

/**
 * Events as clients get them, in the order given, with their aggregations under `unsigned` (client-server API, "Aggregations
 * of child events"): the last edit, the events that refer to them, their threads. State events have none.
 */
export async function withAggregations(
  reader: Reader,
  { rows, ...viewed }: Viewed & { readonly rows: readonly EventRow[] },
): Promise<JsonObject[]> {
  const of = new Aggregator(reader, viewed);
  const parents = rows.filter(({ state_key }) => state_key === null);
  const own = await of.childrenOf(parents);
  const threads = await of.threadsOf(parents);
  const latest = [...threads.values()].map((thread) => thread.latest);
  // The last event of a thread may have been edited; it cannot be the root of another.
  const ofLatest = await of.childrenOf(latest);
  const rendered = await of.render([...own.edits.values(), ...ofLatest.edits.values(), ...latest]);
  const shownLatest = new Map<string, JsonObject>(
    latest.map((row) => [
      row.event_id,
      bundle(rendered.get(row.event_id)!, row, { ...ofLatest, threads: new Map() }, rendered),
    ]),
  );
  const shown = await viewed.renderer.timelineEvents(viewed.room, rows, viewed.visibility);
  const all = new Map<string, JsonObject>([...rendered, ...shownLatest]);
  return shown.map((event, at) => bundle(event, rows[at]!, { ...own, threads }, all));
}

class Aggregator {
  readonly #reader: Reader;
  readonly #viewed: Viewed;

  constructor(reader: Reader, viewed: Viewed) {
    this.#reader = reader;
    this.#viewed = viewed;
  }

  async childrenOf(parents: readonly EventRow[]): Promise<Omit<Aggregations, 'threads'>> {
    const { visibility, ignored } = this.#viewed;
    const ids = parents.filter(({ sender }) => !ignored.has(sender)).map(({ event_id }) => event_id);
    const rowsOfEdits = await lastEdits(this.#reader, ids);
    const candidates = await this.#rows([...rowsOfEdits.values()]);
    const edits = new Map<string, EventRow>();
    for (const [parent, row] of rowsOfEdits) {
      const last = await this.#firstVisible([candidates.get(row)!], () => editsOf(this.#reader, parent));
      if (last !== undefined) edits.set(parent, last);
    }
    const referring = new Map<string, string[]>();
    for (const row of await references(
      this.#reader,
      parents.map(({ event_id }) => event_id),
    )) {
      if (ignored.has(row.sender) || !(await visibility.allows(row))) continue;
      const known = referring.get(row.parent);
      if (known === undefined) referring.set(row.parent, [row.event_id]);
      else known.push(row.event_id);
    }
    return { edits, referring };
  }

  async threadsOf(roots: readonly EventRow[]): Promise<Map<string, Thread>> {
    const { ignored, user } = this.#viewed;
    const shares = Map.groupBy(
      await threadShares(
        this.#reader,
        roots.map(({ event_id }) => event_id),
      ),
      ({ root }) => root as string,
    );
    const threads = new Map<string, Thread>();
    for (const root of roots) {
      const heard = (shares.get(root.event_id) ?? []).filter(({ sender }) => !ignored.has(sender));
      const latest = await this.#latest(heard);
      if (latest === undefined) continue;
      threads.set(root.event_id, {
        latest,
        count: heard.reduce((sum, { events }) => sum + events, 0),
        participated: root.sender === user || heard.some(({ sender }) => sender === user),
      });
    }
    return threads;
  }

  async render(rows: readonly EventRow[]): Promise<Map<string, JsonObject>> {
    const { renderer, room, visibility } = this.#viewed;
    const events = await renderer.timelineEvents(room, rows, visibility);
    return new Map(rows.map((row, at) => [row.event_id, events[at]!]));
  }

  async #latest(shares: readonly ThreadShare[]): Promise<EventRow | undefined> {
    const latestFirst = shares.toSorted((a, b) => (a.place < b.place ? 1 : -1));
    for (const { last } of latestFirst) {
      const row = (await this.#rows([last])).get(last)!;
      if (await this.#viewed.visibility.allows(row)) return row;
    }
    return undefined;
  }

  async #firstVisible(
    likely: readonly EventRow[],
    others: () => Promise<readonly EventRow[]>,
  ): Promise<EventRow | undefined> {
    for (const row of likely) if (await this.#viewed.visibility.allows(row)) return row;
    for (const row of await others()) if (await this.#viewed.visibility.allows(row)) return row;
    return undefined;
  }

  async #rows(rows: readonly number[]): Promise<Map<number, EventRow>> {
    return new Map((await eventsByRow(this.#reader, rows)).map((row) => [row.id, row]));
  }
}

/** Puts what is known of an event's children under its `unsigned`. */
function bundle(
  event: JsonObject,
  { event_id: id }: EventRow,
  { edits, referring, threads }: Aggregations,
  rendered: ReadonlyMap<string, JsonObject>,
): JsonObject {
  const edit = edits.get(id);
  const thread = threads.get(id);
  const chunk = referring.get(id)?.map((event_id) => ({ event_id }));
  if (edit === undefined && thread === undefined && chunk === undefined) return event;
  const relations: JsonObject = {
    ...(edit === undefined ? {} : { 'm.replace': rendered.get(edit.event_id)! }),
    ...(chunk === undefined ? {} : { 'm.reference': { chunk } }),
    ...(thread === undefined
      ? {}
      : {
          'm.thread': {
            latest_event: rendered.get(thread.latest.event_id)!,
            count: thread.count,
            current_user_participated: thread.participated,
          },
        }),
  };
  return { ...event, unsigned: { ...(event.unsigned as JsonObject | undefined), 'm.relations': relations } };
}
