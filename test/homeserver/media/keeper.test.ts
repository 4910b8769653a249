import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { utf8 } from '../../../src/base/bytes.ts';
import { VirtualClock } from '../../../src/base/virtual_clock.ts';
import { Work } from '../../../src/base/work.ts';
import { MediaKeeper, type Retention } from '../../../src/homeserver/media/keeper.ts';
import type { ServerName } from '../../../src/matrix/ids.ts';
import {
  deleteMedia,
  findMedia,
  insertMedia,
  type MediaKind,
  mediaTotals,
  noteUse,
  putThumbnail,
} from '../../../src/storage/media.ts';
import { FileMediaStore } from '../../../src/storage/media_files.ts';
import { migrate } from '../../../src/storage/migrate.ts';
import { openSqlite, type SqliteDatabase } from '../../../src/storage/sqlite.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const HERE = 'here.example' as ServerName;
const FOR_EVER: Retention = { localDays: null, remoteDays: null, previewDays: null, remoteBytes: null };

let folder: string;
let clock: VirtualClock;
let database: SqliteDatabase;
let store: FileMediaStore;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ravine-keeper-'));
  clock = new VirtualClock();
  const path = join(folder, 'ravine.db');
  migrate(path);
  database = openSqlite({ path, durability: 'off' });
  store = new FileMediaStore({ folder: join(folder, 'media'), work: new Work() });
});
afterEach(async () => {
  await database.close();
  rmSync(folder, { recursive: true, force: true });
});

const keeper = (retention: Partial<Retention>): MediaKeeper =>
  new MediaKeeper({
    ...{ database, store, clock, log: pino({ level: 'silent' }) },
    retention: { ...FOR_EVER, ...retention },
  });

async function* once(text: string): AsyncIterable<Uint8Array> {
  yield utf8(text);
}

/** @returns its hash */
async function add(mediaId: string, text: string, kind: MediaKind = 'upload'): Promise<string> {
  const taken = await store.put(once(text), 1_000);
  const content = { sha256: taken.sha256, size: taken.size, contentType: null, fileName: null };
  const row = { server: HERE, mediaId, kind, uploader: null, created: clock.wall(), expires: null, content };
  await database.transaction((tx) => insertMedia(tx, row));
  taken.release();
  return taken.sha256;
}

const named = (mediaId: string) => ({ server: HERE, mediaId });
const isThere = async (sha256: string): Promise<boolean> => {
  const stream = await store.open(sha256);
  stream?.destroy();
  return stream !== undefined;
};
const ids = async (...all: readonly string[]): Promise<string[]> => {
  const there = await Promise.all(all.map((one) => findMedia(database, named(one))));
  return all.filter((_, at) => there[at] !== undefined);
};

test('what nobody has asked for in so long goes, each kind by its own time', async () => {
  const hash = await add('old', 'old');
  await add('copy', 'copy', 'remote');
  await add('image', 'image', 'preview');
  await add('used', 'used', 'remote');
  const look = keeper({ remoteDays: 10, previewDays: 3 });
  clock.advanceTo(4 * DAY_MS);
  await database.transaction((tx) => noteUse(tx, named('used'), clock.wall()));
  await look.look();
  expect(await ids('old', 'copy', 'image', 'used')).toEqual(['old', 'copy', 'used']);
  clock.advanceTo(11 * DAY_MS);
  await look.look();
  expect(await ids('old', 'copy', 'used')).toEqual(['old', 'used']);
  expect(await isThere(hash)).toBe(true);
  await keeper({ localDays: 10 }).look();
  expect(await ids('old')).toEqual([]);
  expect(await isThere(hash)).toBe(false);
});

test("other servers' files take no more room than they may, those longest left alone go first", async () => {
  for (let n = 0; n < 120; n++) {
    clock.advanceTo(n * HOUR_MS);
    await add(`copy-${n}`, String(n).padStart(10, '0'), 'remote');
  }
  await add('own', 'x'.repeat(500));
  await database.transaction((tx) => noteUse(tx, named('copy-0'), clock.wall()));
  await keeper({ remoteBytes: 305 }).look();
  expect((await mediaTotals(database)).get('remote')).toEqual({ files: 30, bytes: 300 });
  expect(await ids('copy-0', 'copy-1', 'copy-90', 'copy-91', 'copy-119', 'own')).toEqual([
    ...['copy-0', 'copy-91', 'copy-119', 'own'],
  ]);
});

test('content stays as long as one id or thumbnail has it, and goes with the last', async () => {
  const hash = await add('one', 'same');
  expect(await add('two', 'same')).toBe(hash);
  const look = keeper({});
  await database.transaction((tx) => deleteMedia(tx, named('one')));
  await look.look();
  expect(await isThere(hash)).toBe(true);
  const key = { width: 32, height: 32, method: 'crop', animated: false } as const;
  const thumbnail = { sha256: hash, size: 4, contentType: 'image/png' };
  await add('three', 'other');
  await database.transaction((tx) =>
    putThumbnail(tx, named('three'), key, thumbnail, { now: clock.wall(), limit: 2 }),
  );
  await database.transaction((tx) => deleteMedia(tx, named('two')));
  await look.look();
  expect(await isThere(hash), 'a thumbnail has it').toBe(true);
  await database.transaction((tx) => deleteMedia(tx, named('three')));
  await look.look();
  expect(await isThere(hash)).toBe(false);
});

test('of the thumbnails of a file the oldest goes', async () => {
  await add('one', 'image');
  const hashes: string[] = [];
  for (let n = 1; n <= 3; n++) {
    const taken = await store.put(once(`thumbnail ${n}`), 100);
    hashes.push(taken.sha256);
    const key = { width: n, height: n, method: 'scale', animated: false } as const;
    const row = { sha256: taken.sha256, size: 1, contentType: 'image/png' };
    await database.transaction((tx) => putThumbnail(tx, named('one'), key, row, { now: n, limit: 2 }));
    taken.release();
  }
  await keeper({}).look();
  expect(await Promise.all(hashes.map(isThere))).toEqual([false, true, true]);
});

test('ids whose time has passed go, and files that a crash left behind', async () => {
  const row = { server: HERE, mediaId: 'late', kind: 'upload', uploader: null, created: 0 } as const;
  const expires = clock.wall() + HOUR_MS;
  await database.transaction((tx) => insertMedia(tx, { ...row, expires, content: undefined }));
  const kept = await add('kept', 'kept');
  const lost = await store.put(once('placed, and never written down'), 100);
  lost.release();
  const look = keeper({});
  await look.look();
  expect(await ids('late', 'kept')).toEqual(['late', 'kept']);
  expect([await isThere(lost.sha256), await isThere(kept)]).toEqual([false, true]);
  clock.advanceTo(HOUR_MS);
  await look.look();
  expect(await ids('late')).toEqual([]);
});

test('it looks by itself, and ends when it is told to', async () => {
  const sha256 = await add('one', 'x');
  await database.transaction((tx) => deleteMedia(tx, named('one')));
  const look = keeper({});
  look.start();
  clock.step();
  while (clock.next() === null) await new Promise((resolve) => setImmediate(resolve));
  await look.stop();
  expect(await isThere(sha256)).toBe(false);
  expect(clock.next()).toBeNull();
});
