import type { Readable } from 'node:stream';
import { base64url } from '../../base/bytes.ts';
import type { Random } from '../../base/random.ts';
import { type Clock, type Millis, sleep } from '../../base/time.ts';
import { forbidden, limitExceeded, MatrixError, notFound } from '../../matrix/error.ts';
import type { ServerName, UserId } from '../../matrix/ids.ts';
import type { Database, Transaction } from '../../storage/database.ts';
import {
  bringContent,
  findMedia,
  insertMedia,
  isContentWanted,
  type MediaContent,
  type MediaKind,
  type MediaName,
  type MediaRow,
  noteUse,
  pendingOf,
  usageOf,
} from '../../storage/media.ts';
import {
  type ByteRange,
  ContentTooLarge,
  type MediaStore,
  type TakenContent,
} from '../../storage/media_store.ts';
import type { Done } from '../once.ts';
import type { UserLimit } from '../user_limits.ts';
import type { IncomingFile, RemoteMedia } from './ports.ts';
import type { RemoteSlots } from './remote_slots.ts';

// The specification's.
/** How long a download waits for what has not been uploaded yet, where the request says nothing. */
export const UPLOAD_TIMEOUT_MS: Millis = 20_000;

// Ours.
const MAX_UPLOAD_TIMEOUT_MS: Millis = 60_000;
/** How long a client waits for another server's file; it is fetched on, and there when the client asks again. */
const FETCH_PATIENCE_MS: Millis = 120_000;
/** Downloads that wait for an upload, or for another server. */
const MAX_WAITING = 1_000;
/** What a client is told to wait where there are too many of these. */
const RETRY_AFTER_MS: Millis = 5_000;
const ID_BYTES = 18;
const MAX_CONTENT_TYPE_LENGTH = 255;
const MAX_FILE_NAME_LENGTH = 255;
/** When a file was last asked for is written down this often. */
const USE_NOTED_MS: Millis = 60 * 60_000;

export interface MediaLimits {
  readonly maxUploadBytes: number;
  readonly maxRemoteBytes: number;
  /** Of one user; null: none. */
  readonly maxUserBytes: number | null;
  readonly maxUserFiles: number | null;
  /** Ids of one user that wait for their content. */
  readonly maxPending: number;
  readonly unusedLifetimeMs: Millis;
}

/** What is there behind an id, to be read. */
export interface FoundMedia {
  readonly name: MediaName;
  readonly kind: MediaKind;
  readonly content: MediaContent;
}

/** How a file is looked for. */
export interface Looking {
  /** How long it may take until it is uploaded; left out: as the specification has it. */
  readonly timeoutMs?: Millis | undefined;
  /** Whether other servers may be asked. */
  readonly allowRemote: boolean;
}

interface RepositoryOptions {
  readonly serverName: ServerName;
  readonly database: Database;
  readonly store: MediaStore;
  readonly clock: Clock;
  readonly random: Random;
  readonly limits: MediaLimits;
  readonly limit: UserLimit;
  /** Left out: other servers' media are not here. */
  readonly remote?: RemoteMedia | undefined;
  readonly slots: RemoteSlots;
  readonly log: { warn(fields: object, message: string): void };
}

/** Files that users upload, and copies of other servers' (client-server API, "Content repository"). */
export class MediaRepository {
  readonly limits: MediaLimits;
  readonly #options: RepositoryOptions;
  /** By `server/id`. */
  readonly #fetching = new Map<string, Promise<FoundMedia>>();
  /** Downloads that wait for the content of an id of this server. */
  readonly #waiting = new Map<string, Set<() => void>>();
  /** Ends the waits that are under way. */
  readonly #waits = new Set<AbortController>();

  constructor(options: RepositoryOptions) {
    this.#options = options;
    this.limits = options.limits;
  }

