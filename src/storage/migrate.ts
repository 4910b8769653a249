import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import Connection from 'better-sqlite3';
import { assert } from '../base/assert.ts';
import { packOldState } from './pack_old_state.ts';
import { protectFile } from './sqlite.ts';

/** One step of the schema: the file `migrations/NNNN_name.sql`. */
export interface Migration {
  readonly version: number;
  readonly name: string;
  readonly sql: string;
  /** What SQL cannot carry over: runs after it, within the same transaction. */
  readonly convert?: (connection: Connection.Database, progress: Progress) => void;
}

interface Applied {
  readonly version: number;
  readonly name: string;
  readonly sha256: string;
}

/** The database cannot be used with this version of the program; an operator has to decide. */
export class MigrationError extends Error {
  override name = 'MigrationError';
}

/** Told how far a conversion has come, for people: done out of all. */
export type Progress = (what: string, done: number, of: number) => void;

/** `Migration.convert` by the migrations' numbers. */
const CONVERSIONS: ReadonlyMap<number, NonNullable<Migration['convert']>> = new Map([[13, packOldState]]);

const FILE_NAME = /^(\d{4})_([a-z0-9_]+)\.sql$/;

const SHIPPED = new URL('../../migrations/', import.meta.url);

/** Reads the migrations of a folder, in order. @throws MigrationError where a file is named otherwise or a number comes twice. */
export function readMigrations(folder: URL = SHIPPED): Migration[] {
  const migrations: Migration[] = [];
  for (const file of readdirSync(folder)
    .filter((name) => name.endsWith('.sql'))
    .sort()) {
    const [, version, name] = FILE_NAME.exec(file) ?? [];
    if (version === undefined || name === undefined) throw new MigrationError(`${file} is not NNNN_name.sql`);
    if (migrations.at(-1)?.version === Number(version)) throw new MigrationError(`${version} is there twice`);
    const convert = folder === SHIPPED ? CONVERSIONS.get(Number(version)) : undefined;
    migrations.push({
      ...{ version: Number(version), name, sql: readFileSync(new URL(file, folder), 'utf8') },
      ...(convert && { convert }),
    });
  }
  return migrations;
}

/**
 * Brings a database file to the schema of this program, all or nothing, and creates it where it does not exist.
 * @throws MigrationError where the file is newer than the program, or a migration that was applied has changed since.
 */
export function migrate(
  path: string,
  migrations: readonly Migration[] = readMigrations(),
  progress: Progress = () => {},
): void {
  protectFile(path);
  const connection = new Connection(path);
  try {
    connection.pragma('journal_mode = WAL');
    connection.pragma('synchronous = FULL');
    // A migration may rebuild a table that others point to; all references are checked before the commit.
    connection.pragma('foreign_keys = OFF');
    connection.transaction(() => applyPending(connection, migrations, progress)).exclusive();
  } finally {
    connection.close();
  }
}

/**
 * Checks that a database file has just the schema of this program, and changes nothing.
 * @throws MigrationError where it has not
 */
export function checkSchema(path: string, migrations: readonly Migration[] = readMigrations()): void {
  const connection = new Connection(path, { readonly: true, fileMustExist: true });
  try {
    const applied = appliedTo(connection);
    applied.forEach((row, at) => {
      checkApplied(row, migrations[at], migrations);
    });
    if (applied.length < migrations.length)
      throw new MigrationError('the database is of an older version of the program: start the server once');
  } finally {
    connection.close();
  }
}

const appliedTo = (connection: Connection.Database): Applied[] =>
  connection
    .prepare<[], Applied>('SELECT version, name, sha256 FROM schema_migrations ORDER BY version')
    .all();

function applyPending(
  connection: Connection.Database,
  migrations: readonly Migration[],
  progress: Progress,
): void {
  connection.exec(
    'CREATE TABLE IF NOT EXISTS schema_migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL)',
  );
  const applied = appliedTo(connection);
  applied.forEach((row, at) => {
    checkApplied(row, migrations[at], migrations);
  });

  const record = connection.prepare('INSERT INTO schema_migrations (version, name, sha256) VALUES (?, ?, ?)');
  for (const migration of migrations.slice(applied.length)) {
    connection.exec(migration.sql);
    migration.convert?.(connection, progress);
    assert(connection.inTransaction, `migration ${migration.name} leaves the transaction open`);
    record.run(migration.version, migration.name, sha256(migration.sql));
  }
  const dangling = connection.pragma('foreign_key_check') as readonly unknown[];
  if (dangling.length > 0)
    throw new MigrationError(`${dangling.length} rows point to rows that are not there`);
}

/** Checks that what the file has at one place is what the program has at the same place. */
function checkApplied(row: Applied, migration: Migration | undefined, all: readonly Migration[]): void {
  if (row.version > (all.at(-1)?.version ?? 0)) {
    throw new MigrationError(`the database has migration ${row.version}, which is newer than this program`);
  }
  if (
    migration?.version !== row.version ||
    migration.name !== row.name ||
    sha256(migration.sql) !== row.sha256
  ) {
    throw new MigrationError(
      `migration ${row.version} (${row.name}) is not what was applied to this database`,
    );
  }
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
