import { statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  checkSchema,
  type Migration,
  MigrationError,
  migrate,
  readMigrations,
} from '../../src/storage/migrate.ts';
import { openSqlite } from '../../src/storage/sqlite.ts';
import { temporaryFolder } from './temporary_database.ts';

const one: Migration = { version: 1, name: 'one', sql: 'CREATE TABLE a (x); INSERT INTO a VALUES (1);' };
const two: Migration = {
  version: 2,
  name: 'two',
  sql: 'ALTER TABLE a ADD COLUMN y; UPDATE a SET y = x + 1;',
};

const newPath = (): string => join(temporaryFolder(), 'test.db');

async function query<R>(path: string, sql: string): Promise<R[]> {
  const database = openSqlite({ path, durability: 'off' });
  try {
    return await database.all<R>(sql);
  } finally {
    await database.close();
  }
}

describe('migrate', () => {
  test('creates a database that only its owner reads, with everything that the program ships', async () => {
    const path = newPath();
    migrate(path);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    const tables = await query<{ name: string }>(path, "SELECT name FROM sqlite_master WHERE type = 'table'");
    expect(tables.map((table) => table.name)).toEqual(expect.arrayContaining(['users', 'devices', 'rooms']));
    const applied = await query<{ version: number }>(
      path,
      'SELECT version FROM schema_migrations ORDER BY version',
    );
    expect(applied.map((row) => row.version)).toEqual(readMigrations().map((migration) => migration.version));
  });

  test('applies only what is new, in order', async () => {
    const path = newPath();
    migrate(path, [one]);
    migrate(path, [one, two]);
    migrate(path, [one, two]);
    expect(await query(path, 'SELECT x, y FROM a')).toEqual([{ x: 1, y: 2 }]);
  });

  test('leaves the file as it was where one of several fails', async () => {
    const path = newPath();
    migrate(path, [one]);
    const broken: Migration = {
      version: 3,
      name: 'broken',
      sql: 'CREATE TABLE b (x); SELECT * FROM nowhere;',
    };
    expect(() => migrate(path, [one, two, broken])).toThrow(/nowhere/);
    expect(await query(path, 'SELECT * FROM a')).toEqual([{ x: 1 }]);
    expect(await query(path, 'SELECT version FROM schema_migrations')).toEqual([{ version: 1 }]);
  });

  test('refuses a file that is newer than the program', () => {
    const path = newPath();
    migrate(path, [one, two]);
    expect(() => migrate(path, [one])).toThrow(
      new MigrationError('the database has migration 2, which is newer than this program'),
    );
  });

  test.each<[string, Migration[]]>([
    ['text', [{ ...one, sql: `${one.sql} ` }, two]],
    ['name', [{ ...one, name: 'uno' }, two]],
    ['place, by one put in between', [one, { version: 2, name: 'other', sql: '' }, { ...two, version: 3 }]],
  ])('refuses where an applied migration has another %s now', (_, migrations) => {
    const path = newPath();
    migrate(path, [one, two]);
    expect(() => migrate(path, migrations)).toThrow(MigrationError);
  });

  test('refuses a migration that leaves references to nothing', () => {
    const dangling: Migration = {
      version: 1,
      name: 'dangling',
      sql: 'CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p INTEGER REFERENCES p (id)); INSERT INTO c VALUES (7);',
    };
    expect(() => migrate(newPath(), [dangling])).toThrow('1 rows point to rows that are not there');
  });
});

test('checkSchema takes a file of just this schema, and changes none', async () => {
  const path = newPath();
  migrate(path, [one]);
  checkSchema(path, [one]);
  expect(() => checkSchema(path, [one, two])).toThrow(MigrationError);
  expect(() => checkSchema(path, [])).toThrow(/newer than this program/);
  expect(await query(path, 'SELECT version FROM schema_migrations')).toEqual([{ version: 1 }]);
  expect(() => checkSchema(newPath(), [one])).toThrow();
});
