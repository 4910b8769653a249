import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import Connection from 'better-sqlite3';
import { describe, expect, onTestFinished, test } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import type { ServerName } from '../../src/matrix/ids.ts';
import { type OwnIdentity, ownIdentity, rotateNoiseKey } from '../../src/server/identity.ts';
import { createSealing, openSealing, sealingOf } from '../../src/server/sealing.ts';
import { migrate } from '../../src/storage/migrate.ts';
import { promoteNextKey } from '../../src/storage/own_keys.ts';
import { pipeSessionStore } from '../../src/storage/pipe_sessions.ts';
import { changeSealing, isSealed } from '../../src/storage/sealed_database.ts';
import { IN_CLEAR, SECRET_TABLES, type Sealing, SealingError } from '../../src/storage/sealing.ts';
import { openSqlite, type SqliteDatabase } from '../../src/storage/sqlite.ts';
import { pipeSession } from './pipe_session.ts';
import { temporaryFolder } from './temporary_database.ts';

const random = seededRandom(1);
const KEY = random.bytes(32);
const OTHER_KEY = random.bytes(32);
const serverName = 'a.example' as ServerName;

/** The bytes of a database file, its log and the log's index. */
const bytesOf = (path: string): Buffer =>
  Buffer.concat(
    ['', '-wal', '-shm', '-journal']
      .map((suffix) => path + suffix)
      .filter((file) => existsSync(file))
      .map((file) => readFileSync(file)),
  );

const isIn = (path: string, secret: Uint8Array): boolean => bytesOf(path).includes(Buffer.from(secret));

function newFile(): string {
  const path = join(temporaryFolder(), 'ravine.db');
  migrate(path);
  return path;
}

/** Uses the database in a file and closes it. */
async function using<T>(path: string, use: (database: SqliteDatabase) => Promise<T>): Promise<T> {
  const database = openSqlite({ path, durability: 'off' });
  try {
    return await use(database);
  } finally {
    await database.close();
  }
}

const identityIn = (path: string, sealing: Sealing): Promise<OwnIdentity> =>
  using(path, (database) => ownIdentity({ serverName, database, sealing, random, now: 1_000 }));

const sessions = Array.from({ length: 40 }, (_, i) => pipeSession(random, i));

const keepSessions = (path: string, sealing: Sealing): Promise<void> =>
  using(path, (database) =>
    pipeSessionStore(database, sealing, 'udp').commit(
      sessions.map((row) => ({ kind: 'session', row }) as const),
    ),
  );

const loaded = (path: string, sealing: Sealing) =>
  using(path, (database) => pipeSessionStore(database, sealing, 'udp').load());

const chains = sessions.flatMap(({ send, receive }) => [send.secret, receive.secret]);
const secretsOf = (identity: OwnIdentity): Uint8Array[] => [
  identity.signingSecret,
  identity.pipe.noiseSecret,
  ...chains,
];

describe('sealing', () => {
  test('opens at its own place only, and not where a bit of it is another', () => {
    const sealing = createSealing(KEY, random);
    const secret = random.bytes(32);
    const kept = sealing.seal(['own_keys', 'secret', 'noise', '12'], secret);
    expect(sealing.open(['own_keys', 'secret', 'noise', '12'], kept)).toEqual(secret);
    const elsewhere = [
      ['own_keys', 'secret', 'noise_next', '12'],
      ['own_keys', 'secret', 'noise', '1', '2'],
      ['own_keys', 'secret', 'noise', 12],
      ['own_keys', 'created', 'noise', '12'],
      ['pipe_sessions', 'secret', 'noise', '12'],
    ] as const;
    for (const place of elsewhere) expect(() => sealing.open(place, kept)).toThrow(SealingError);
    for (let at = 0; at < kept.length; at++) {
      const changed = kept.slice();
      changed[at]! ^= 1;
      expect(() => sealing.open(['own_keys', 'secret', 'noise', '12'], changed)).toThrow(SealingError);
    }
    for (let length = 0; length < kept.length; length++)
      expect(() => sealing.open(['own_keys', 'secret', 'noise', '12'], kept.slice(0, length))).toThrow(
        SealingError,
      );
  });

  test('gives the same secret another form each time', () => {
    const sealing = createSealing(KEY, random);
    const forms = Array.from({ length: 50 }, () => sealing.seal(['own_keys', 'secret'], KEY).join());
    expect(new Set(forms).size).toBe(50);
  });
});

