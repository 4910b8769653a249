import type { EventId } from '../../matrix/ids.ts';
import { authEvents, type Event, type StateMap, stateKey } from '../../matrix/pdu.ts';
import {
  type AuthNode,
  authEventsOf,
  authNodes,
  authorisedBy,
  authorisingNothing,
} from '../../storage/auth_chains.ts';
import type { Reader } from '../../storage/database.ts';
import type { Pending } from './state_store.ts';

/** How many events are looked at before the search is given up. */
const MAX_WALK = 100_000;
/** How many sets fit into the bits of a number. */
const MAX_SETS = 30;
/** How many events are read at once that name another as their auth event. */
const PAGE = 32;
/** Of how many events what they cite is read at once. */
const AHEAD = 256;
/** Events that are not stored yet come after all that are. */
const FIRST_PENDING = 2 ** 52;

/**
 * The auth difference of some states, and the conflicted events with it: what is among the events of some of them
 * and everything that their auth events lead to, but not of all (rooms/v2, "Auth difference").
 *
 * It goes down the auth chains of the events in which the states differ, newest first, and turns back at what belongs to
 * every state because an event that all of them have leads to it. Whether one does is looked up the other way, from an
 * event to those that it authorises, the newest first: what is still in force authorises events of the present state. So
 * it reads about as many events as the difference has, not the chains.
 * @param pending events that are not stored yet, each after its auth events
 * @returns undefined where that would take too long
 */
export async function authDifference(
  db: Reader,
  sets: readonly StateMap[],
  pending: Pending,
): Promise<ReadonlySet<EventId> | undefined> {
  if (sets.length > MAX_SETS) return undefined;
  return new Search(sets, await Graph.open(db, pending)).run();
}

/** The events by their auth events, stored ones and those that are about to be. */
class Graph {
  /** How many events have been read. */
  read = 0;
  readonly #db: Reader;
  readonly #pending = new Map<number, Event>();
  readonly #nodes = new Map<EventId, AuthNode>();
  readonly #authorised = new Map<EventId, AuthNode[]>();
  /** Of stored events that were read ahead: their auth events, and that they authorise no stored one. */
  readonly #ahead = new Map<number, readonly AuthNode[]>();
  readonly #ends = new Set<number>();

  private constructor(db: Reader) {
    this.#db = db;
  }

  static async open(db: Reader, pending: Pending): Promise<Graph> {
    const graph = new Graph(db);
    const stored = await authNodes(db, [...pending.keys()]);
    for (const { event } of pending.values()) if (!stored.has(event.id)) graph.#add(event);
    return graph;
  }