  /**
   * Stores a file; on the disk when the promise settles.
   * @throws MatrixError M_TOO_LARGE, M_FORBIDDEN where the user has reached a quota, M_LIMIT_EXCEEDED
   */
  async upload(user: UserId, file: IncomingFile, done: Done<string>): Promise<string> {
    const { database, clock, limit } = this.#options;
    limit('uploads', user);
    const name = this.#newName();
    return this.#take(user, file, async (content) => {
      const uri = mxc(name);
      await database.transaction(async (tx) => {
        await this.#checkQuota(tx, user, content.size);
        const created = clock.wall();
        await insertMedia(tx, { ...name, kind: 'upload', uploader: user, created, expires: null, content });
        await done(tx, uri);
      });
      return uri;
    });
  }

  /** Makes an id whose content comes later. @throws MatrixError M_LIMIT_EXCEEDED, M_FORBIDDEN */
  async create(
    user: UserId,
    done: Done<{ readonly uri: string; readonly expires: Millis }>,
  ): Promise<{ readonly uri: string; readonly expires: Millis }> {
    const { database, clock, limit, limits } = this.#options;
    limit('uploads', user);
    const name = this.#newName();
    const now = clock.wall();
    const expires = now + limits.unusedLifetimeMs;
    const made = { uri: mxc(name), expires };
    await database.transaction(async (tx) => {
      if ((await pendingOf(tx, user, now)) >= limits.maxPending)
        throw limitExceeded('Too many of your media ids wait for their content.', RETRY_AFTER_MS);
      await this.#checkQuota(tx, user, 0);
      await insertMedia(tx, {
        ...{ ...name, kind: 'upload', uploader: user, created: now, expires },
        content: undefined,
      });
      await done(tx, made);
    });
    return made;
  }

  /**
   * Brings the content of an id that `create` has made.
   * @throws MatrixError M_NOT_FOUND, M_FORBIDDEN, M_CANNOT_OVERWRITE_MEDIA, M_TOO_LARGE
   */
  async bring(user: UserId, name: MediaName, file: IncomingFile, done: Done<null>): Promise<null> {
    const { database } = this.#options;
    await this.#checkWaits(database, user, name);
    await this.#take(user, file, (content) =>
      database.transaction(async (tx) => {
        await this.#checkWaits(tx, user, name);
        await this.#checkQuota(tx, user, content.size);
        await bringContent(tx, name, content);
        await done(tx, null);
        tx.afterCommit(() => {
          for (const wake of this.#waiting.get(name.mediaId) ?? []) wake();
        });
      }),
    );
    return null;
  }

  /** Stores an image that a preview shows. @throws MatrixError M_TOO_LARGE */
  async keepPreviewImage(file: IncomingFile, maxBytes: number): Promise<FoundMedia> {
    const name = this.#newName();
    return this.#keep(name, 'preview', file, maxBytes);
  }

  /**
   * What is behind an id: waits for what is still to be uploaded, and fetches another server's.
   * @throws MatrixError M_NOT_FOUND, M_NOT_YET_UPLOADED, M_TOO_LARGE, and as the other server's failure is to be told
   */
  async find(name: MediaName, { timeoutMs = UPLOAD_TIMEOUT_MS, allowRemote }: Looking): Promise<FoundMedia> {
    const { database, serverName, remote } = this.#options;
    const row = await findMedia(database, name);
    const uploadTimeoutMs = Math.min(timeoutMs, MAX_UPLOAD_TIMEOUT_MS);
    if (row !== undefined) return this.#foundOrWait(row, uploadTimeoutMs);
    if (name.server === serverName || !allowRemote || remote === undefined) throw unknownMedia();
    return this.#fetch(name, remote, uploadTimeoutMs);
  }

  /** What is here already; undefined where it has to be fetched, or waited for, or is not given to anybody. */
  async here(name: MediaName): Promise<FoundMedia | undefined> {
    const row = await findMedia(this.#options.database, name);
    return row?.content === undefined || row.isQuarantined ? undefined : found(row, row.content);
  }

  /** @throws MatrixError M_NOT_FOUND where the content is not here any more */
  async open({ content }: FoundMedia, range?: ByteRange): Promise<Readable> {
    const stream = await this.#options.store.open(content.sha256, range);
    if (stream === undefined) throw unknownMedia();
    return stream;
  }

  /** Lets nobody wait any longer. */
  stop(): void {
    for (const wait of this.#waits) wait.abort();
  }

  async #foundOrWait(row: MediaRow, timeoutMs: Millis): Promise<FoundMedia> {
    if (row.isQuarantined) throw unknownMedia();
    if (row.content !== undefined) {
      await this.#noteUse(row);
      return found(row, row.content);
    }
    const { clock, database } = this.#options;
    if (row.expires === null || row.expires <= clock.wall()) throw unknownMedia();
    await this.#uploadOf(row, timeoutMs);
    const now = await findMedia(database, row);
    if (now?.content === undefined || now.isQuarantined) throw notYetUploaded();
    return found(now, now.content);
  }

  /** Settles when content has come, or `timeoutMs` later. */
  async #uploadOf({ mediaId, server }: MediaRow, timeoutMs: Millis): Promise<void> {
    if (this.#waits.size >= MAX_WAITING) return;
    const { clock, database } = this.#options;
    const come = new AbortController();
    const wake = (): void => come.abort();
    const waiting = this.#waiting.get(mediaId) ?? new Set();
    this.#waiting.set(mediaId, waiting.add(wake));
    this.#waits.add(come);
    try {
      // It may have come between the look and now.
      const row = await findMedia(database, { server, mediaId });
      if (row?.content === undefined) await sleep(clock, timeoutMs, come.signal);
    } finally {
      this.#waits.delete(come);
      waiting.delete(wake);
      if (waiting.size === 0) this.#waiting.delete(mediaId);
    }
  }

  /** Who asks for the same meanwhile waits for the same. It goes on when they do not wait any more. */
  async #fetch(name: MediaName, remote: RemoteMedia, uploadTimeoutMs: Millis): Promise<FoundMedia> {
    const key = `${name.server}/${name.mediaId}`;
    let fetched = this.#fetching.get(key);
    if (fetched === undefined) {
      fetched = this.#options.slots
        .run(name.server, () => this.#fetchNow(name, remote, uploadTimeoutMs))
        .finally(() => this.#fetching.delete(key));
      fetched.catch(() => undefined);
      this.#fetching.set(key, fetched);
    }
    const come = new AbortController();
    this.#waits.add(come);
    const patience = sleep(this.#options.clock, FETCH_PATIENCE_MS, come.signal).then(() => undefined);
    try {
      const media = await Promise.race([fetched, patience]);
      if (media === undefined) throw notYetUploaded();
      return media;
    } finally {
      this.#waits.delete(come);
      come.abort();
    }
  }

  async #fetchNow(name: MediaName, remote: RemoteMedia, uploadTimeoutMs: Millis): Promise<FoundMedia> {
    const { database } = this.#options;
    const file = await remote.download(name, { uploadTimeoutMs }).catch((error: unknown): never => {
      // Of a server that knows nothing of this.
      throw error instanceof MatrixError && error.errcode === 'M_UNRECOGNIZED' ? unknownMedia() : error;
    });
    const media = await this.#keep(name, 'remote', file, this.limits.maxRemoteBytes).catch(
      (error: unknown) => {
        throw error instanceof MatrixError && error.errcode === 'M_TOO_LARGE'
          ? new MatrixError(502, 'M_TOO_LARGE', error.message)
          : error;
      },
    );
    if ((await findMedia(database, name))?.isQuarantined) throw unknownMedia();
    return media;
  }

  /** Stores what no user has uploaded. */
  #keep(name: MediaName, kind: MediaKind, file: IncomingFile, maxBytes: number): Promise<FoundMedia> {
    const { database, clock } = this.#options;
    return this.#store(file, maxBytes, async (content) => {
      const created = clock.wall();
      await database.transaction(async (tx) => {
        if ((await findMedia(tx, name)) !== undefined) return;
        await insertMedia(tx, { ...name, kind, uploader: null, created, expires: null, content });
      });
      return { name, kind, content };
    });
  }

  async #take<T>(user: UserId, file: IncomingFile, write: (content: MediaContent) => Promise<T>): Promise<T> {
    // Before its bytes are read, so that nobody brings them in vain.
    await this.#checkQuota(this.#options.database, user, 0);
    return this.#store(file, this.limits.maxUploadBytes, write);
  }

  /** Puts content into the store, has written down what it is for, and takes it away again where that fails. */
  async #store<T>(
    { content, contentType, fileName }: IncomingFile,
    maxBytes: number,
    write: (content: MediaContent) => Promise<T>,
  ): Promise<T> {
    const { store, database } = this.#options;
    const taken = await store.put(content, maxBytes).catch((error: unknown): never => {
      throw error instanceof ContentTooLarge ? tooLarge(maxBytes) : error;
    });
    try {
      const described = { contentType: cleanContentType(contentType), fileName: cleanFileName(fileName) };
      return await write({ sha256: taken.sha256, size: taken.size, ...described });
    } finally {
      await letGo(taken, store, database);
    }
  }

  /** @throws MatrixError M_FORBIDDEN */
  async #checkQuota(reader: Database | Transaction, user: UserId, size: number): Promise<void> {
    const { maxUserBytes, maxUserFiles } = this.limits;
    if (maxUserBytes === null && maxUserFiles === null) return;
    const { files, bytes } = await usageOf(reader, user);
    if (bytes + size > (maxUserBytes ?? Number.POSITIVE_INFINITY))
      throw forbidden('You have uploaded as many bytes as you may.');
    if (files >= (maxUserFiles ?? Number.POSITIVE_INFINITY))
      throw forbidden('You have uploaded as many files as you may.');
  }

  /** Whether an id is this user's and waits for its content. */
  async #checkWaits(reader: Database | Transaction, user: UserId, name: MediaName): Promise<void> {
    const { clock, serverName } = this.#options;
    const row = name.server === serverName ? await findMedia(reader, name) : undefined;
    if (row === undefined || row.kind !== 'upload') throw unknownMedia();
    if (row.uploader !== user) throw forbidden('Somebody else has made that media id.');
    if (row.content !== undefined)
      throw new MatrixError(409, 'M_CANNOT_OVERWRITE_MEDIA', 'The media id has its content already.');
    if (row.expires === null || row.expires <= clock.wall()) throw unknownMedia();
  }

  async #noteUse(row: MediaRow): Promise<void> {
    const { clock, database, log } = this.#options;
    const now = clock.wall();
    if (now - row.used < USE_NOTED_MS) return;
    // Where nothing can be written any more, what is there can still be had.
    await database
      .transaction((tx) => noteUse(tx, row, now))
      .catch((error: unknown) => log.warn({ err: error }, 'it was not noted when a file was asked for'));
  }

  #newName(): MediaName {
    const { serverName, random } = this.#options;
    return { server: serverName, mediaId: base64url(random.bytes(ID_BYTES)) };
  }
}

