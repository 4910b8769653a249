import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { migrate } from '../../src/storage/migrate.ts';
import { openSqlite, type SqliteDatabase } from '../../src/storage/sqlite.ts';

/** A folder that goes away with the test. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'ravine-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A new database with the whole schema, closed and deleted when the test ends. Call it inside a test or beforeEach. */
export function temporaryDatabase(): SqliteDatabase {
  const path = join(temporaryFolder(), 'ravine.db');
  migrate(path);
  const database = openSqlite({ path, durability: 'off' });
  onTestFinished(() => database.close());
  return database;
}
