import { createHash } from 'node:crypto';
import { type FileHandle, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import type { Work } from '../base/work.ts';
import {
  type ByteRange,
  ContentTooLarge,
  type MediaStore,
  type Sha256,
  type TakenContent,
} from './media_store.ts';

const NAME = /^[0-9a-f]{64}$/;
/** Digits of a name that its folder is called by: 256 folders. */
const FOLDER_DIGITS = 2;
const READ_BYTES = 64 * 1024;
/** Owner only. */
const FOLDER_MODE = 0o700;
const FILE_MODE = 0o600;

/**
 * Content in files: `<folder>/<first two digits>/<sha256>`. What is just arriving is in `<folder>/arriving`, and comes to
 * its place by being renamed, when all of it is on the disk; what is found there at the start is what a process left behind
 * that ended in between.
 *
 * One process at a time removes or places files. Others that take something away from the database leave that to it
 * (`media_unused`).
 */
export class FileMediaStore implements MediaStore {
  readonly #folder: string;
  readonly #work: Work;
  #arrivals = 0;
  /** How many are just taking this content. */
  readonly #held = new Map<Sha256, number>();
  /** Placing and removing, one after another. */
  #lane: Promise<unknown> = Promise.resolve();

  /** @param folder made on first use */
  constructor({ folder, work }: { readonly folder: string; readonly work: Work }) {
    this.#folder = folder;
    this.#work = work;
  }

  /** Removes what was arriving when the process ended. Before anything else. */
  async start(): Promise<void> {
    await this.#work.run(() => rm(this.#arriving, { recursive: true, force: true }));
  }

  async put(content: AsyncIterable<Uint8Array>, maxBytes: number): Promise<TakenContent> {
    const path = join(this.#arriving, String(this.#arrivals++));
    const file = await this.#work.run(async () => {
      const made = await mkdir(this.#arriving, { recursive: true, mode: FOLDER_MODE });
      if (made === this.#folder) await syncFolder(dirname(this.#folder));
      return open(path, 'wx', FILE_MODE);
    });
    try {
      const { sha256, size } = await this.#write(file, content, maxBytes).finally(() =>
        this.#work.run(() => file.close()),
      );
      this.#held.set(sha256, (this.#held.get(sha256) ?? 0) + 1);
      try {
        await this.#inLane(() => this.#place(path, sha256));
      } catch (error) {
        this.#release(sha256);
        throw error;
      }
      return { sha256, size, release: () => this.#release(sha256) };
    } catch (error) {
      await this.#work.run(() => rm(path, { force: true }));
      throw error;
    }
  }

  async open(sha256: Sha256, range?: ByteRange): Promise<Readable | undefined> {
    const file = await this.#openFile(sha256);
    return file && new FileContent(file, this.#work, range);
  }

  async withFile<T>(sha256: Sha256, use: (path: string) => Promise<T>): Promise<T | undefined> {
    // It stays open meanwhile, and held, so that nobody takes it away.
    const file = await this.#openFile(sha256);
    if (file === undefined) return undefined;
    this.#held.set(sha256, (this.#held.get(sha256) ?? 0) + 1);
    try {
      return await use(this.#pathOf(sha256));
    } finally {
      this.#release(sha256);
      await this.#work.run(() => file.close());
    }
  }

  remove(sha256: Sha256, isWanted: () => Promise<boolean>): Promise<void> {
    return this.#inLane(async () => {
      // In this order: who holds it has not written down yet what it is for, and who has let it go has. Who takes it from
      // here on places it after this.
      if (this.#held.has(sha256) || (await isWanted())) return;
      await this.#work.run(() => rm(this.#pathOf(sha256), { force: true }));
    });
  }

  async *list(): AsyncIterable<readonly Sha256[]> {
    for (const folder of await this.#namesIn(this.#folder)) {
      if (folder.length !== FOLDER_DIGITS) continue;
      yield (await this.#namesIn(join(this.#folder, folder))).filter((name) => NAME.test(name));
    }
  }

  get #arriving(): string {
    return join(this.#folder, 'arriving');
  }

  #pathOf(sha256: Sha256): string {
    return join(this.#folder, sha256.slice(0, FOLDER_DIGITS), sha256);
  }

  async #write(
    file: FileHandle,
    content: AsyncIterable<Uint8Array>,
    maxBytes: number,
  ): Promise<{ readonly sha256: Sha256; readonly size: number }> {
    const hash = createHash('sha256');
    let size = 0;
    for await (const part of content) {
      size += part.length;
      if (size > maxBytes) throw new ContentTooLarge(`more than ${maxBytes} bytes`);
      hash.update(part);
      await this.#work.run(() => file.writeFile(part));
    }
    await this.#work.run(() => file.sync());
    return { sha256: hash.digest('hex'), size };
  }

  /** Also where the same content is there already: what is renamed over it is the same, and nobody sees a part of it. */
  #place(path: string, sha256: Sha256): Promise<void> {
    const folder = join(this.#folder, sha256.slice(0, FOLDER_DIGITS));
    return this.#work.run(async () => {
      const made = await mkdir(folder, { recursive: true, mode: FOLDER_MODE });
      await rename(path, this.#pathOf(sha256));
      await syncFolder(folder);
      if (made !== undefined) await syncFolder(this.#folder);
    });
  }

  #release(sha256: Sha256): void {
    const others = this.#held.get(sha256)! - 1;
    if (others > 0) this.#held.set(sha256, others);
    else this.#held.delete(sha256);
  }

  #inLane<T>(task: () => Promise<T>): Promise<T> {
    const done = this.#lane.then(task);
    this.#lane = done.catch(() => undefined);
    return done;
  }

  /** @throws the system's error, but for one that is not there */
  #openFile(sha256: Sha256): Promise<FileHandle | undefined> {
    return this.#work.run(() => open(this.#pathOf(sha256), 'r')).catch(ifMissing(undefined));
  }

  #namesIn(folder: string): Promise<readonly string[]> {
    return this.#work.run(() => readdir(folder)).catch(ifMissing([]));
  }
}

const ifMissing =
  <T>(instead: T) =>
  (error: NodeJS.ErrnoException): T => {
    if (error.code === 'ENOENT') return instead;
    throw error;
  };

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** A file, or a part of it, read as it is asked for. */
class FileContent extends Readable {
  readonly #file: FileHandle;
  readonly #work: Work;
  #at: number;
  readonly #end: number;

  constructor(file: FileHandle, work: Work, range?: ByteRange) {
    super({ highWaterMark: READ_BYTES });
    this.#file = file;
    this.#work = work;
    this.#at = range?.start ?? 0;
    this.#end = range?.end ?? Number.POSITIVE_INFINITY;
  }

  override _read(): void {
    const wanted = Math.min(READ_BYTES, this.#end - this.#at + 1);
    if (wanted <= 0) {
      this.push(null);
      return;
    }
    this.#work
      .run(() => this.#file.read(Buffer.allocUnsafe(wanted), 0, wanted, this.#at))
      .then(
        ({ bytesRead, buffer }) => {
          this.#at += bytesRead;
          this.push(bytesRead === 0 ? null : buffer.subarray(0, bytesRead));
        },
        (error: Error) => this.destroy(error),
      );
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#work
      .run(() => this.#file.close())
      .then(
        () => done(error),
        (closing: Error) => done(error ?? closing),
      );
  }
}
