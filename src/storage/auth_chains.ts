import type { EventId } from '../matrix/ids.ts';
import { type StateKey, stateKey } from '../matrix/pdu.ts';
import type { Reader } from './database.ts';
import { allIn } from './rows.ts';
import { eventIdsByRow } from './state.ts';

/*
 * The auth-chain index: which state events authorise which, by rows. An auth event has a lesser row than what it
 * authorises, so that the rows are a topological order.
 */

/** A state event in the index. */
export interface AuthNode {
  readonly row: number;
  readonly id: EventId;
  readonly place: StateKey;
}

interface NodeColumns {
  readonly row: number;
  readonly id: string;
  readonly type: string;
  readonly state_key: string;
}

const fromColumns = ({ row, id, type, state_key: key }: NodeColumns): AuthNode => ({
  row,
  id: id as EventId,
  place: stateKey(type, key),
});

/** Those of the events that are stored, by id. */
export async function authNodes(db: Reader, ids: readonly EventId[]): Promise<Map<EventId, AuthNode>> {
  const rows = await allIn<NodeColumns>(
    db,
    ids,
    (list) =>
      `SELECT id AS row, event_id AS id, type, state_key FROM events
       WHERE event_id IN (${list}) AND state_key IS NOT NULL`,
  );
  return new Map(rows.map((row) => [row.id as EventId, fromColumns(row)]));
}

/** The auth events of some state events, by these; none that has none is in it. */
export async function authEventsOf(db: Reader, rows: readonly number[]): Promise<Map<number, AuthNode[]>> {
  const edges = await allIn<NodeColumns & { readonly event: number }>(
    db,
    rows,
    (list) =>
      `SELECT a.event, e.id AS row, e.event_id AS id, e.type, e.state_key
       FROM event_auth a JOIN events e ON e.id = a.auth WHERE a.event IN (${list}) AND e.state_key IS NOT NULL`,
  );
  const found = new Map<number, AuthNode[]>();
  for (const edge of edges) {
    const nodes = found.get(edge.event);
    if (nodes === undefined) found.set(edge.event, [fromColumns(edge)]);
    else nodes.push(fromColumns(edge));
  }
  return found;
}

/** Those of some state events that authorise none. */
export async function authorisingNothing(db: Reader, rows: readonly number[]): Promise<number[]> {
  const found = await allIn<{ row: number }>(
    db,
    rows,
    (list) =>
      `SELECT id AS row FROM events
       WHERE id IN (${list}) AND NOT EXISTS (SELECT 1 FROM event_auth WHERE auth = events.id)`,
  );
  return found.map(({ row }) => row);
}

/** The state events that name one as their auth event, before a row, the newest first. */
export async function authorisedBy(
  db: Reader,
  row: number,
  { before, limit }: { readonly before: number; readonly limit: number },
): Promise<AuthNode[]> {
  const rows = await db.all<NodeColumns>(
    `SELECT e.id AS row, e.event_id AS id, e.type, e.state_key
     FROM event_auth a JOIN events e ON e.id = a.event WHERE a.auth = ? AND a.event < ?
     ORDER BY a.event DESC LIMIT ?`,
    row,
    before,
    limit,
  );
  return rows.map(fromColumns);
}

/**
 * The ids of what the auth events of some state events lead to, without these themselves unless they are among it.
 * @param most where it ends at the latest
 */
export async function authChainOf(db: Reader, ids: readonly EventId[], most: number): Promise<EventId[]> {
  const start = await authNodes(db, ids);
  const chain = new Set<number>();
  let next = [...start.values()].map(({ row }) => row);
  while (next.length > 0 && chain.size < most) {
    const edges = await allIn<{ auth: number }>(
      db,
      next,
      (list) => `SELECT DISTINCT auth FROM event_auth WHERE event IN (${list})`,
    );
    next = [...new Set(edges.map(({ auth }) => auth))].filter((row) => !chain.has(row));
    for (const row of next) chain.add(row);
  }
  return [...(await eventIdsByRow(db, [...chain])).values()];
}
