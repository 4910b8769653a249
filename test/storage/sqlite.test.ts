import { statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../src/storage/database.ts';
import { openSqlite, type SqliteDatabase } from '../../src/storage/sqlite.ts';
import { temporaryFolder } from './temporary_database.ts';

async function withTable(): Promise<SqliteDatabase> {
  const database = openSqlite({ path: join(temporaryFolder(), 'test.db'), durability: 'off' });
  await database.transaction(async (tx) => {
    await tx.run('CREATE TABLE parent (id INTEGER PRIMARY KEY)');
    await tx.run(
      'CREATE TABLE notes (text TEXT NOT NULL UNIQUE, parent INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)',
    );
  });
  return database;
}

const insert = (tx: Transaction, text: string): Promise<number> =>
  tx.run('INSERT INTO notes (text) VALUES (?)', text);

const texts = async (database: SqliteDatabase): Promise<string[]> =>
  (await database.all<{ text: string }>('SELECT text FROM notes ORDER BY rowid')).map((row) => row.text);

/** Lets every microtask that is due run, and those that they start. */
const microtasks = async (turns = 50): Promise<void> => {
  for (let turn = 0; turn < turns; turn++) await Promise.resolve();
};

describe('the write lane', () => {
  test('runs transactions one after another, also where a body awaits', async () => {
    const database = await withTable();
    const log: string[] = [];
    const body = (name: string) => async (tx: Transaction) => {
      log.push(`${name} starts`);
      await insert(tx, name);
      await microtasks();
      log.push(`${name} ends`);
    };
    await Promise.all([database.transaction(body('a')), database.transaction(body('b'))]);
    expect(log).toEqual(['a starts', 'a ends', 'b starts', 'b ends']);
    expect(await texts(database)).toEqual(['a', 'b']);
  });

  test('undoes only the transaction that threw, and passes its error on', async () => {
    const database = await withTable();
    const before = database.counters.commits;
    const results = await Promise.allSettled([
      database.transaction((tx) => insert(tx, 'a')),
      database.transaction(async (tx) => {
        await insert(tx, 'b');
        throw new Error('changed my mind');
      }),
      database.transaction((tx) => insert(tx, 'c')),
    ]);
    expect(results.map((result) => result.status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(results[1]).toMatchObject({ reason: { message: 'changed my mind' } });
    expect(await texts(database)).toEqual(['a', 'c']);
    expect(database.counters.commits).toBe(before + 1);
  });

  test('shares a commit among a bounded group', async () => {
    const database = await withTable();
    const before = database.counters.commits;
    await Promise.all(
      Array.from({ length: 130 }, (_, i) => database.transaction((tx) => insert(tx, `${i}`))),
    );
    expect(database.counters.commits - before).toBe(3);
    expect(await texts(database)).toHaveLength(130);
  });

  test('lets those who come while it gathers share the commit', async () => {
    const gates: (() => void)[] = [];
    const gather = (): Promise<void> => new Promise((resolve) => void gates.push(resolve));
    const database = openSqlite({ path: join(temporaryFolder(), 'test.db'), durability: 'off', gather });
    const settled: string[] = [];
    const first = database
      .transaction((tx) => tx.run('CREATE TABLE notes (text)'))
      .then(() => settled.push('first'));
    await microtasks();
    const second = database.transaction((tx) => insert(tx, 'a')).then(() => settled.push('second'));
    await microtasks();
    expect(settled).toEqual([]);
    gates.shift()!();
    await Promise.all([first, second]);
    expect(settled).toEqual(['first', 'second']);
    expect(database.counters).toEqual({ transactions: 2, commits: 1 });
    await database.close();
  });

  test('answers nobody and runs no effect before the commit', async () => {
    const database = await withTable();
    const seen: string[] = [];
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const first = database
      .transaction(async (tx) => {
        await insert(tx, 'first');
        tx.afterCommit(() => seen.push('effect of first'));
      })
      .then(() => seen.push('first settles'));
    const second = database.transaction(async (tx) => {
      await insert(tx, 'second');
      await held;
    });
    await microtasks();
    expect(seen).toEqual([]);
    expect(await texts(database)).toEqual([]);
    release();
    await Promise.all([first, second]);
    expect(seen).toEqual(['effect of first', 'first settles']);
  });

  test('drops the effects of a transaction that threw', async () => {
    const database = await withTable();
    const seen: string[] = [];
    const failing = database.transaction(async (tx) => {
      tx.afterCommit(() => seen.push('effect'));
      throw new Error('no');
    });
    await expect(failing).rejects.toThrow('no');
    expect(seen).toEqual([]);
  });

  test('an effect that throws fails its own caller only, after the commit', async () => {
    const database = await withTable();
    const results = await Promise.allSettled([
      database.transaction(async (tx) => {
        await insert(tx, 'a');
        tx.afterCommit(() => {
          throw new Error('bad effect');
        });
      }),
      database.transaction((tx) => insert(tx, 'b')),
    ]);
    expect(results.map((result) => result.status)).toEqual(['rejected', 'fulfilled']);
    expect(await texts(database)).toEqual(['a', 'b']);
  });

  test('a commit that fails rejects everybody in the group, also one that had thrown', async () => {
    const database = await withTable();
    const effects: string[] = [];
    const results = await Promise.allSettled([
      database.transaction(async (tx) => {
        await insert(tx, 'innocent');
        tx.afterCommit(() => effects.push('innocent'));
      }),
      database.transaction((tx) => tx.run('INSERT INTO notes (text, parent) VALUES (?, 404)', 'dangling')),
      database.transaction(async () => {
        throw new Error('own error');
      }),
    ]);
    for (const result of results)
      expect(result).toMatchObject({
        status: 'rejected',
        reason: { code: expect.stringContaining('FOREIGNKEY') },
      });
    expect(effects).toEqual([]);
    expect(await texts(database)).toEqual([]);
    await database.transaction((tx) => insert(tx, 'later'));
    expect(await texts(database)).toEqual(['later']);
  });

  test('where SQLite itself undoes the group, nobody in it is told that it worked', async () => {
    const database = await withTable();
    await database.transaction((tx) => insert(tx, 'taken'));
    const results = await Promise.allSettled([
      database.transaction((tx) => insert(tx, 'a')),
      database.transaction((tx) => tx.run("INSERT OR ROLLBACK INTO notes (text) VALUES ('taken')")),
    ]);
    for (const result of results)
      expect(result).toMatchObject({
        status: 'rejected',
        reason: { code: expect.stringContaining('UNIQUE') },
      });
    expect(await texts(database)).toEqual(['taken']);
  });

  test('a transaction that starts another one after its commit gets a later group', async () => {
    const database = await withTable();
    await database.transaction((tx) => insert(tx, 'a'));
    const chained = database
      .transaction((tx) => insert(tx, 'b'))
      .then(() => database.transaction((tx) => insert(tx, 'c')));
    await chained;
    expect(await texts(database)).toEqual(['a', 'b', 'c']);
  });

  test('settles within microtasks, so that virtual time needs no turn of the event loop', async () => {
    const database = await withTable();
    let settled = false;
    void database
      .transaction(async (tx) => {
        await insert(tx, 'a');
        await insert(tx, 'b');
      })
      .then(() => {
        settled = true;
      });
    await microtasks();
    expect(settled).toBe(true);
  });
});

describe('what is our own mistake', () => {
  test('a transaction inside a transaction is an assertion', async () => {
    const database = await withTable();
    const nested = database.transaction(async (tx) => {
      await insert(tx, 'outer');
      await database.transaction((inner) => insert(inner, 'inner'));
    });
    await expect(nested).rejects.toThrow('not started inside a transaction');
    expect(await texts(database)).toEqual([]);
  });

  test('so is a read of committed data, which would not see what the transaction wrote', async () => {
    const database = await withTable();
    await expect(database.transaction(() => texts(database))).rejects.toThrow(
      'not started inside a transaction',
    );
  });

  test('and using a transaction after its end', async () => {
    const database = await withTable();
    let escaped: Transaction | undefined;
    await database.transaction(async (tx) => {
      escaped = tx;
    });
    await expect(insert(escaped!, 'late')).rejects.toThrow('not used after its end');
    await expect(escaped!.get('SELECT 1')).rejects.toThrow('not used after its end');
  });

  test('what a body left behind may open a transaction of its own once the first has ended', async () => {
    const database = await withTable();
    let left: Promise<unknown> | undefined;
    await database.transaction(async (tx) => {
      await insert(tx, 'a');
      left = microtasks(200).then(() => database.transaction((later) => insert(later, 'b')));
    });
    await left;
    expect(await texts(database)).toEqual(['a', 'b']);
  });

  test('a closed database takes no transaction, and those that wait finish first', async () => {
    const database = await withTable();
    const waiting = database.transaction((tx) => insert(tx, 'a'));
    await database.close();
    await expect(waiting).resolves.toBe(1);
    await expect(database.transaction((tx) => insert(tx, 'b'))).rejects.toThrow('the database is open');
  });
});

describe('the file', () => {
  test('and its log are readable by the owner only', async () => {
    const path = join(temporaryFolder(), 'test.db');
    const database = openSqlite({ path, durability: 'full' });
    await database.transaction((tx) => tx.run('CREATE TABLE t (x)'));
    for (const file of [path, `${path}-wal`, `${path}-shm`]) expect(statSync(file).mode & 0o777).toBe(0o600);
    await database.close();
  });

  test('keeps what was committed when it is opened again, bytes and null included', async () => {
    const path = join(temporaryFolder(), 'test.db');
    const first = openSqlite({ path, durability: 'full' });
    await first.transaction(async (tx) => {
      await tx.run('CREATE TABLE t (id INTEGER, bytes BLOB, missing TEXT)');
      await tx.run('INSERT INTO t VALUES (?, ?, ?)', Number.MAX_SAFE_INTEGER, new Uint8Array([0, 255]), null);
    });
    await first.close();
    const second = openSqlite({ path, durability: 'full' });
    const row = await second.get<{ id: number; bytes: Uint8Array; missing: null }>('SELECT * FROM t');
    expect(row).toMatchObject({ id: Number.MAX_SAFE_INTEGER, missing: null });
    expect([...row!.bytes]).toEqual([0, 255]);
    await second.close();
  });

  test('is synced at every commit where durability is full', async () => {
    const database = openSqlite({ path: join(temporaryFolder(), 'test.db'), durability: 'full' });
    const pragmas = await database.transaction(async (tx) => ({
      ...(await tx.get<object>('PRAGMA synchronous')),
      ...(await tx.get<object>('PRAGMA journal_mode')),
      ...(await tx.get<object>('PRAGMA foreign_keys')),
      ...(await tx.get<object>('PRAGMA secure_delete')),
    }));
    expect(pragmas).toEqual({ synchronous: 2, journal_mode: 'wal', foreign_keys: 1, secure_delete: 1 });
    await database.close();
  });

  test('the connection for reads cannot write', async () => {
    const database = await withTable();
    await expect(database.all("INSERT INTO notes (text) VALUES ('x') RETURNING text")).rejects.toThrow(
      /readonly/,
    );
  });
});
