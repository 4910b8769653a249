import type { ThumbnailKey } from '../../storage/media.ts';

/** Types of thumbnails, and of originals that go in their place (client-server API, "Thumbnails"). */
export const THUMBNAIL_TYPES: ReadonlySet<string> = new Set([
  'image/jpeg',
  'image/png',
  'image/apng',
  'image/gif',
  'image/webp',
]);

/** What the process that makes thumbnails is told. */
export interface ThumbnailTask {
  readonly path: string;
  readonly key: ThumbnailKey;
  /** Of all frames together. */
  readonly maxPixels: number;
}

/** What it answers. */
export type ThumbnailOutcome =
  | { readonly kind: 'made'; readonly bytes: Uint8Array; readonly contentType: string }
  /** It is not larger than what was asked for, and may go out as it is. */
  | { readonly kind: 'original'; readonly contentType: string }
  | { readonly kind: 'too large' }
  /** Not an image of a kind that is known here, or a broken one. */
  | { readonly kind: 'no image' }
  /** Nothing is known of the image: the process could not be started, or was stopped. */
  | { readonly kind: 'failed' };

/** What it says first. */
export const READY = 'ready';

/** With which the process ends that takes more memory than it may. */
export const OUT_OF_MEMORY = 86;
