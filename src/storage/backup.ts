import { closeSync, existsSync, fsyncSync, openSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import Connection from 'better-sqlite3';
import { checkSchema } from './migrate.ts';

/**
 * What a copy is made without: whoever has the keys of a session can speak as this server; and a one-time key that is given
 * away after the copy would be given away again by who goes on from it. Their devices upload others.
 */
const LEFT_OUT: readonly string[] = ['pipe_sessions', 'one_time_keys'];

/**
 * By how much the delivery stream of a copy is ahead: a server that goes on from it gives no position again that clients have in
 * their tokens from after the copy, so what comes then is behind all of these, and nothing is skipped.
 */
const POSITIONS_AHEAD = 1_000_000_000;

/** Rows between two reports of progress. */
const ROWS_PER_REPORT = 10_000;

/** A backup that was not made, or is not good; the message says why. */
export class BackupError extends Error {
  override name = 'BackupError';
}

export interface BackupReport {
  /** Rows by table, in the order of their names. */
  readonly rows: ReadonlyMap<string, number>;
  readonly leftOut: readonly string[];
}

interface Table {
  readonly name: string;
  readonly columns: readonly string[];
  readonly isLeftOut: boolean;
  /** Whether it belongs to a virtual table. */
  readonly isShadow: boolean;
}

type Value = string | bigint | number | null | Buffer;

/**
 * Copies a database, which a server may go on writing, as it is at one instant, row by row: what is left out, and what is
 * in free pages, is never written. The copy is checked and synced, readable by its owner only, and bears its name when it is
 * whole.
 * @param source a database file of this program's schema
 * @param target a file that does not exist
 * @param progress told how many rows of how many are copied
 * @throws BackupError where there is such a file already, or the copy is not what was read
 */
export function backupDatabase(
  source: string,
  target: string,
  progress: (done: number, all: number) => void = () => undefined,
): BackupReport {
  const partial = `${target}.partial`;
  if (existsSync(target)) throw new BackupError(`${target} exists already: a backup overwrites nothing.`);
  let made = false;
  try {
    closeSync(openSync(partial, 'wx', 0o600));
    made = true;
    const report = copyDatabase(source, partial, progress);
    checkCopy(partial, report);
    sync(partial);
    if (existsSync(target)) throw new BackupError(`${target} has come into being meanwhile.`);
    renameSync(partial, target);
    sync(dirname(target));
    return report;
  } catch (error) {
    if (made) rmSync(partial, { force: true });
    if (!made && isExisting(error))
      throw new BackupError(
        `${partial} exists: another backup is under way, or was interrupted; remove it then.`,
      );
    throw error;
  }
}

const isExisting = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && error.code === 'EEXIST';

function copyDatabase(
  source: string,
  target: string,
  progress: (done: number, all: number) => void,
): BackupReport {
  const from = new Connection(source, { readonly: true, fileMustExist: true });
  const to = new Connection(target);
  try {
    from.defaultSafeIntegers();
    // Everything is read as it is now.
    from.exec('BEGIN');
    for (const pragma of ['page_size', 'user_version', 'application_id'])
      to.pragma(`${pragma} = ${from.pragma(pragma, { simple: true })}`);
    // Nobody else has the file, and it is thrown away where this fails.
    to.pragma('journal_mode = OFF');
    to.pragma('synchronous = OFF');
    // Tables come in the order of their names; the whole is checked in the end.
    to.pragma('foreign_keys = OFF');
    // What an index of words is kept in is copied as it is, which SQLite allows nobody who has not said so.
    to.unsafeMode();
    const tables = tablesOf(from);
    to.exec('BEGIN');
    // An index of words makes the tables that it is kept in itself.
    const made = tables.filter(({ isShadow }) => isShadow).map(({ name }) => name);
    for (const sql of schemaOf(
      from,
      `type = 'table' AND name NOT IN (${made.map((name) => `'${name}'`).join()})`,
    ))
      to.exec(sql);
    for (const name of made) to.exec(`DELETE FROM "${name}"`);
    const rows = copyRows(from, to, tables, progress);
    to.exec(`UPDATE stream SET position = position + ${POSITIONS_AHEAD}`);
    // What clients have heard of keys since the copy is not so any more: they ask again.
    to.exec('UPDATE device_lists SET position = (SELECT position FROM stream)');
    for (const sql of schemaOf(from, "type <> 'table'")) to.exec(sql);
    to.exec('COMMIT');
    return { rows, leftOut: LEFT_OUT };
  } finally {
    to.close();
    from.close();
  }
}

/** The statements that made what is in a schema; what SQLite makes by itself has none. */
const schemaOf = (connection: Connection.Database, condition: string): string[] =>
  connection
    .prepare<[], string>(
      `SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND ${condition} ORDER BY rowid`,
    )
    .pluck()
    .all();

function tablesOf(connection: Connection.Database): Table[] {
  const all = connection
    .prepare<[], { name: string; type: string; wr: bigint }>(
      `SELECT name, type, wr FROM pragma_table_list
       WHERE schema = 'main' AND type IN ('table', 'shadow') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name`,
    )
    .all();
  return all.map(({ name, type, wr }) => {
    const columns = connection
      .prepare<[string], string>('SELECT name FROM pragma_table_info(?)')
      .pluck()
      .all(name);
    return {
      name,
      columns: [...(wr === 0n ? ['rowid'] : []), ...columns].map((column) => `"${column}"`),
      isLeftOut: LEFT_OUT.includes(name),
      isShadow: type === 'shadow',
    };
  });
}

function copyRows(
  from: Connection.Database,
  to: Connection.Database,
  tables: readonly Table[],
  progress: (done: number, all: number) => void,
): Map<string, number> {
  const copied = tables.filter(({ isLeftOut }) => !isLeftOut);
  const all = copied.reduce((sum, { name }) => sum + countOf(from, name), 0);
  const rows = new Map(tables.map(({ name }) => [name, 0]));
  let done = 0;
  progress(done, all);
  for (const { name, columns } of copied) {
    const insert = to.prepare<Value[]>(
      `INSERT INTO "${name}" (${columns.join(', ')}) VALUES (${columns.map(() => '?').join(', ')})`,
    );
    const select = from.prepare<[], Value[]>(`SELECT ${columns.join(', ')} FROM "${name}"`).raw();
    for (const row of select.iterate()) {
      insert.run(...row);
      rows.set(name, rows.get(name)! + 1);
      if (++done % ROWS_PER_REPORT === 0) progress(done, all);
    }
  }
  progress(done, all);
  return rows;
}

const countOf = (connection: Connection.Database, table: string): number =>
  Number(connection.prepare<[], number>(`SELECT count(*) FROM "${table}"`).pluck().get());

/** @throws BackupError, or MigrationError */
function checkCopy(path: string, { rows }: BackupReport): void {
  checkSchema(path);
  const connection = new Connection(path, { readonly: true, fileMustExist: true });
  try {
    const problems = [
      ...(connection.pragma('integrity_check') as { integrity_check: string }[])
        .map((line) => line.integrity_check)
        .filter((line) => line !== 'ok'),
      ...(connection.pragma('foreign_key_check') as { table: string }[]).map(
        ({ table }) => `${table}: a row points to one that is not there`,
      ),
      ...[...rows]
        .filter(([table, expected]) => countOf(connection, table) !== expected)
        .map(([table]) => `${table}: rows are missing`),
    ];
    if (problems.length > 0) throw new BackupError(`The copy is not good: ${problems[0]}`);
  } finally {
    connection.close();
  }
}

function sync(path: string): void {
  const file = openSync(path, 'r');
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
