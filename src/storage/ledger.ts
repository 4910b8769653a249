import type { Millis } from '../base/time.ts';
import type { Reader, SqlValue, Transaction } from './database.ts';

/** Requests of one peer that are kept; of more, those that came first go. */
export const MAX_REQUESTS = 4_096;
/** Requests of all peers that are kept, so that new peers without number leave no more than this. */
export const MAX_REQUESTS_OF_ALL = 262_144;
/** How long a request is kept at most. */
export const KEPT_MS: Millis = 30 * 24 * 60 * 60 * 1000;
/** How long it is known that requests of a session are gone: no copy of one is still under way after so long. */
const FLOOR_KEPT_MS: Millis = 2 * KEPT_MS;
/** Sessions of one peer of which that is known, the newest; of a session before them everything is gone. */
export const MAX_FLOORS = 256;
/** Of those of all peers, so many go at a time. */
const SHED_REQUESTS = 4_096;
/** Sessions of all peers of which that is known. It takes longer to fill than a copy of a request can be under way. */
const MAX_FLOORS_OF_ALL = 262_144;

/** Names a request: who asked, and the id of the message (base/message_id.ts). */
export interface LedgerKey {
  /** With the link, since generations are told apart on one link only. */
  readonly peer: string;
  readonly generation: number;
  readonly number: number;
}

/** What the ledger has of a request. */
export type LedgerRow =
  /** Nothing: nothing has come of it. */
  | { readonly kind: 'new' }
  /** Some of its steps are done: their outcomes, JSON text, by name. */
  | { readonly kind: 'begun'; readonly digest: Uint8Array; readonly steps: ReadonlyMap<string, string> }
  /** It is done. The answer is JSON text; null where it was too long to be kept. */
  | { readonly kind: 'answered'; readonly digest: Uint8Array; readonly answer: string | null }
  /** It may have been there. */
  | { readonly kind: 'gone' };

/** Looks a request up. */
export async function ledgerRow(reader: Reader, key: LedgerKey): Promise<LedgerRow> {
  const { peer, generation, number } = key;
  const row = await reader.get<{ id: number; digest: Uint8Array; answered: number; answer: string | null }>(
    'SELECT id, digest, answered, answer FROM ledger_requests WHERE peer = ? AND generation = ? AND number = ?',
    peer,
    generation,
    number,
  );
  if (row === undefined) {
    const floor = await reader.get<{ number: number }>(
      'SELECT number FROM ledger_floors WHERE peer = ? AND generation = ?',
      peer,
      generation,
    );
    if (floor !== undefined) return { kind: number <= floor.number ? 'gone' : 'new' };
    const oldest = await oldestFloor(reader, peer);
    return { kind: oldest !== undefined && generation < oldest ? 'gone' : 'new' };
  }
  if (row.answered === 1) return { kind: 'answered', digest: row.digest, answer: row.answer };
  const steps = await reader.all<{ name: string; outcome: string }>(
    'SELECT name, outcome FROM ledger_steps WHERE request = ?',
    row.id,
  );
  const byName = new Map(steps.map(({ name, outcome }) => [name, outcome]));
  return { kind: 'begun', digest: row.digest, steps: byName };
}

/** The generation of the oldest session that is known of, of a peer with as many as there may be. */
async function oldestFloor(reader: Reader, peer: string): Promise<number | undefined> {
  const row = await reader.get<{ generation: number }>(
    'SELECT generation FROM ledger_floors WHERE peer = ? ORDER BY generation DESC LIMIT 1 OFFSET ?',
    peer,
    MAX_FLOORS - 1,
  );
  return row?.generation;
}

/** What a request is, and when: Unix time in milliseconds. */
export interface LedgerRequest extends LedgerKey {
  /** Of what is asked for. */
  readonly digest: Uint8Array;
  readonly now: Millis;
}

/** Writes that a step of a request is done. @param outcome JSON text */
export async function putStep(
  tx: Transaction,
  request: LedgerRequest,
  name: string,
  outcome: string,
): Promise<void> {
  const id = await rowOf(tx, request);
  await tx.run('INSERT INTO ledger_steps (request, name, outcome) VALUES (?, ?, ?)', id, name, outcome);
}

