import type { Readable } from 'node:stream';
import type { Clock } from '../../base/time.ts';
import { invalidParam, MatrixError, unknownError } from '../../matrix/error.ts';
import type { ServerName } from '../../matrix/ids.ts';
import type { Database } from '../../storage/database.ts';
import {
  findMedia,
  findThumbnail,
  type MediaName,
  putThumbnail,
  type StoredThumbnail,
  type ThumbnailKey,
} from '../../storage/media.ts';
import { ContentTooLarge, type MediaStore, type Sha256 } from '../../storage/media_store.ts';
import type { IncomingFile, RemoteMedia } from './ports.ts';
import type { RemoteSlots } from './remote_slots.ts';
import {
  type FoundMedia,
  type Looking,
  letGo,
  type MediaRepository,
  UPLOAD_TIMEOUT_MS,
  unknownMedia,
} from './repository.ts';
import { thumbnailFor } from './thumbnail_size.ts';
import { THUMBNAIL_TYPES } from './thumbnail_task.ts';
import type { Thumbnailer } from './thumbnailer.ts';

/** Of one file, so that nobody fills the disk by asking for different ones; then the oldest goes. */
const MAX_KEPT = 16;
/** Of a thumbnail that another server has made. */
const MAX_REMOTE_BYTES = 4 * 1024 * 1024;
/** Files of which it is known that there is no thumbnail. */
const MAX_REFUSED = 1_000;

/** A thumbnail, or the original in its place. */
export interface FoundThumbnail {
  readonly contentType: string;
  readonly size: number;
  readonly sha256: Sha256;
  open(): Promise<Readable>;
}

interface ThumbnailsOptions {
  readonly serverName: ServerName;
  readonly database: Database;
  readonly store: MediaStore;
  readonly repository: MediaRepository;
  readonly thumbnailer: Thumbnailer;
  readonly clock: Clock;
  readonly remote?: RemoteMedia | undefined;
  readonly slots: RemoteSlots;
  /** Larger files are not looked at. */
  readonly maxSourceBytes: number;
}

/** Smaller images of images (client-server API, "Thumbnails"). */
export class Thumbnails {
  readonly #options: ThumbnailsOptions;
  /** Who asks for the same meanwhile waits for the same. */
  readonly #making = new Map<string, Promise<FoundThumbnail>>();
  /** Why there is none, by the content's hash, so that a hostile file costs its time once. */
  readonly #refused = new Map<string, 'too large' | 'no image'>();

  constructor(options: ThumbnailsOptions) {
    this.#options = options;
  }

  /**
   * A thumbnail that is not smaller than what is asked for, unless the image is.
   * @throws MatrixError M_UNKNOWN where there is none of such a file, M_TOO_LARGE, and what `MediaRepository.find` throws
   */
  find(name: MediaName, asked: ThumbnailKey, looking: Looking): Promise<FoundThumbnail> {
    if (asked.width < 1 || asked.height < 1)
      return Promise.reject(new MatrixError(400, 'M_UNKNOWN', 'A thumbnail has at least one pixel.'));
    if (asked.width > 1e6 || asked.height > 1e6)
      return Promise.reject(invalidParam('width and height are at most 1000000.'));
    const key = thumbnailFor(asked);
    const called = JSON.stringify([name, key, looking]);
    const known = this.#making.get(called);
    if (known !== undefined) return known;
    const found = this.#find(name, key, looking).finally(() => this.#making.delete(called));
    this.#making.set(called, found);
    return found;
  }

