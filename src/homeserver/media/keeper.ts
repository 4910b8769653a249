import type { Cancel, Clock, Millis } from '../../base/time.ts';
import type { Database } from '../../storage/database.ts';
import {
  deleteMedia,
  deleteOldLooseThumbnails,
  expiredIds,
  forgetUnused,
  isContentWanted,
  leftAlone,
  type MediaKind,
  mediaTotals,
  noteUnused,
  someUnused,
} from '../../storage/media.ts';
import type { MediaStore } from '../../storage/media_store.ts';

const LOOK_MS: Millis = 60_000;
/** After the start, and between two looks at all files. */
const SWEEP_MS: Millis = 24 * 60 * 60_000;
/** What one transaction takes away, so that what users do goes on beside it. */
const A_STEP = 50;
const DAY_MS: Millis = 24 * 60 * 60_000;

export interface Retention {
  /** Not asked for for so many days; null: for ever. */
  readonly localDays: number | null;
  readonly remoteDays: number | null;
  readonly previewDays: number | null;
  /** Of all copies of other servers' media; those longest left alone go first. Null: as many as there are. */
  readonly remoteBytes: number | null;
}

interface KeeperOptions {
  readonly database: Database;
  readonly store: MediaStore;
  readonly clock: Clock;
  readonly retention: Retention;
  readonly log: {
    info(fields: object, message: string): void;
    warn(fields: object, message: string): void;
  };
}

/**
 * Takes away what is old, what was never brought, and files that nothing is written down about: those whose last id was
 * deleted, here or by a command, and those that a process left behind which ended between placing a file and its commit.
 */
export class MediaKeeper {
  readonly #options: KeeperOptions;
  #timer: Cancel | undefined;
  #running: Promise<void> | undefined;
  #isStopped = false;
  #sweptAt: Millis | undefined;

  constructor(options: KeeperOptions) {
    this.#options = options;
  }

  start(): void {
    this.#timer = this.#options.clock.after(LOOK_MS, () => {
      this.#running = this.look()
        .catch((error: unknown) => this.#options.log.warn({ err: error }, 'media were not looked through'))
        .then(() => {
          if (!this.#isStopped) this.start();
        });
    });
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#timer?.();
    await this.#running;
  }

  /** Does all that is to be done now. */
  async look(): Promise<void> {
    await this.#removeExpired();
    await this.#removeOld();
    await this.#shrink();
    await this.#removeUnused();
    const now = this.#options.clock.monotonic();
    if (this.#sweptAt !== undefined && now - this.#sweptAt < SWEEP_MS) return;
    this.#sweptAt = now;
    await this.#sweep();
    await this.#removeUnused();
  }

  async #removeExpired(): Promise<void> {
    const { database, clock } = this.#options;
    while (!this.#isStopped) {
      const names = await expiredIds(database, clock.wall(), A_STEP);
      if (names.length === 0) return;
      await database.transaction(async (tx) => {
        for (const name of await expiredIds(tx, clock.wall(), A_STEP)) await deleteMedia(tx, name);
      });
    }
  }

  async #removeOld(): Promise<void> {
    const { database, clock, retention, log } = this.#options;
    const ages: readonly (readonly [MediaKind, number | null])[] = [
      ['upload', retention.localDays],
      ['remote', retention.remoteDays],
      ['preview', retention.previewDays],
    ];
    for (const [kind, days] of ages) {
      if (days === null) continue;
      const before = clock.wall() - days * DAY_MS;
      for (let removed = A_STEP; removed === A_STEP && !this.#isStopped; ) {
        removed = await database.transaction(async (tx) => {
          const old = await leftAlone(tx, kind, before, A_STEP);
          for (const row of old) await deleteMedia(tx, row);
          return old.length;
        });
        if (removed > 0) log.info({ kind, removed, days }, 'old media were removed');
      }
    }
    if (retention.remoteDays === null) return;
    const before = clock.wall() - retention.remoteDays * DAY_MS;
    for (let removed = A_STEP; removed === A_STEP && !this.#isStopped; )
      removed = await database.transaction((tx) => deleteOldLooseThumbnails(tx, before, A_STEP));
  }

  async #shrink(): Promise<void> {
    const { database, clock, retention, log } = this.#options;
    const limit = retention.remoteBytes;
    if (limit === null) return;
    while (!this.#isStopped) {
      const bytes = (await mediaTotals(database)).get('remote')?.bytes ?? 0;
      if (bytes <= limit) return;
      const removed = await database.transaction(async (tx) => {
        let left = bytes;
        let count = 0;
        for (const row of await leftAlone(tx, 'remote', clock.wall() + 1, A_STEP)) {
          if (left <= limit) break;
          left -= row.content?.size ?? 0;
          await deleteMedia(tx, row);
          count++;
        }
        return count;
      });
      if (removed === 0) return;
      log.info({ removed, limit }, "copies of other servers' media were removed, for want of room");
    }
  }

  async #removeUnused(): Promise<void> {
    const { database, store } = this.#options;
    while (!this.#isStopped) {
      const unused = await someUnused(database, A_STEP);
      if (unused.length === 0) return;
      for (const sha256 of unused) await store.remove(sha256, () => isContentWanted(database, sha256));
      // Behind the files: after a crash in between they are looked at again.
      await database.transaction(async (tx) => {
        for (const sha256 of unused) await forgetUnused(tx, sha256);
      });
    }
  }

  /** Notes what is in the store and nowhere else. */
  async #sweep(): Promise<void> {
    const { database, store, log } = this.#options;
    let lost = 0;
    for await (const names of store.list()) {
      if (this.#isStopped) return;
      const unknown: string[] = [];
      for (const name of names) if (!(await isContentWanted(database, name))) unknown.push(name);
      if (unknown.length === 0) continue;
      lost += unknown.length;
      await database.transaction(async (tx) => {
        for (const sha256 of unknown) await noteUnused(tx, sha256);
      });
    }
    if (lost > 0) log.info({ files: lost }, 'media that nothing points to are removed');
  }
}
