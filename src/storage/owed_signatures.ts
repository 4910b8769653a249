import type { EventId, ServerName } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

/** A signature that a destination has not been sent yet. */
export interface OwedSignature {
  readonly eventId: EventId;
  /** The event's, 32 bytes. */
  readonly referenceHash: Uint8Array;
  /** 64 bytes. */
  readonly signature: Uint8Array;
}

/** Notes what is owed; what is noted already stays. @returns how many are new */
export async function putOwed(
  tx: Transaction,
  destination: ServerName,
  owed: readonly OwedSignature[],
): Promise<number> {
  let added = 0;
  for (const { eventId, referenceHash, signature } of owed) {
    added += await tx.run(
      `INSERT INTO owed_signatures (destination, event_id, reference_hash, signature) VALUES (?, ?, ?, ?)
       ON CONFLICT (destination, event_id) DO NOTHING`,
      destination,
      eventId,
      referenceHash,
      signature,
    );
  }
  return added;
}

export async function dropOwed(
  tx: Transaction,
  destination: ServerName,
  ids: readonly EventId[],
): Promise<void> {
  for (const id of ids)
    await tx.run('DELETE FROM owed_signatures WHERE destination = ? AND event_id = ?', destination, id);
}

/** The oldest of what is owed for events that the destination has answered for. */
export async function dueSignatures(
  db: Reader,
  destination: ServerName,
  limit: number,
): Promise<OwedSignature[]> {
  const rows = await db.all<{ event_id: string; reference_hash: Uint8Array; signature: Uint8Array }>(
    `SELECT event_id, reference_hash, signature FROM owed_signatures s WHERE destination = ? AND NOT EXISTS (
       SELECT 1 FROM outbox o WHERE o.destination = s.destination AND o.event_id = s.event_id) ORDER BY id LIMIT ?`,
    destination,
    limit,
  );
  return rows.map((row) => ({
    eventId: row.event_id as EventId,
    referenceHash: Uint8Array.from(row.reference_hash),
    signature: Uint8Array.from(row.signature),
  }));
}

/** How many signatures a destination is owed. */
export async function countOwed(db: Reader, destination: ServerName): Promise<number> {
  const row = await db.get<{ count: number }>(
    'SELECT COUNT(*) AS count FROM owed_signatures WHERE destination = ?',
    destination,
  );
  return row!.count;
}

export async function owedDestinations(db: Reader): Promise<ServerName[]> {
  const rows = await db.all<{ destination: string }>(
    'SELECT DISTINCT destination FROM owed_signatures ORDER BY destination',
  );
  return rows.map((row) => row.destination as ServerName);
}