describe('a database that is given a seal key', () => {
  test('has its secrets sealed, and nowhere in its files as they were', async () => {
    const path = newFile();
    const before = await identityIn(path, IN_CLEAR);
    await keepSessions(path, IN_CLEAR);
    const secrets = secretsOf(before);
    for (const secret of secrets) expect(isIn(path, secret)).toBe(true);
    const sealing = openSealing(path, KEY, random);
    for (const secret of secrets) expect(isIn(path, secret)).toBe(false);
    expect(await identityIn(path, sealing)).toEqual(before);
    expect(await loaded(path, sealing)).toHaveLength(sessions.length);
    // As another start finds it.
    expect(await identityIn(path, openSealing(path, KEY, random))).toEqual(before);
  });

  test('takes nothing secret into its files from then on', async () => {
    const path = newFile();
    const sealing = openSealing(path, KEY, random);
    const identity = await identityIn(path, sealing);
    const database = openSqlite({ path, durability: 'off' });
    onTestFinished(() => database.close());
    await pipeSessionStore(database, sealing, 'udp').commit(
      sessions.map((row) => ({ kind: 'session', row }) as const),
    );
    await database.transaction((tx) => rotateNoiseKey(tx, sealing, random, 2_000));
    for (const secret of secretsOf(identity)) expect(isIn(path, secret)).toBe(false);
    expect(await pipeSessionStore(database, sealing, 'udp').load()).toEqual(sessions);
    expect(await database.transaction((tx) => promoteNextKey(tx, sealing, 'noise'))).toBe(true);
  });

  test('is not opened without the key, nor by another one, and loses nothing by the attempt', async () => {
    const path = newFile();
    const before = await identityIn(path, openSealing(path, KEY, random));
    const bytes = bytesOf(path);
    expect(() => openSealing(path, undefined, random)).toThrow(
      /^The keys in .*ravine\.db are sealed: give the key in RAVINE_SEAL_KEY, or a file that has it in RAVINE_SEAL_KEY_FILE\.$/,
    );
    expect(() => openSealing(path, OTHER_KEY, random)).toThrow('sealed by another key than the one given');
    expect(() => sealingOf(path, OTHER_KEY, random)).toThrow('sealed by another key than the one given');
    const lazy = sealingOf(path, undefined, random);
    await expect(identityIn(path, lazy)).rejects.toThrow('RAVINE_SEAL_KEY');
    expect(bytesOf(path).equals(bytes)).toBe(true);
    expect(await identityIn(path, openSealing(path, KEY, random))).toEqual(before);
  });

  test('does not take a row for another one', async () => {
    const path = newFile();
    const sealing = openSealing(path, KEY, random);
    await keepSessions(path, sealing);
    await identityIn(path, sealing);
    await using(path, (database) =>
      database.transaction(async (tx) => {
        await tx.run(`UPDATE pipe_sessions SET send_secret =
          (SELECT send_secret FROM pipe_sessions WHERE local_id = 1) WHERE local_id = 2`);
      }),
    );
    await expect(loaded(path, sealing)).rejects.toThrow('pipe_sessions.send_secret was not sealed there');
    await using(path, (database) =>
      database.transaction((tx) =>
        tx.run("UPDATE own_keys SET secret = (SELECT secret FROM own_keys WHERE purpose = 'noise')"),
      ),
    );
    await expect(identityIn(path, sealing)).rejects.toThrow('own_keys.secret was not sealed there');
  });

  test('changes to another key, and back to none', async () => {
    const path = newFile();
    const before = await identityIn(path, openSealing(path, KEY, random));
    const kept = await using(path, (database) =>
      database.all<{ secret: Uint8Array }>('SELECT secret FROM own_keys'),
    );
    const [old, next] = [createSealing(KEY, random), createSealing(OTHER_KEY, random)];
    expect(() => changeSealing(path, next, old)).toThrow(SealingError);
    changeSealing(path, old, next);
    for (const { secret } of kept) expect(isIn(path, secret)).toBe(false);
    expect(() => openSealing(path, KEY, random)).toThrow('another key');
    expect(await identityIn(path, openSealing(path, OTHER_KEY, random))).toEqual(before);
    changeSealing(path, next, IN_CLEAR);
    expect(isSealed(path)).toBe(false);
    expect(await identityIn(path, openSealing(path, undefined, random))).toEqual(before);
  });

  test('is left alone while somebody else has it open', async () => {
    const path = newFile();
    const before = await identityIn(path, IN_CLEAR);
    await using(path, async (database) => {
      expect(await database.all('SELECT 1 FROM own_keys')).toHaveLength(2);
      expect(() => openSealing(path, KEY, random)).toThrow('stop the server first');
    });
    expect(isSealed(path)).toBe(false);
    expect(await identityIn(path, IN_CLEAR)).toEqual(before);
  });

  test('has the rest erased by the next start where the first one was killed before that', async () => {
    const path = newFile();
    const identity = await identityIn(path, IN_CLEAR);
    openSealing(path, KEY, random);
    // As after the commit: what was there before is still in a free page.
    const connection = new Connection(path);
    connection.exec('UPDATE sealing SET erased = 0');
    connection.pragma('secure_delete = OFF');
    connection.exec('CREATE TABLE free (secret BLOB)');
    connection.prepare('INSERT INTO free VALUES (?)').run(identity.signingSecret);
    connection.exec('DROP TABLE free');
    connection.close();
    expect(isIn(path, identity.signingSecret)).toBe(true);
    openSealing(path, KEY, random);
    expect(isIn(path, identity.signingSecret)).toBe(false);
  });
});

