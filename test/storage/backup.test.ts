import { chmodSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import Connection from 'better-sqlite3';
import { expect, onTestFinished, test } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { backupDatabase } from '../../src/storage/backup.ts';
import { migrate } from '../../src/storage/migrate.ts';
import { pipeSessionStore } from '../../src/storage/pipe_sessions.ts';
import { IN_CLEAR } from '../../src/storage/sealing.ts';
import { openSqlite, type SqliteDatabase } from '../../src/storage/sqlite.ts';
import { pipeSession } from './pipe_session.ts';
import { temporaryFolder } from './temporary_database.ts';

const random = seededRandom(1);

interface Running {
  readonly path: string;
  readonly database: SqliteDatabase;
  /** Where a copy may go. */
  readonly target: string;
  readonly secrets: readonly Uint8Array[];
}

/** A database that is in use, with sessions and with rows of odd values. */
async function running(): Promise<Running> {
  const path = join(temporaryFolder(), 'ravine.db');
  migrate(path);
  const database = openSqlite({ path, durability: 'off' });
  onTestFinished(() => database.close());
  const rows = Array.from({ length: 30 }, (_, i) => pipeSession(random, i));
  await pipeSessionStore(database, IN_CLEAR, 'udp').commit(
    rows.map((row) => ({ kind: 'session', row }) as const),
  );
  await database.transaction(async (tx) => {
    for (const [name, value] of [
      ['server_name', 'a.example'],
      ['empty', ''],
      ['a\u0000b', '\u{1f600} "\'; --'],
    ] as const)
      await tx.run('INSERT INTO server_facts VALUES (?, ?)', name, value);
    // Rows that point to others, in tables whose names come later.
    await tx.run("INSERT INTO users (user_id, created) VALUES ('@a:a.example', 1)");
    await tx.run("INSERT INTO devices (user_id, device_id, created) VALUES ('@a:a.example', 'D', 1)");
    await tx.run(
      `INSERT INTO one_time_keys (user_id, device_id, algorithm, key_id, key, hash)
       VALUES ('@a:a.example', 'D', 'x', '1', '"key"', x'00')`,
    );
    await tx.run("INSERT INTO device_lists (user_id, position) VALUES ('@a:a.example', 5)");
    // More than a double holds, as a text that SQLite makes an integer of.
    await tx.run("UPDATE stream SET position = CAST('9007199254740993' AS INTEGER)");
    await tx.run("INSERT INTO event_search (rowid, body) VALUES (7, 'the ferry leaves')");
    await tx.run(
      'INSERT INTO own_keys VALUES (?, ?, ?, ?)',
      ...['signing', 'ed25519:1', random.bytes(32), 5],
    );
  });
  const secrets = rows.flatMap(({ send, receive }) => [send.secret, receive.secret]);
  return { path, database, target: join(temporaryFolder(), 'copy.db'), secrets };
}

/** All rows of all tables, as text with the types of the values. */
function contentOf(path: string): Map<string, string[]> {
  const connection = new Connection(path, { readonly: true });
  connection.defaultSafeIntegers();
  const tables = connection
    .prepare<[], string>("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
    .pluck()
    .all();
  const content = tables.map((table): [string, string[]] => {
    const columns = connection
      .prepare<[string], string>('SELECT name FROM pragma_table_info(?)')
      .pluck()
      .all(table);
    const rows = connection
      .prepare<[], string[]>(
        `SELECT ${columns.map((column) => `typeof("${column}") || quote("${column}")`)} FROM "${table}"`,
      )
      .raw()
      .all();
    return [table, rows.map((row) => row.join()).sort()];
  });
  connection.close();
  return new Map(content);
}

const schemaOf = (path: string): unknown[] => {
  const connection = new Connection(path, { readonly: true });
  const all = connection
    .prepare('SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name')
    .all();
  connection.close();
  return all;
};

test('a backup has every row of a database in use but for sessions and one-time keys, and the same schema', async () => {
  const { path, target } = await running();
  const report = backupDatabase(path, target);
  const [there, copied] = [contentOf(path), contentOf(target)];
  expect(there.get('pipe_sessions')).toHaveLength(30);
  expect(copied.get('pipe_sessions')).toEqual([]);
  there.set('pipe_sessions', []);
  // Given away once more, one would be no one-time key.
  expect(there.get('one_time_keys')).toHaveLength(1);
  expect(copied.get('one_time_keys')).toEqual([]);
  there.set('one_time_keys', []);
  // Ahead of every token that a client can have from after the copy.
  expect(there.get('stream')).toEqual(['integer9007199254740993']);
  expect(copied.get('stream')).toEqual(['integer9007200254740993']);
  // So that everybody is told of everybody's keys once more.
  expect(copied.get('device_lists')![0]).toContain('9007200254740993');
  for (const table of ['stream', 'device_lists']) {
    expect(there.delete(table)).toBe(true);
    copied.delete(table);
  }
  expect(copied).toEqual(there);
  expect(schemaOf(target)).toEqual(schemaOf(path));
  expect(report.leftOut).toEqual(['pipe_sessions', 'one_time_keys']);
  expect(report.rows.get('server_facts')).toBe(3);
  // What the next start does with it.
  migrate(target);
});

test('the keys of sessions are in no page of a backup, nor in a file beside it', async () => {
  const { path, target, secrets } = await running();
  backupDatabase(path, target);
  expect(readdirSync(dirname(target))).toEqual(['copy.db']);
  const bytes = readFileSync(target);
  for (const secret of secrets) expect(bytes.includes(Buffer.from(secret))).toBe(false);
});

test('a backup is readable by its owner only, whatever the umask', async () => {
  const { path, target } = await running();
  const umask = process.umask(0);
  onTestFinished(() => void process.umask(umask));
  backupDatabase(path, target);
  expect(statSync(target).mode & 0o777).toBe(0o600);
});

test('a backup overwrites nothing, and leaves nothing where it fails', async () => {
  const { path, target } = await running();
  writeFileSync(target, 'precious');
  expect(() => backupDatabase(path, target)).toThrow('exists already: a backup overwrites nothing');
  expect(readFileSync(target, 'utf8')).toBe('precious');
  const second = join(temporaryFolder(), 'copy.db');
  writeFileSync(`${second}.partial`, 'under way');
  expect(() => backupDatabase(path, second)).toThrow('another backup is under way, or was interrupted');
  expect(readFileSync(`${second}.partial`, 'utf8')).toBe('under way');
  const third = join(temporaryFolder(), 'copy.db');
  const fail = (): never => {
    throw new Error('the disk is full');
  };
  expect(() => backupDatabase(path, third, fail)).toThrow('the disk is full');
  expect(readdirSync(dirname(third))).toEqual([]);
});

test('what is found by its words is found in the copy', async () => {
  const { path, target } = await running();
  backupDatabase(path, target);
  const copy = new Connection(target, { readonly: true });
  const found = copy.prepare("SELECT rowid FROM event_search WHERE event_search MATCH 'ferry'").pluck().all();
  copy.close();
  expect(found).toEqual([7]);
});

test('a backup is of one instant: what is written while it is made is not in it, and nobody waits for it', async () => {
  const { path, database, target } = await running();
  let write: Promise<number> | undefined;
  const steps: number[] = [];
  backupDatabase(path, target, (done, all) => {
    steps.push(done / all);
    // The statement runs when the copy is made; one on another connection can run at once.
    const other = new Connection(path);
    other.prepare('INSERT INTO server_facts VALUES (?, ?)').run(`during ${steps.length}`, 'x');
    other.close();
    write ??= database.transaction((tx) => tx.run("INSERT INTO server_facts VALUES ('late', 'x')"));
  });
  await write;
  expect(steps).toEqual([0, 1]);
  expect(contentOf(target).get('server_facts')).toHaveLength(3);
  expect(contentOf(path).get('server_facts')).toHaveLength(6);
});

test('a database of another version, and what is none, are not backed up', async () => {
  const { path, database, target } = await running();
  await database.transaction((tx) => tx.run('DELETE FROM schema_migrations WHERE version > 3'));
  expect(() => backupDatabase(path, target)).toThrow('older version');
  expect(existsSync(target)).toBe(false);
  const other = join(temporaryFolder(), 'other.db');
  writeFileSync(
    other,
    'not a database, but longer than the header of one would be, which is a hundred bytes of things',
  );
  chmodSync(other, 0o600);
  expect(() => backupDatabase(other, target)).toThrow('not a database');
  expect(readdirSync(dirname(target))).toEqual([]);
});