  async #find(name: MediaName, key: ThumbnailKey, looking: Looking): Promise<FoundThumbnail> {
    const { database, serverName, repository } = this.#options;
    const isRemote = name.server !== serverName;
    const row = await findMedia(database, name);
    if (row?.isQuarantined) throw unknownMedia();
    const kept = await findThumbnail(database, name, key);
    if (kept !== undefined && (row !== undefined || isRemote)) return this.#stored(kept);
    if (row === undefined && isRemote && looking.allowRemote) {
      const fetched = await this.#options.slots.run(name.server, () => this.#fetch(name, key, looking));
      if (fetched !== undefined) return fetched;
    }
    return this.#make(await repository.find(name, looking), key);
  }

  /** Another server's thumbnail: it is smaller than the original. Undefined where that server makes none. */
  async #fetch(
    name: MediaName,
    key: ThumbnailKey,
    { timeoutMs = UPLOAD_TIMEOUT_MS }: Looking,
  ): Promise<FoundThumbnail | undefined> {
    const file = await this.#options.remote
      ?.thumbnail(name, key, { uploadTimeoutMs: timeoutMs })
      .catch((error: unknown) => {
        if (error instanceof MatrixError && isWithoutThumbnail(error)) return undefined;
        throw error;
      });
    if (file === undefined) return undefined;
    const contentType = file.contentType?.split(';', 1)[0]?.trim().toLowerCase() ?? '';
    if (!THUMBNAIL_TYPES.has(contentType)) {
      await readAway(file);
      return undefined;
    }
    return this.#keep(name, key, file.content, contentType, MAX_REMOTE_BYTES);
  }

  async #make(media: FoundMedia, key: ThumbnailKey): Promise<FoundThumbnail> {
    const { store, thumbnailer, maxSourceBytes } = this.#options;
    const { sha256, size } = media.content;
    if (size > maxSourceBytes) throw refusal('too large', media);
    const known = this.#refused.get(sha256);
    if (known !== undefined) throw refusal(known, media);
    const outcome = await store.withFile(sha256, (path) => thumbnailer.make(path, key));
    if (outcome === undefined) throw unknownMedia();
    if (outcome.kind === 'failed') throw unknownError(500, 'No thumbnails can be made now.');
    if (outcome.kind === 'too large' || outcome.kind === 'no image') {
      this.#refused.set(sha256, outcome.kind);
      if (this.#refused.size > MAX_REFUSED) this.#refused.delete(this.#refused.keys().next().value!);
      throw refusal(outcome.kind, media);
    }
    if (outcome.kind === 'original') return this.#stored({ sha256, size, contentType: outcome.contentType });
    const { bytes, contentType } = outcome;
    return this.#keep(media.name, key, once(bytes), contentType, bytes.length);
  }

  async #keep(
    name: MediaName,
    key: ThumbnailKey,
    content: AsyncIterable<Uint8Array>,
    contentType: string,
    maxBytes: number,
  ): Promise<FoundThumbnail> {
    const { store, database, clock } = this.#options;
    const taken = await store.put(content, maxBytes).catch((error: unknown): never => {
      throw error instanceof ContentTooLarge
        ? new MatrixError(502, 'M_TOO_LARGE', 'The thumbnail is too large.')
        : error;
    });
    try {
      const thumbnail = { sha256: taken.sha256, size: taken.size, contentType };
      const now = clock.wall();
      await database.transaction((tx) => putThumbnail(tx, name, key, thumbnail, { now, limit: MAX_KEPT }));
      return this.#stored(thumbnail);
    } finally {
      await letGo(taken, store, database);
    }
  }

  #stored({ sha256, size, contentType }: StoredThumbnail): FoundThumbnail {
    const { store } = this.#options;
    return {
      ...{ contentType, size, sha256 },
      async open() {
        const stream = await store.open(sha256);
        if (stream === undefined) throw unknownMedia();
        return stream;
      },
    };
  }
}

/** Whether the original may be had where its thumbnail is not: then one is made here. */
const isWithoutThumbnail = ({ status, errcode }: MatrixError): boolean =>
  status === 400 || errcode === 'M_UNRECOGNIZED' || errcode === 'M_TOO_LARGE';

async function* once(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes;
}

async function readAway({ content }: IncomingFile): Promise<void> {
  for await (const _ of content) break;
}

/** Of another server's file it is that server's fault. */
function refusal(why: 'too large' | 'no image', { kind }: FoundMedia): MatrixError {
  return why === 'too large'
    ? new MatrixError(kind === 'remote' ? 502 : 413, 'M_TOO_LARGE', 'The file is too large for a thumbnail.')
    : new MatrixError(400, 'M_UNKNOWN', 'There is no thumbnail of such a file.');
}
