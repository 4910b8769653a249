import type { ThumbnailKey } from '../../storage/media.ts';

/** Client-server API, "Thumbnails": what servers should have. */
export const THUMBNAIL_SIZES: readonly Omit<ThumbnailKey, 'animated'>[] = [
  { width: 32, height: 32, method: 'crop' },
  { width: 96, height: 96, method: 'crop' },
  { width: 320, height: 240, method: 'scale' },
  { width: 640, height: 480, method: 'scale' },
  { width: 800, height: 600, method: 'scale' },
];

/** Longest sides of thumbnails that are made in other shapes, and of larger ones. */
const STEPS = [32, 96, 320, 640, 800, 1600] as const;
/** Pixels of the longest side of any thumbnail; whoever asks for more gets that. */
export const MAX_THUMBNAIL_SIDE: number = STEPS.at(-1)!;

/**
 * The thumbnail that answers a request: the smallest of the specification's that is not smaller; else one of the shape
 * that was asked for, enlarged to one of a few lengths, so that few different ones are made.
 */
export function thumbnailFor({ width, height, method, animated }: ThumbnailKey): ThumbnailKey {
  const isEnough = (size: Omit<ThumbnailKey, 'animated'>): boolean =>
    size.method === method && size.width >= width && size.height >= height;
  const isShape = (size: Omit<ThumbnailKey, 'animated'>): boolean =>
    method === 'scale' || size.width * height === size.height * width;
  const known = THUMBNAIL_SIZES.find((size) => isEnough(size) && isShape(size));
  if (known !== undefined) return { ...known, animated };
  const longest = Math.max(width, height);
  const factor = (STEPS.find((step) => step >= longest) ?? MAX_THUMBNAIL_SIDE) / longest;
  const side = (length: number): number => Math.max(1, Math.round(length * factor));
  return { width: side(width), height: side(height), method, animated };
}