test('every column whose name says that it is secret is among those that are sealed', () => {
  const path = newFile();
  const connection = new Connection(path, { readonly: true });
  const columns = connection
    .prepare<[], { name: string }>(
      `SELECT t.name || '.' || c.name AS name FROM pragma_table_list t, pragma_table_info(t.name) c
       WHERE t.schema = 'main' AND c.name LIKE '%secret%' ORDER BY 1`,
    )
    .all();
  connection.close();
  expect(columns.map(({ name }) => name)).toEqual(
    SECRET_TABLES.flatMap(({ table, secrets }) => secrets.map((column) => `${table}.${column}`)).sort(),
  );
});

describe('secrets that were replaced', () => {
  /** A session whose keys have moved on, in both directions. */
  const moved = (row: (typeof sessions)[number], epoch: number) => ({
    ...row,
    send: { epoch, secret: random.bytes(32) },
    receive: { epoch, secret: random.bytes(32) },
  });

  test('are gone from the file and its log at once, or ten seconds after the time before', async () => {
    const path = newFile();
    const clock = new VirtualClock();
    const database = openSqlite({ path, durability: 'off', clock });
    onTestFinished(() => database.close());
    const store = pipeSessionStore(database, IN_CLEAR, 'udp');
    const put = (row: (typeof sessions)[number]) => store.commit([{ kind: 'session', row }]);
    const [first] = sessions;
    const second = moved(first!, 1);
    const third = moved(first!, 2);
    const has = (row: typeof second): boolean[] =>
      [row.send.secret, row.receive.secret].map((secret) => isIn(path, secret));
    await put(first!);
    expect(has(first!)).toEqual([true, true]);
    await put(second);
    expect(has(first!)).toEqual([false, false]);
    await put(third);
    expect(has(second)).toEqual([true, true]);
    expect(clock.next()).toBe(10_000);
    clock.step();
    expect(has(second)).toEqual([false, false]);
    expect(has(third)).toEqual([true, true]);
    expect(clock.next()).toBe(null);
  });

  test('stay in the log while somebody reads from it, and go when he has ended', async () => {
    const path = newFile();
    const clock = new VirtualClock();
    const database = openSqlite({ path, durability: 'off', clock });
    onTestFinished(() => database.close());
    const store = pipeSessionStore(database, IN_CLEAR, 'udp');
    const [first] = sessions;
    await store.commit([{ kind: 'session', row: first! }]);
    const reader = new Connection(path, { readonly: true });
    reader.exec('BEGIN');
    reader.prepare('SELECT count(*) FROM pipe_sessions').get();
    await store.commit([{ kind: 'forget', local: first!.local }]);
    expect(isIn(path, first!.send.secret)).toBe(true);
    clock.step();
    expect(isIn(path, first!.send.secret)).toBe(true);
    reader.close();
    // The lane goes on meanwhile.
    await store.commit([{ kind: 'session', row: moved(first!, 3) }]);
    clock.step();
    expect(isIn(path, first!.send.secret)).toBe(false);
  });

  test('wait for the group under way', async () => {
    const path = newFile();
    const clock = new VirtualClock();
    let gathered = (): void => undefined;
    const gather = (): Promise<void> =>
      new Promise((resolve) => {
        gathered = resolve;
      });
    const database = openSqlite({ path, durability: 'off', clock, gather });
    const store = pipeSessionStore(database, IN_CLEAR, 'udp');
    const turns = async (): Promise<void> => {
      for (let i = 0; i < 50; i++) await Promise.resolve();
    };
    const [first, other] = sessions;
    for (const row of [first!, moved(first!, 1), moved(first!, 2)]) {
      const done = store.commit([{ kind: 'session', row }]);
      await turns();
      gathered();
      await done;
    }
    const latest = bytesOf(path).length;
    const late = store.commit([{ kind: 'session', row: other! }]);
    await turns();
    clock.step();
    expect(bytesOf(path).length).toBe(latest);
    gathered();
    await late;
    expect(existsSync(`${path}-wal`) && readFileSync(`${path}-wal`).length).toBe(0);
    await database.close();
  });

  test('are gone when the database is closed, though a server has it open', async () => {
    const path = newFile();
    const server = openSqlite({ path, durability: 'off' });
    onTestFinished(() => server.close());
    await pipeSessionStore(server, IN_CLEAR, 'udp').commit(
      sessions.map((row) => ({ kind: 'session', row }) as const),
    );
    await using(path, (database) =>
      pipeSessionStore(database, IN_CLEAR, 'udp').commit(
        sessions.map(({ local }) => ({ kind: 'forget', local }) as const),
      ),
    );
    for (const secret of chains) expect(isIn(path, secret)).toBe(false);
  });

  test('do not cost an emptying of the log where a row is written again with the same keys', async () => {
    const path = newFile();
    const clock = new VirtualClock();
    const database = openSqlite({ path, durability: 'off', clock });
    onTestFinished(() => database.close());
    const store = pipeSessionStore(database, IN_CLEAR, 'udp');
    const [first] = sessions;
    await store.commit([{ kind: 'session', row: first! }]);
    await store.commit([{ kind: 'session', row: { ...first!, ceiling: 512, highest: 100 } }]);
    expect(readFileSync(`${path}-wal`).length).toBeGreaterThan(0);
    expect(clock.next()).toBe(null);
  });

  test('leave no copy behind when pages are split and joined', async () => {
    const path = newFile();
    const old: Uint8Array[] = [];
    const rows = new Map<number, (typeof sessions)[number]>();
    await using(path, async (database) => {
      const store = pipeSessionStore(database, IN_CLEAR, 'udp');
      for (let i = 0; i < 3_000; i++) {
        const local = random.integer(120);
        const before = rows.get(local);
        if (before !== undefined) old.push(before.send.secret, before.receive.secret);
        if (before !== undefined && random.integer(3) === 0) {
          rows.delete(local);
          await store.commit([{ kind: 'forget', local }]);
        } else {
          const address = 'a'.repeat(random.integer(300));
          const row = { ...moved(pipeSession(random, local), i), address };
          rows.set(local, row);
          await store.commit([{ kind: 'session', row }]);
        }
      }
    });
    const bytes = bytesOf(path);
    const left = old.filter((secret) => bytes.includes(Buffer.from(secret)));
    expect({ old: old.length, left: left.length }).toEqual({ old: old.length, left: 0 });
  });
});
