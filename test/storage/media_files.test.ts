import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { utf8 } from '../../src/base/bytes.ts';
import { Work } from '../../src/base/work.ts';
import { FileMediaStore } from '../../src/storage/media_files.ts';
import { ContentTooLarge } from '../../src/storage/media_store.ts';

let folder: string;
let store: FileMediaStore;

beforeEach(() => {
  folder = join(mkdtempSync(join(tmpdir(), 'ravine-media-')), 'media');
  store = new FileMediaStore({ folder, work: new Work({ oneAtATime: true }) });
});
afterEach(() => rmSync(join(folder, '..'), { recursive: true, force: true }));

async function* parts(...texts: readonly string[]): AsyncIterable<Uint8Array> {
  for (const text of texts) yield utf8(text);
}

async function read(sha256: string, range?: { start: number; end: number }): Promise<string | undefined> {
  const stream = await store.open(sha256, range);
  if (stream === undefined) return undefined;
  const found: Buffer[] = [];
  for await (const part of stream) found.push(part as Buffer);
  return Buffer.concat(found).toString();
}

const arriving = (): string[] => readdirSync(join(folder, 'arriving'));
const never = async (): Promise<boolean> => false;

test('content is kept once, by its SHA-256, and read whole or in part', async () => {
  const one = await store.put(parts('Hel', 'lo', '?'), 100);
  const other = await store.put(parts('Hello?'), 6);
  expect(other.sha256).toBe(one.sha256);
  expect(one.sha256).toBe(createHash('sha256').update('Hello?').digest('hex'));
  expect(one.size).toBe(6);
  expect(readdirSync(join(folder, one.sha256.slice(0, 2)))).toEqual([one.sha256]);
  expect(arriving()).toEqual([]);
  expect(await read(one.sha256)).toBe('Hello?');
  expect(await read(one.sha256, { start: 1, end: 3 })).toBe('ell');
  expect(await read('0'.repeat(64))).toBeUndefined();
  expect(await store.withFile(one.sha256, async (path) => existsSync(path))).toBe(true);
  const listed: string[] = [];
  for await (const names of store.list()) listed.push(...names);
  expect(listed).toEqual([one.sha256]);
  const empty = await store.put(parts(), 0);
  expect([empty.size, await read(empty.sha256)]).toEqual([0, '']);
});

test('what is too long, breaks off, or was left behind by another process leaves nothing', async () => {
  await expect(store.put(parts('Hello', '?!'), 6)).rejects.toThrow(ContentTooLarge);
  async function* broken(): AsyncIterable<Uint8Array> {
    yield utf8('Hel');
    throw new Error('the line is cut');
  }
  await expect(store.put(broken(), 100)).rejects.toThrow('the line is cut');
  expect(readdirSync(folder)).toEqual(['arriving']);
  expect(arriving()).toEqual([]);
  writeFileSync(join(folder, 'arriving', '0'), 'left behind');
  const next = new FileMediaStore({ folder, work: new Work() });
  await next.start();
  expect(existsSync(join(folder, 'arriving'))).toBe(false);
  (await next.put(parts('x'), 1)).release();
});

test('nothing is removed that is wanted, or that somebody is just taking', async () => {
  const { sha256, release } = await store.put(parts('Hello?'), 100);
  await store.remove(sha256, never);
  expect(await read(sha256), 'held').toBe('Hello?');
  release();
  await store.remove(sha256, async () => true);
  expect(await read(sha256), 'wanted').toBe('Hello?');
  // Taken again while it is being looked whether it is wanted.
  let again: Promise<{ readonly sha256: string }> | undefined;
  await store.remove(sha256, async () => {
    again = store.put(parts('Hello?'), 100);
    return false;
  });
  const taken = await again!;
  expect(await read(taken.sha256), 'taken meanwhile').toBe('Hello?');
});

test('what is not wanted is removed, also by two who had it', async () => {
  const [one, other] = [await store.put(parts('x'), 1), await store.put(parts('x'), 1)];
  one.release();
  await store.remove(one.sha256, never);
  expect(await read(one.sha256)).toBe('x');
  other.release();
  await store.remove(one.sha256, never);
  expect(await read(one.sha256)).toBeUndefined();
  await store.remove(one.sha256, never);
});

test('files of others in the folder are no content', async () => {
  mkdirSync(join(folder, 'ab'), { recursive: true });
  writeFileSync(join(folder, 'ab', 'notes.txt'), 'x');
  for await (const names of store.list()) expect(names).toEqual([]);
});