/** Lets go of content, and removes it where nothing was written down about it. */
export async function letGo(taken: TakenContent, store: MediaStore, database: Database): Promise<void> {
  taken.release();
  await store.remove(taken.sha256, () => isContentWanted(database, taken.sha256));
}

export const mxc = ({ server, mediaId }: MediaName): string => `mxc://${server}/${mediaId}`;

const found = ({ server, mediaId, kind }: MediaRow, content: MediaContent): FoundMedia => ({
  name: { server, mediaId },
  kind,
  content,
});

export const unknownMedia = (): MatrixError => notFound('There is no such file.');

const notYetUploaded = (): MatrixError =>
  new MatrixError(504, 'M_NOT_YET_UPLOADED', 'The content is not there yet.');

const tooLarge = (maxBytes: number): MatrixError =>
  new MatrixError(413, 'M_TOO_LARGE', `The file has more than ${maxBytes} bytes.`);

/** A media type as it may stand in a header (RFC 9110, section 8.3.1), or null. */
function cleanContentType(given: string | null): string | null {
  if (given === null || given.length > MAX_CONTENT_TYPE_LENGTH) return null;
  return /^[\w!#$&^.+-]+\/[\w!#$&^.+-]+(?:[ \t]*;[\x20-\x7e\t]*)?$/.test(given) ? given : null;
}

/** A file's name without control characters, those that turn the direction of text included; null where nothing is left. */
function cleanFileName(given: string | null): string | null {
  const clean = (given ?? '').replaceAll(/[\p{Cc}\p{Cs}\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, '').trim();
  return [...clean].slice(0, MAX_FILE_NAME_LENGTH).join('') || null;
}
