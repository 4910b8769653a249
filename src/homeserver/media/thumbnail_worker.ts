/*
 * The process in which images of strangers are decoded: started by thumbnailer.ts, with an environment that is empty. It
 * answers one task after another and ends where it takes too much memory.
 */
import sharp, { type Metadata, type Sharp } from 'sharp';
import { assert } from '../../base/assert.ts';
import { type Millis, systemClock } from '../../base/time.ts';
import { OUT_OF_MEMORY, READY, type ThumbnailOutcome, type ThumbnailTask } from './thumbnail_task.ts';

const MEMORY_LOOK_MS: Millis = 20;
const MAX_SIDE = 32_000;
/** Frames of an animation; of a longer one the first is shown. */
const MAX_FRAMES = 200;
const JPEG_QUALITY = 80;
const WEBP_QUALITY = 70;

/** Decoders for what people send; those for documents, vector graphics and rare formats stay shut. */
const DECODERS = ['Jpeg', 'Png', 'Webp', 'Nsgif', 'Heif'].map((name) => `VipsForeignLoad${name}File`);

/** Media types of what may go out as it is. */
const ORIGINALS: Readonly<Record<string, string>> = {
  jpeg: 'image/jpeg',
  png: 'image/png',
  gif: 'image/gif',
  webp: 'image/webp',
};

sharp.block({ operation: ['VipsForeignLoad'] });
sharp.unblock({ operation: DECODERS });
sharp.cache(false);
sharp.concurrency(1);

const maxBytes = Number(process.argv[2]);
assert(maxBytes > 0, 'the memory that it may take is told');

function watchMemory(): void {
  if (process.memoryUsage.rss() > maxBytes) process.exit(OUT_OF_MEMORY);
  systemClock.after(MEMORY_LOOK_MS, watchMemory);
}

process.on('message', (task: ThumbnailTask) => {
  make(task).then(
    (outcome) => process.send!(outcome),
    () => process.send!({ kind: 'no image' } satisfies ThumbnailOutcome),
  );
});
process.on('disconnect', () => process.exit());
watchMemory();
process.send!(READY);

async function make({ path, key, maxPixels }: ThumbnailTask): Promise<ThumbnailOutcome> {
  const limits = { failOn: 'error', sequentialRead: true, limitInputPixels: false } as const;
  const metadata = await sharp(path, limits).metadata();
  const { width, height } = metadata;
  if (width > MAX_SIDE || height > MAX_SIDE || width * height > maxPixels) return { kind: 'too large' };
  const frames = metadata.pages ?? 1;
  const isMoving = key.animated && frames > 1 && frames <= MAX_FRAMES && frames * width * height <= maxPixels;
  const original = ORIGINALS[metadata.format];
  // A GIF or WebP of one frame is a still; a PNG may move, and nothing here would tell.
  const isStill = frames === 1 && metadata.format !== 'png';
  const isSmall = isSmallerThan(metadata, key);
  if (isSmall && original !== undefined && (isMoving || isStill)) {
    // What cannot be decoded is no image, whatever its head says.
    await sharp(path, { ...limits, animated: isMoving }).stats();
    return { kind: 'original', contentType: original };
  }
  const image = sharp(path, { ...limits, animated: isMoving }).autoOrient();
  const { data, info } = await encode(
    image.resize({
      ...{ width: key.width, height: key.height, withoutEnlargement: true },
      fit: key.method === 'crop' ? 'cover' : 'inside',
    }),
    metadata,
    isMoving,
  ).toBuffer({ resolveWithObject: true });
  return { kind: 'made', bytes: data, contentType: `image/${info.format}` };
}

function encode(image: Sharp, { hasAlpha }: Metadata, isMoving: boolean): Sharp {
  if (isMoving) return image.webp({ quality: WEBP_QUALITY });
  return hasAlpha ? image.png() : image.jpeg({ quality: JPEG_QUALITY });
}

/** Whether an image, as it is shown, has no side that is longer than what is asked for. */
function isSmallerThan({ width, height, orientation = 1 }: Metadata, key: ThumbnailTask['key']): boolean {
  const isTurned = orientation >= 5;
  return (isTurned ? height : width) <= key.width && (isTurned ? width : height) <= key.height;
}