/** Writes that a request is done. @param answer JSON text, or null where it is too long */
export async function putAnswer(
  tx: Transaction,
  request: LedgerRequest,
  answer: string | null,
): Promise<void> {
  const id = await rowOf(tx, request);
  await tx.run('UPDATE ledger_requests SET answered = 1, answer = ? WHERE id = ?', answer, id);
  await tx.run('DELETE FROM ledger_steps WHERE request = ?', id);
}

/** The row of a request, which is made where there is none; then those that are too many or too old go. */
async function rowOf(tx: Transaction, request: LedgerRequest): Promise<number> {
  const { peer, generation, number, digest, now } = request;
  const added = await tx.run(
    `INSERT INTO ledger_requests (peer, generation, number, digest, begun) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT (peer, generation, number) DO NOTHING`,
    peer,
    generation,
    number,
    digest,
    now,
  );
  if (added === 1) await thin(tx, peer, now);
  const row = await tx.get<{ id: number }>(
    'SELECT id FROM ledger_requests WHERE peer = ? AND generation = ? AND number = ?',
    peer,
    generation,
    number,
  );
  return row!.id;
}

async function thin(tx: Transaction, peer: string, now: Millis): Promise<void> {
  const tooMany = await tx.get<{ id: number }>(
    'SELECT id FROM ledger_requests WHERE peer = ? ORDER BY id DESC LIMIT 1 OFFSET ?',
    peer,
    MAX_REQUESTS,
  );
  if (tooMany !== undefined) {
    await forget(tx, now, 'peer = ? AND id <= ?', peer, tooMany.id);
    // A peer may name its requests by any session: else each of them would leave a row behind.
    const oldest = await oldestFloor(tx, peer);
    if (oldest !== undefined)
      await tx.run('DELETE FROM ledger_floors WHERE peer = ? AND generation < ?', peer, oldest);
  }
  const old = await tx.get('SELECT 1 FROM ledger_requests WHERE begun < ? LIMIT 1', now - KEPT_MS);
  if (old !== undefined) await forget(tx, now, 'begun < ?', now - KEPT_MS);
  await thinAll(tx, now);
  await tx.run('DELETE FROM ledger_floors WHERE raised < ?', now - FLOOR_KEPT_MS);
}

/** The same over all peers, some at a time. */
async function thinAll(tx: Transaction, now: Millis): Promise<void> {
  // Ids are given in order, so that there are at most as many requests as ids from the first to the last.
  const ids = await tx.get<{ first: number; last: number }>(
    'SELECT (SELECT min(id) FROM ledger_requests) AS first, (SELECT max(id) FROM ledger_requests) AS last',
  );
  if (ids === undefined || ids.last - ids.first < MAX_REQUESTS_OF_ALL) return;
  await forget(tx, now, 'id <= ?', ids.last - MAX_REQUESTS_OF_ALL + SHED_REQUESTS);
  const tooMany = await tx.get<{ raised: number }>(
    'SELECT raised FROM ledger_floors ORDER BY raised DESC LIMIT 1 OFFSET ?',
    MAX_FLOORS_OF_ALL,
  );
  if (tooMany !== undefined) await tx.run('DELETE FROM ledger_floors WHERE raised <= ?', tooMany.raised);
}

/** Removes requests, and keeps in mind that they are gone. */
async function forget(
  tx: Transaction,
  now: Millis,
  where: string,
  ...params: readonly SqlValue[]
): Promise<void> {
  await tx.run(
    `INSERT INTO ledger_floors (peer, generation, number, raised)
     SELECT peer, generation, max(number), ? FROM ledger_requests WHERE ${where} GROUP BY peer, generation
     ON CONFLICT (peer, generation) DO UPDATE SET number = max(number, excluded.number), raised = excluded.raised`,
    now,
    ...params,
  );
  await tx.run(`DELETE FROM ledger_requests WHERE ${where}`, ...params);
}
