import type { EventId } from '../matrix/ids.ts';
import { parseJson } from '../matrix/json.ts';
import { type Event, type Pdu, prevEvents } from '../matrix/pdu.ts';
import type { Reader, Transaction } from './database.ts';
import { allIn } from './rows.ts';

/** An event of a room's DAG before which history is missing. */
export interface BackwardExtremity {
  readonly row: number;
  readonly id: EventId;
  readonly depth: number;
}

/**
 * Notes, of an event that has just got its place in the DAG, whether history is missing before it, and where it was what was
 * missing.
 */
export async function noteExtremities(
  tx: Transaction,
  room: number,
  { row, event, depth }: { readonly row: number; readonly event: Event; readonly depth: number },
): Promise<void> {
  if (await isWhole(tx, room, event.pdu)) await drop(tx, row);
  else {
    await tx.run(
      'INSERT INTO backward_extremities (event, room, depth) VALUES (?, ?, ?) ON CONFLICT DO NOTHING',
      ...[row, room, depth],
    );
  }
  const after = await tx.all<{ row: number; json: string }>(
    `SELECT e.id AS row, e.json FROM event_prev p JOIN backward_extremities b ON b.event = p.event
       JOIN events e ON e.id = b.event WHERE p.prev = ?`,
    row,
  );
  for (const one of after)
    if (await isWhole(tx, room, parseJson(one.json) as unknown as Pdu)) await drop(tx, one.row);
}

/** The deepest events of a room before which history is missing, `after` < depth <= `upTo`, the deepest first. */
export function extremitiesIn(
  db: Reader,
  room: number,
  { after, upTo, limit }: { readonly after: number; readonly upTo: number; readonly limit: number },
): Promise<BackwardExtremity[]> {
  return db.all<BackwardExtremity>(
    `SELECT e.id AS row, e.event_id AS id, b.depth AS depth
     FROM backward_extremities b JOIN events e ON e.id = b.event AND e.state_after IS NOT NULL
     WHERE b.room = ? AND b.depth > ? AND b.depth <= ? ORDER BY b.depth DESC, b.event LIMIT ?`,
    ...[room, after, upTo, limit],
  );
}

/** Whether history is missing before an event. */
export async function isBackwardExtremity(db: Reader, row: number): Promise<boolean> {
  return (await db.get('SELECT 1 AS found FROM backward_extremities WHERE event = ?', row)) !== undefined;
}

const drop = (tx: Transaction, row: number): Promise<number> =>
  tx.run('DELETE FROM backward_extremities WHERE event = ?', row);

/** Whether all previous events of a PDU are part of the DAG. */
async function isWhole(db: Reader, room: number, pdu: Pdu): Promise<boolean> {
  const prevs = [...new Set(prevEvents(pdu))];
  const placed = await allIn<{ room: number }>(
    db,
    prevs,
    (list) => `SELECT room FROM events WHERE event_id IN (${list}) AND state_after IS NOT NULL`,
  );
  return placed.filter((one) => one.room === room).length === prevs.length;
}
