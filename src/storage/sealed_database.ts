import Connection from 'better-sqlite3';
import { utf8 } from '../base/bytes.ts';
import { alone } from './alone.ts';
import type { SqlValue } from './database.ts';
import { IN_CLEAR, SECRET_TABLES, type Sealing, SealingError, type SecretPlace } from './sealing.ts';

const PROOF_PLACE: SecretPlace = ['sealing', 'proof'];
const PROOF = utf8('ravine');

/** Whether the secrets of a database file are sealed. */
export function isSealed(path: string): boolean {
  return reading(path, (connection) => proofOf(connection) !== undefined);
}

/** @throws SealingError where the secrets of a file are sealed by another key */
export function checkSealing(path: string, sealing: Sealing): void {
  const proof = reading(path, proofOf);
  if (proof !== undefined) sealing.open(PROOF_PLACE, proof.proof);
}

/**
 * Seals all secrets of a database file in another way, in one transaction, and erases from the file and its log what was
 * there before. Whoever dies in between has the one or the other; the next call of `finishErasure` erases the rest.
 * @param from how they are sealed now; `to`: how they are to be
 * @throws SealingError where somebody else has the file open, or `from` is wrong; then nothing is changed
 */
export function changeSealing(path: string, from: Sealing, to: Sealing): void {
  alone(path, inUse, (connection) => {
    connection.transaction(() => {
      const proof = proofOf(connection);
      if (proof !== undefined) from.open(PROOF_PLACE, proof.proof);
      for (const table of SECRET_TABLES) rewrite(connection, table, from, to);
      connection.exec('DELETE FROM sealing');
      if (to === IN_CLEAR) return;
      connection
        .prepare('INSERT INTO sealing (only, proof, erased) VALUES (1, ?, 0)')
        .run(to.seal(PROOF_PLACE, PROOF));
    })();
    eraseRest(connection);
  });
}

/** Erases what a `changeSealing` that was interrupted has left behind. */
export function finishErasure(path: string): void {
  if (reading(path, proofOf)?.erased === 0) alone(path, inUse, eraseRest);
}

const inUse = (sentence: string): Error => new SealingError(sentence);

interface Proof {
  readonly proof: Uint8Array;
  readonly erased: number;
}

const proofOf = (connection: Connection.Database): Proof | undefined =>
  connection.prepare<[], Proof>('SELECT proof, erased FROM sealing').get();

function rewrite(
  connection: Connection.Database,
  { table, row, secrets }: (typeof SECRET_TABLES)[number],
  from: Sealing,
  to: Sealing,
): void {
  const where = row.map((column) => `${column} = ?`).join(' AND ');
  for (const column of secrets) {
    const all = connection.prepare<[], Record<string, string | number | Uint8Array>>(
      `SELECT ${row.join(', ')}, ${column} FROM ${table}`,
    );
    const update = connection.prepare<SqlValue[]>(`UPDATE ${table} SET ${column} = ? WHERE ${where}`);
    for (const found of all.all()) {
      const names = row.map((name) => found[name] as string | number);
      const place: SecretPlace = [table, column, ...names];
      update.run(to.seal(place, from.open(place, found[column] as Uint8Array)), ...names);
    }
  }
}

/** Rebuilds the file, since what is overwritten in a page may have been moved there before, and empties the log. */
function eraseRest(connection: Connection.Database): void {
  connection.exec('VACUUM');
  connection.pragma('wal_checkpoint(TRUNCATE)');
  connection.exec('UPDATE sealing SET erased = 1');
}

function reading<T>(path: string, read: (connection: Connection.Database) => T): T {
  const connection = new Connection(path, { readonly: true, fileMustExist: true });
  try {
    return read(connection);
  } finally {
    connection.close();
  }
}
