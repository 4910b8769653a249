import type { Millis } from '../base/time.ts';
import type { ServerName } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

/** Answers kept for one server. A server sends one transaction after another, so that the last one would do. */
const MAX_ANSWERS_PER_ORIGIN = 100;
/** How long an answer is kept at most. */
const ANSWER_LIFETIME_MS: Millis = 30 * 24 * 60 * 60 * 1000;

/** The answer that a transaction got, JSON text, or undefined where it has not been processed. */
export async function storedAnswer(
  db: Reader,
  origin: ServerName,
  txnId: string,
): Promise<string | undefined> {
  const row = await db.get<{ response: string }>(
    'SELECT response FROM federation_transactions WHERE origin = ? AND txn_id = ?',
    origin,
    txnId,
  );
  return row?.response;
}

/** Stores an answer and forgets those that are too old or too many. */
export async function storeAnswer(
  tx: Transaction,
  origin: ServerName,
  answer: { readonly txnId: string; readonly response: string; readonly received: Millis },
): Promise<void> {
  await tx.run(
    `INSERT INTO federation_transactions (origin, txn_id, response, received) VALUES (?, ?, ?, ?)
     ON CONFLICT (origin, txn_id) DO NOTHING`,
    origin,
    answer.txnId,
    answer.response,
    answer.received,
  );
  await tx.run(
    `DELETE FROM federation_transactions WHERE origin = ? AND id <= (
       SELECT id FROM federation_transactions WHERE origin = ? ORDER BY id DESC LIMIT 1 OFFSET ?)`,
    origin,
    origin,
    MAX_ANSWERS_PER_ORIGIN,
  );
  await tx.run(
    'DELETE FROM federation_transactions WHERE received < ?',
    answer.received - ANSWER_LIFETIME_MS,
  );
}