  #add(event: Event): void {
    const { type, state_key: key } = event.pdu;
    if (key === undefined) return;
    const row = FIRST_PENDING + this.#pending.size;
    const node = { row, id: event.id, place: stateKey(type, key) };
    this.#pending.set(row, event);
    this.#nodes.set(event.id, node);
    for (const auth of authEvents(event.pdu)) {
      const authorised = this.#authorised.get(auth);
      if (authorised === undefined) this.#authorised.set(auth, [node]);
      else authorised.push(node);
    }
  }

  async nodes(ids: readonly EventId[]): Promise<AuthNode[]> {
    const stored = await authNodes(
      this.#db,
      ids.filter((id) => !this.#nodes.has(id)),
    );
    this.read += stored.size;
    return ids.flatMap((id) => this.#nodes.get(id) ?? stored.get(id) ?? []);
  }

  /** Reads what will be asked of these events, many at a time. */
  async readAhead(nodes: readonly AuthNode[]): Promise<void> {
    const rows = nodes.map(({ row }) => row).filter((row) => row < FIRST_PENDING);
    for (let at = 0; at < rows.length && this.read <= MAX_WALK; at += AHEAD) {
      const some = rows.slice(at, at + AHEAD);
      const edges = await authEventsOf(this.#db, some);
      for (const row of some) this.#ahead.set(row, edges.get(row) ?? []);
      for (const found of edges.values()) this.read += found.length;
      for (const row of await authorisingNothing(this.#db, some)) this.#ends.add(row);
    }
  }

  async authEvents(node: AuthNode): Promise<readonly AuthNode[]> {
    const event = this.#pending.get(node.row);
    if (event !== undefined) return this.nodes([...new Set(authEvents(event.pdu))]);
    const ahead = this.#ahead.get(node.row);
    if (ahead !== undefined) return ahead;
    const found = (await authEventsOf(this.#db, [node.row])).get(node.row) ?? [];
    this.read += found.length;
    return found;
  }

  /** A page of what an event authorises, the newest first; `next`: from where to go on. */
  async authorised(
    node: AuthNode,
    before: number,
  ): Promise<{ readonly nodes: readonly AuthNode[]; readonly next: number | undefined }> {
    const first = before === Number.POSITIVE_INFINITY ? (this.#authorised.get(node.id) ?? []) : [];
    if (node.row >= FIRST_PENDING || this.#ends.has(node.row)) return { nodes: first, next: undefined };
    const page = await authorisedBy(this.#db, node.row, {
      before: Math.min(before, FIRST_PENDING),
      limit: PAGE,
    });
    this.read += page.length;
    return { nodes: [...first, ...page], next: page.length < PAGE ? undefined : page.at(-1)!.row };
  }
}

class Search {
  readonly #sets: readonly StateMap[];
  readonly #graph: Graph;
  /** In every state's chain, for all bits. */
  readonly #all: number;
  /** Rows of events that no event leads to that all states have. */
  readonly #apart = new Set<number>();
  readonly #heap = new NewestFirst();

  constructor(sets: readonly StateMap[], graph: Graph) {
    this.#sets = sets;
    this.#graph = graph;
    this.#all = 2 ** sets.length - 1;
  }

  async run(): Promise<ReadonlySet<EventId> | undefined> {
    for (const [index, set] of this.#sets.entries()) {
      const conflicted = [...set].filter(([place, id]) => !this.#isShared(place, id)).map(([, id]) => id);
      const nodes = await this.#graph.nodes(conflicted);
      await this.#graph.readAhead(nodes);
      for (const node of nodes) this.#heap.add(node, 2 ** index, this.#all);
    }
    const difference = new Set<EventId>();
    // What is left below belongs to all of them once everything that waits does.
    while (this.#heap.partial > 0) {
      if (this.#graph.read > MAX_WALK) return undefined;
      const { node, mask } = this.#heap.take(this.#all);
      const behind = await this.#isBehindShared(node);
      if (behind === undefined) return undefined;
      if (behind) continue;
      if (mask !== this.#all) difference.add(node.id);
      for (const auth of await this.#graph.authEvents(node)) this.#heap.add(auth, mask, this.#all);
    }
    return difference;
  }

  #isShared(place: AuthNode['place'], id: EventId): boolean {
    return this.#sets.every((set) => set.get(place) === id);
  }

  /** Whether an event is one that all states have, or one of those leads to it; undefined: the search is too long. */
  async #isBehindShared(start: AuthNode): Promise<boolean | undefined> {
    if (this.#apart.has(start.row)) return false;
    if (this.#isShared(start.place, start.id)) return true;
    const seen = new Set([start.row]);
    const open: { readonly node: AuthNode; readonly before: number }[] = [
      { node: start, before: Number.POSITIVE_INFINITY },
    ];
    for (let at = open.pop(); at !== undefined; at = open.pop()) {
      if (this.#graph.read > MAX_WALK) return undefined;
      const { nodes, next } = await this.#graph.authorised(at.node, at.before);
      if (nodes.some(({ place, id }) => this.#isShared(place, id))) return true;
      if (next !== undefined) open.push({ node: at.node, before: next });
      for (const node of nodes) {
        if (seen.has(node.row) || this.#apart.has(node.row)) continue;
        seen.add(node.row);
        open.push({ node, before: Number.POSITIVE_INFINITY });
      }
    }
    for (const row of seen) this.#apart.add(row);
    return false;
  }
}

/** Events that wait to be looked at, with the sets whose chains they are in, as bits. */
class NewestFirst {
  /** How many of them are not in every set's chain. */
  partial = 0;
  readonly #waiting = new Map<number, { readonly node: AuthNode; mask: number }>();
  /** A binary heap of their rows, the greatest first. */
  readonly #rows: number[] = [];

  add(node: AuthNode, mask: number, all: number): void {
    const known = this.#waiting.get(node.row);
    if (known === undefined) {
      this.#waiting.set(node.row, { node, mask });
      this.#push(node.row);
      if (mask !== all) this.partial++;
      return;
    }
    const joined = known.mask | mask;
    if (known.mask !== all && joined === all) this.partial--;
    known.mask = joined;
  }

  take(all: number): { readonly node: AuthNode; readonly mask: number } {
    const row = this.#pop();
    const taken = this.#waiting.get(row)!;
    this.#waiting.delete(row);
    if (taken.mask !== all) this.partial--;
    return taken;
  }

  #push(row: number): void {
    const rows = this.#rows;
    let at = rows.push(row) - 1;
    for (let up = (at - 1) >> 1; at > 0 && rows[up]! < row; up = (at - 1) >> 1) {
      rows[at] = rows[up]!;
      rows[up] = row;
      at = up;
    }
  }

  #pop(): number {
    const rows = this.#rows;
    const top = rows[0]!;
    const last = rows.pop()!;
    if (rows.length === 0) return top;
    rows[0] = last;
    for (let at = 0; ; ) {
      let down = 2 * at + 1;
      if (down + 1 < rows.length && rows[down + 1]! > rows[down]!) down++;
      if (down >= rows.length || rows[down]! <= last) return top;
      rows[at] = rows[down]!;
      rows[down] = last;
      at = down;
    }
  }
}
