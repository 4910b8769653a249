import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32, deflateSync } from 'node:zlib';
import sharp from 'sharp';
import { afterAll, afterEach, expect, test } from 'vitest';
import { concat, utf8 } from '../../../src/base/bytes.ts';
import { seededRandom } from '../../../src/base/random.ts';
import { systemClock } from '../../../src/base/time.ts';
import { VirtualClock } from '../../../src/base/virtual_clock.ts';
import { Work } from '../../../src/base/work.ts';
import type { ThumbnailOutcome } from '../../../src/homeserver/media/thumbnail_task.ts';
import { Thumbnailer, type ThumbnailerOptions } from '../../../src/homeserver/media/thumbnailer.ts';
import type { ThumbnailKey } from '../../../src/storage/media.ts';

const MIB = 1024 * 1024;
const folder = mkdtempSync(join(tmpdir(), 'ravine-thumbnails-'));
const opened: Thumbnailer[] = [];
afterEach(() => {
  for (const one of opened.splice(0)) one.stop();
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function thumbnailer(options: Partial<ThumbnailerOptions> = {}): Thumbnailer {
  const one = new Thumbnailer({
    ...{ clock: systemClock, work: new Work(), timeoutMs: 60_000 },
    ...{ maxPixels: 4_000_000, maxMemoryBytes: 400 * MIB },
    ...options,
  });
  opened.push(one);
  return one;
}

let files = 0;
function file(bytes: Uint8Array): string {
  const path = join(folder, String(files++));
  writeFileSync(path, bytes);
  return path;
}

const KEY: ThumbnailKey = { width: 32, height: 32, method: 'crop', animated: false };
const create = (width: number, height: number, channels: 3 | 4 = 3) =>
  sharp({ create: { width, height, channels, background: { r: 1, g: 200, b: 3, alpha: 0.5 } } });

/** A PNG of one colour that says it is so large; its pixels are there where `isWhole`. */
function pngOf(width: number, height: number, isWhole: boolean): Uint8Array {
  const chunk = (type: string, data: Uint8Array): Uint8Array => {
    const named = concat(utf8(type), data);
    const numbers = Buffer.alloc(8);
    numbers.writeUInt32BE(data.length, 0);
    numbers.writeUInt32BE(crc32(named), 4);
    return concat(numbers.subarray(0, 4), named, numbers.subarray(4));
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([1, 0, 0, 0, 0], 8);
  const pixels = deflateSync(Buffer.alloc(isWhole ? height * (1 + Math.ceil(width / 8)) : 10));
  const mark = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
  return concat(mark, chunk('IHDR', head), chunk('IDAT', pixels), chunk('IEND', new Uint8Array()));
}

/** An animated GIF of so many frames. */
async function gifOf(frames: number): Promise<Buffer> {
  const drawn = Array.from({ length: frames }, (_, at) => {
    const background = { r: 9 * at, g: 0, b: 0 };
    return sharp({ create: { width: 80, height: 60, channels: 3, background } })
      .png()
      .toBuffer();
  });
  return sharp(await Promise.all(drawn), { join: { animated: true } })
    .gif()
    .toBuffer();
}

async function made(outcome: ThumbnailOutcome) {
  if (outcome.kind !== 'made') throw new Error(outcome.kind);
  const { width, height, pages = 1, pageHeight } = await sharp(outcome.bytes, { animated: true }).metadata();
  return { type: outcome.contentType, width, height: pageHeight ?? height, pages };
}

test('images of each kind become small ones, and small ones stay what they are', async () => {
  const one = thumbnailer();
  const kinds = ['jpeg', 'png', 'webp', 'gif', 'avif'] as const;
  for (const kind of kinds) {
    const path = file(await create(100, 60)[kind]().toBuffer());
    expect(await made(await one.make(path, KEY)), kind).toMatchObject({ width: 32, height: 32, pages: 1 });
  }
  const clear = file(await create(100, 60, 4).png().toBuffer());
  expect((await made(await one.make(clear, KEY))).type).toBe('image/png');
  const scale: ThumbnailKey = { ...KEY, width: 50, height: 50, method: 'scale' };
  expect(await made(await one.make(clear, scale))).toMatchObject({ width: 50, height: 30 });
  const small = file(await create(30, 20).jpeg().toBuffer());
  expect(await one.make(small, KEY)).toEqual({ kind: 'original', contentType: 'image/jpeg' });
  // A PNG may move, so that it is drawn anew.
  expect(await made(await one.make(file(await create(30, 20).png().toBuffer()), KEY))).toMatchObject({
    width: 30,
    height: 20,
  });
  // Stood on its side by its camera.
  const turned = file(await create(100, 60).withMetadata({ orientation: 6 }).jpeg().toBuffer());
  expect(await made(await one.make(turned, scale))).toMatchObject({ width: 30, height: 50 });
  expect(one.starts).toBe(1);
});

test('what moves does so only where that is asked for', async () => {
  const one = thumbnailer();
  const gif = file(await gifOf(5));
  const moving = { ...KEY, animated: true };
  expect(await made(await one.make(gif, moving))).toEqual({
    ...{ type: 'image/webp', width: 32, height: 32, pages: 5 },
  });
  expect((await made(await one.make(gif, KEY))).pages).toBe(1);
  const small: ThumbnailKey = { ...moving, width: 100, height: 100 };
  expect(await one.make(gif, small)).toEqual({ kind: 'original', contentType: 'image/gif' });
  expect(await made(await one.make(gif, { ...small, animated: false }))).toMatchObject({
    width: 80,
    pages: 1,
  });
  // More frames together than may be: the first is shown.
  const narrow = thumbnailer({ maxPixels: 3 * 80 * 60 });
  expect((await made(await narrow.make(gif, moving))).pages).toBe(1);
});

test('broken and hostile files are refused, and the process lives on', async () => {
  const one = thumbnailer();
  const jpeg = await create(300, 200).jpeg().toBuffer();
  const webp = await create(300, 200).webp().toBuffer();
  const random = seededRandom(7);
  const mutated = (from: Uint8Array): Uint8Array => {
    const bytes = new Uint8Array(from);
    for (let flips = 0; flips < 20; flips++) bytes[random.integer(bytes.length)] = random.integer(256);
    return bytes;
  };
  const svg =
    '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="/etc/passwd"/></svg>';
  const refused: readonly (readonly [string, Uint8Array])[] = [
    ['nothing', new Uint8Array()],
    ['text', utf8('Hello?')],
    ['vector graphics', utf8(svg)],
    ['a document', utf8('%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>')],
    ['a TIFF', await create(9, 9).tiff().toBuffer()],
    ['a page', utf8('<html><script>alert(1)</script>')],
    ['half a JPEG', jpeg.subarray(0, jpeg.length / 2)],
    ['the head of a WebP', webp.subarray(0, 40)],
    ['a PNG without its pixels', pngOf(1000, 1000, false)],
  ];
  for (const [what, bytes] of refused)
    expect(await one.make(file(bytes), KEY), what).toEqual({ kind: 'no image' });
  expect(await one.make(join(folder, 'not there'), KEY)).toEqual({ kind: 'no image' });
  for (const from of [jpeg, webp, await gifOf(3), pngOf(64, 64, true)])
    for (let round = 0; round < 8; round++)
      expect(['made', 'no image', 'too large']).toContain((await one.make(file(mutated(from)), KEY)).kind);
  expect((await one.make(file(jpeg), KEY)).kind).toBe('made');
});

test('what would be too many pixels is not decoded', async () => {
  const one = thumbnailer({ maxPixels: 1_000_000 });
  expect(await one.make(file(pngOf(1_001, 1_000, true)), KEY)).toEqual({ kind: 'too large' });
  expect(await one.make(file(pngOf(30_000, 30_000, false)), KEY)).toEqual({ kind: 'too large' });
  expect(await one.make(file(pngOf(200_000, 1, true)), KEY)).toEqual({ kind: 'too large' });
  expect((await one.make(file(pngOf(1_000, 1_000, true)), KEY)).kind).toBe('made');
});

test('a process that takes too much memory ends, and the next image gets a new one', async () => {
  const one = thumbnailer({ maxPixels: 200_000_000, maxMemoryBytes: 115 * MIB });
  // Interlaced, so that all of it has to be held.
  const bomb = await sharp({
    create: { width: 6_000, height: 5_000, channels: 3, background: 'white' },
    limitInputPixels: false,
  })
    .png({ progressive: true, compressionLevel: 1 })
    .toBuffer();
  expect(bomb.length).toBeLessThan(4 * MIB);
  expect(await one.make(file(bomb), KEY)).toEqual({ kind: 'too large' });
  expect((await one.make(file(pngOf(64, 64, true)), KEY)).kind).toBe('made');
  expect(one.starts).toBe(2);
});

test('an image that takes too long is given up', async () => {
  const clock = new VirtualClock();
  const work = new Work();
  const one = thumbnailer({ clock, work, timeoutMs: 5_000 });
  await one.make(file(pngOf(64, 64, true)), KEY);
  const slow = one.make(file(await create(1_900, 2_000).webp().toBuffer()), {
    ...KEY,
    width: 1600,
    height: 1600,
  });
  while (work.pending === 0) await Promise.resolve();
  clock.advanceTo(clock.monotonic() + 5_000);
  while (clock.step());
  expect(await slow).toEqual({ kind: 'too large' });
  expect((await one.make(file(pngOf(64, 64, true)), KEY)).kind).toBe('made');
  expect(one.starts).toBe(2);
});

test('so many images wait and no more, and without any the process ends', async () => {
  const clock = new VirtualClock();
  const one = thumbnailer({ clock });
  expect(one.starts).toBe(0);
  const path = file(pngOf(64, 64, true));
  const all = await Promise.allSettled(Array.from({ length: 66 }, () => one.make(path, KEY)));
  const refused = all.filter(({ status }) => status === 'rejected');
  expect(refused).toHaveLength(2);
  expect(refused[0]).toMatchObject({ reason: { errcode: 'M_LIMIT_EXCEEDED' } });
  expect(one.starts).toBe(1);
  while (clock.step());
  await one.make(path, KEY);
  expect(one.starts).toBe(2);
});
