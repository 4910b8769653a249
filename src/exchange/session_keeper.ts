import type { Cancel, Clock } from '../base/time.ts';
import type { EarlyGeneration, PipeStore, PipeWrite, StoredSession } from '../pipe/resumption.ts';
import type { ExchangeLog } from './socket_options.ts';

/** How long after a failed commit the same writes are tried again. */
const RETRY_MS = 5_000;

/** Hands the writes of a pipe to its store, one commit after another, and tells what is on the disk. */
export class SessionKeeper {
  readonly #store: PipeStore;
  readonly #clock: Clock;
  readonly #stored: (token: number) => void;
  readonly #log: ExchangeLog | undefined;
  /** In order. The pipe has one write of a session on its way at a time, so they are bounded by its sessions. */
  #waiting: PipeWrite[] = [];
  #committing: Promise<void> | undefined;
  #retry: Cancel | undefined;
  #closed = false;

  /** @param stored called with the last token of what was committed */
  constructor(store: PipeStore, clock: Clock, stored: (token: number) => void, log: ExchangeLog | undefined) {
    this.#store = store;
    this.#clock = clock;
    this.#stored = stored;
    this.#log = log;
  }

  /**
   * The sessions that are kept, and what is known of early data. None where they cannot be read: without a session nobody is
   * known whose early data could be taken. Never rejects.
   */
  async load(): Promise<{
    readonly sessions: readonly StoredSession[];
    readonly early: readonly EarlyGeneration[];
  }> {
    try {
      return { early: await this.#store.loadEarly(), sessions: await this.#store.load() };
    } catch (error) {
      this.#log?.error({ err: error }, 'the sessions of the pipe could not be read');
      return { sessions: [], early: [] };
    }
  }

  keep(writes: readonly PipeWrite[]): void {
    if (this.#closed || writes.length === 0) return;
    this.#waiting.push(...writes);
    this.#commit();
  }

  /** Waits for the commit that is under way; what waits behind it is given up, as in a crash. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#retry?.();
    await this.#committing;
  }

  #commit(): void {
    if (this.#closed || this.#committing !== undefined || this.#retry !== undefined) return;
    if (this.#waiting.length === 0) return;
    const writes = this.#waiting;
    this.#waiting = [];
    this.#committing = this.#store.commit(writes).then(
      () => {
        this.#committing = undefined;
        this.#stored(writes.at(-1)!.token);
        this.#commit();
      },
      (error: unknown) => {
        this.#committing = undefined;
        this.#log?.error({ err: error }, 'sessions of the pipe could not be stored');
        this.#waiting = [...writes, ...this.#waiting];
        if (this.#closed) return;
        this.#retry = this.#clock.after(RETRY_MS, () => {
          this.#retry = undefined;
          this.#commit();
        });
      },
    );
  }
}
