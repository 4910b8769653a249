import type { Cancel, Clock, Millis } from '../../base/time.ts';
import type { EventId } from '../../matrix/ids.ts';
import type { Database } from '../../storage/database.ts';
import {
  NeededEvents,
  nextPurge,
  notePurge,
  type PurgeStage,
  type PurgeStep,
  purgeChanges,
  purgeEvents,
  purgeOf,
  purgeTimeline,
  type RoomPurge,
  removeGroups,
  unusedGroups,
} from '../../storage/purges.ts';
import type { RoomWriter } from './room_writer.ts';

/** Between two looks for something to purge. */
const LOOK_MS: Millis = 2_000;
/** Between two steps, so that what users do goes on beside it. */
const PAUSE_MS: Millis = 20;
/** State groups that one step removes. */
const GROUPS_A_STEP = 250;

const NEXT: Readonly<Record<PurgeStage, PurgeStage>> = {
  timeline: 'changes',
  changes: 'groups',
  groups: 'events',
  events: 'done',
  done: 'done',
};

export interface PurgingOptions {
  readonly database: Database;
  readonly writer: Pick<RoomWriter, 'locked' | 'events' | 'states'>;
  readonly clock: Clock;
  /** Awaited while much is read, so that others come in between. */
  readonly turn: () => Promise<void>;
  readonly log: {
    info(fields: object, message: string): void;
    warn(fields: object, message: string): void;
  };
}

/**
 * Does the purges that are asked for (`askForPurge`) beside everything else: in short transactions, each under the lock of
 * its room, with pauses in between. One that was interrupted goes on after the next start, and one that is taken back ends
 * after the step under way.
 */
export class Purging {
  readonly #options: PurgingOptions;
  #timer: Cancel | undefined;
  #running: Promise<void> | undefined;
  #isStopped = false;

  constructor(options: PurgingOptions) {
    this.#options = options;
  }

  start(): void {
    if (this.#isStopped) return;
    this.#timer = this.#options.clock.after(LOOK_MS, () => {
      this.#running = this.run().catch((error: unknown) =>
        this.#options.log.warn({ error: String(error) }, 'purging rooms was interrupted'),
      );
      void this.#running.then(() => this.start());
    });
  }

  /** Nothing is purged any more when this resolves. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#timer?.();
    await this.#running;
  }

  /** Does all purges that are asked for, to their end or until `stop`. */
  async run(): Promise<void> {
    for (;;) {
      const purge = await nextPurge(this.#options.database);
      if (purge === undefined || this.#isStopped) return;
      await this.#runStage(purge);
    }
  }

  async #runStage(purge: RoomPurge): Promise<void> {
    const { database, writer, turn, log } = this.#options;
    if (purge.stage === 'groups') return this.#runGroups(purge);
    const needed = new NeededEvents(database, purge);
    if (purge.stage === 'events') await needed.extend(turn);
    for (let now: RoomPurge | undefined = purge; now?.stage === purge.stage && !this.#isStopped; ) {
      const at: RoomPurge = now;
      await writer.locked(at.roomId, () =>
        database.transaction(async (tx) => {
          // It may have been taken back.
          const current = await purgeOf(tx, at.roomId);
          if (current?.stage !== at.stage) return;
          const step = await this.#step(tx, current, needed);
          const stage = step.done === undefined ? NEXT[at.stage] : at.stage;
          await notePurge(tx, current, {
            ...{ stage, done: step.done ?? 0, removed: step.removed.length, groups: 0 },
          });
          tx.afterCommit(() => writer.events.drop([...step.removed, ...step.changed] as EventId[]));
        }),
      );
      await this.#pause();
      now = await purgeOf(database, at.roomId);
      if (now?.stage === 'done')
        log.info({ room: at.roomId, removed: now.removed, groups: now.groups }, 'a room was purged');
    }
  }

  #step(tx: Parameters<typeof purgeEvents>[0], purge: RoomPurge, needed: NeededEvents): Promise<PurgeStep> {
    if (purge.stage === 'timeline') return purgeTimeline(tx, purge);
    return purge.stage === 'changes' ? purgeChanges(tx, purge) : purgeEvents(tx, purge, needed);
  }

  async #runGroups(purge: RoomPurge): Promise<void> {
    const { database, writer, turn } = this.#options;
    const { roomId } = purge;
    // No event that is left has these states; none that comes may take them from the memory.
    await writer.locked(roomId, async () => writer.states.forget());
    const unused = await unusedGroups(database, purge, turn);
    for (let at = 0; at <= unused.length; at += GROUPS_A_STEP) {
      if (this.#isStopped) return;
      const groups = unused.slice(at, at + GROUPS_A_STEP);
      const isLast = at + GROUPS_A_STEP > unused.length;
      const goesOn = await writer.locked(roomId, () =>
        database.transaction(async (tx) => {
          if ((await purgeOf(tx, roomId))?.stage !== 'groups') return false;
          await removeGroups(tx, groups);
          await notePurge(tx, purge, {
            ...{ stage: isLast ? NEXT.groups : 'groups', done: 0, removed: 0, groups: groups.length },
          });
          return true;
        }),
      );
      if (!goesOn) return;
      await this.#pause();
    }
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => void this.#options.clock.after(PAUSE_MS, resolve));
  }
}
