import type { EventId, ServerName } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

/** An event in the queue of one destination. */
export interface QueuedPdu {
  readonly position: number;
  readonly eventId: EventId;
  /** JSON text of the PDU. */
  readonly json: string;
}

/** Puts a PDU at the end of each destination's queue; one that it already waits for stays where it is. */
export async function enqueuePdu(
  tx: Transaction,
  pdu: { readonly eventId: EventId; readonly json: string },
  destinations: Iterable<ServerName>,
): Promise<void> {
  await tx.run(
    'INSERT INTO outbox_pdus (event_id, json) VALUES (?, ?) ON CONFLICT (event_id) DO NOTHING',
    pdu.eventId,
    pdu.json,
  );
  for (const destination of destinations) {
    await tx.run(
      'INSERT INTO outbox (destination, event_id) VALUES (?, ?) ON CONFLICT (destination, event_id) DO NOTHING',
      destination,
      pdu.eventId,
    );
  }
}

/** The head of a queue, oldest first; with `last`, only up to that position. */
export async function queuedPdus(
  db: Reader,
  destination: ServerName,
  { limit, last = Number.MAX_SAFE_INTEGER }: { readonly limit: number; readonly last?: number },
): Promise<QueuedPdu[]> {
  const rows = await db.all<{ position: number; event_id: string; json: string }>(
    `SELECT position, outbox.event_id AS event_id, json FROM outbox JOIN outbox_pdus ON outbox_pdus.event_id = outbox.event_id
     WHERE destination = ? AND position <= ? ORDER BY position LIMIT ?`,
    destination,
    last,
    limit,
  );
  return rows.map((row) => ({ position: row.position, eventId: row.event_id as EventId, json: row.json }));
}

/** Removes what a destination has taken or is not to be sent any more, and the PDUs that nobody waits for any more. */
export async function dequeuePdus(
  tx: Transaction,
  destination: ServerName,
  pdus: readonly QueuedPdu[],
): Promise<void> {
  for (const { position, eventId } of pdus) {
    await tx.run('DELETE FROM outbox WHERE position = ? AND destination = ?', position, destination);
    await tx.run(
      'DELETE FROM outbox_pdus WHERE event_id = ? AND NOT EXISTS (SELECT 1 FROM outbox WHERE event_id = ?)',
      eventId,
      eventId,
    );
  }
}

/** Every destination that something waits for, by name. */
export async function waitingDestinations(db: Reader): Promise<ServerName[]> {
  const rows = await db.all<{ destination: string }>(
    'SELECT DISTINCT destination FROM outbox ORDER BY destination',
  );
  return rows.map((row) => row.destination as ServerName);
}
