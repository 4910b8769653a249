import type Connection from 'better-sqlite3';
import { layersToMerge, mergeLayers, packLayer } from './packed_state.ts';

/** How often progress is told, in state groups. */
const TOLD_EVERY = 10_000;

interface OldGroup {
  readonly id: number;
  readonly room: number;
  readonly parent: number | null;
}

interface Layer {
  readonly id: number;
  readonly parent: number | null;
  readonly size: number;
}

/**
 * Carries the state groups of migration 0012 and before over to packed ones with the same ids. What was complete is
 * laid over the room's group before it as well. In memory are two states at a time.
 */
export function packOldState(
  connection: Connection.Database,
  progress: (what: string, done: number, of: number) => void,
): void {
  new Packing(connection, progress).run();
  connection.exec('DROP TABLE old_state_group_entries; DROP TABLE old_state_groups;');
}

class Packing {
  readonly #connection: Connection.Database;
  readonly #progress: (what: string, done: number, of: number) => void;
  readonly #entries: Connection.Statement<[number], { place: number; event: number }>;
  readonly #layer: Connection.Statement<[number], Layer>;
  readonly #packed: Connection.Statement<[number], { entries: Uint8Array }>;
  readonly #insert: Connection.Statement<[number, number, number | null, number, Uint8Array]>;

  constructor(connection: Connection.Database, progress: (what: string, done: number, of: number) => void) {
    this.#connection = connection;
    this.#progress = progress;
    this.#entries = connection.prepare(
      `SELECT p.id AS place, o.event FROM old_state_group_entries o
       JOIN places p ON p.type = o.type AND p.state_key = o.state_key WHERE o.state_group = ?`,
    );
    this.#layer = connection.prepare('SELECT id, parent, size FROM state_groups WHERE id = ?');
    this.#packed = connection.prepare('SELECT entries FROM state_groups WHERE id = ?');
    this.#insert = connection.prepare(
      'INSERT INTO state_groups (id, room, parent, size, entries) VALUES (?, ?, ?, ?, ?)',
    );
  }

  run(): void {
    const all = this.#connection
      .prepare<[], { n: number }>('SELECT COUNT(*) AS n FROM old_state_groups')
      .get()!.n;
    const next = this.#connection.prepare<[number, number], OldGroup>(
      'SELECT id, room, parent FROM old_state_groups WHERE (room, id) > (?, ?) ORDER BY room, id LIMIT 1',
    );
    this.#connection.exec('CREATE INDEX old_state_groups_by_room ON old_state_groups (room, id)');
    let before: OldGroup | undefined;
    let done = 0;
    for (let group = next.get(0, 0); group !== undefined; group = next.get(group.room, group.id)) {
      this.#pack(group, before?.room === group.room ? before.id : null);
      before = group;
      if (++done % TOLD_EVERY === 0) this.#progress('room states', done, all);
    }
    if (all > 0) this.#progress('room states', all, all);
  }

  /** @param before the room's group that was packed last */
  #pack(group: OldGroup, before: number | null): void {
    const basis = group.parent ?? before;
    const chain = basis === null ? [] : this.#chain(basis);
    const changes = new Map<number, number>();
    for (const { place, event } of this.#entries.iterate(group.id)) changes.set(place, event);
    if (group.parent === null) leaveDifference(changes, this.#merged(chain, true));
    const merged = layersToMerge(changes.size, chain);
    const parent = chain[merged]?.id ?? null;
    const below = this.#merged(chain.slice(0, merged), parent === null);
    for (const [place, event] of changes) {
      if (event === 0 && parent === null) below.delete(place);
      else below.set(place, event);
    }
    this.#insert.run(group.id, group.room, parent, below.size, packLayer(below));
  }

  #chain(group: number): Layer[] {
    const chain: Layer[] = [];
    for (let at: number | null = group; at !== null; at = chain.at(-1)!.parent)
      chain.push(this.#layer.get(at)!);
    return chain;
  }

  #merged(layers: readonly Layer[], complete: boolean): Map<number, number> {
    return mergeLayers(
      layers.map(({ id }) => this.#packed.get(id)!.entries),
      complete,
    );
  }
}

/** Leaves of a state what makes it out of another. */
function leaveDifference(state: Map<number, number>, other: ReadonlyMap<number, number>): void {
  for (const [place, event] of other) {
    const own = state.get(place);
    if (own === undefined) state.set(place, 0);
    else if (own === event) state.delete(place);
  }
}
