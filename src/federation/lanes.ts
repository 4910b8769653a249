import type { Cancel, Clock, Millis } from '../base/time.ts';
import type { ServerName } from '../matrix/ids.ts';
import type { Log } from './log.ts';

/** Longest time between two attempts. */
export const MAX_RETRY_MS: Millis = 60 * 60 * 1000;
/** How soon after a failed attempt the next may come when the server speaks; doubled by each further failure. */
const FIRST_SPOKEN_RETRY_MS: Millis = 1_000;
const MAX_SPOKEN_RETRY_MS: Millis = 30_000;
/** After a failure of our own database. */
const DATABASE_RETRY_MS: Millis = 60_000;

/** How many attempts have failed in a row, and how long to wait for the next one. */
export interface Postponement {
  readonly failures: number;
  readonly waitMs: Millis;
}

interface LanesOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** Does what there is to do for a server. Undefined: all is done. */
  readonly drain: (server: ServerName, signal: AbortSignal) => Promise<Postponement | undefined>;
  /** How soon after the last attempt the next may come when there is something new. */
  readonly wokenRetry: (failures: number) => Millis;
}

type LaneState =
  | { readonly kind: 'running' }
  /** `attemptedAt` and `at` in monotonic time. */
  | {
      readonly kind: 'postponed';
      readonly failures: number;
      readonly attemptedAt: Millis;
      readonly at: Millis;
      readonly cancel: Cancel;
    };

/** Work for other servers, one lane each: a lane runs, or is postponed after a failure, or has nothing to do. */
export class Lanes {
  readonly #options: LanesOptions;
  /** Lanes with something to do. A lane without is not kept. */
  readonly #lanes = new Map<ServerName, LaneState>();
  /** Running lanes that got something new since they last looked. */
  readonly #woken = new Set<ServerName>();
  /** Running lanes whose server has spoken since they last looked. */
  readonly #spoken = new Set<ServerName>();
  /** Running lanes that got something which is not worth an attempt. */
  readonly #nudged = new Set<ServerName>();
  readonly #running = new Set<Promise<void>>();
  #stopping: AbortController | undefined;

  constructor(options: LanesOptions) {
    this.#options = options;
  }

  /** Before it nothing runs. */
  start(): void {
    this.#stopping = new AbortController();
  }

  /** Waits until nothing runs, and nothing will. */
  async stop(): Promise<void> {
    this.#stopping?.abort();
    this.#stopping = undefined;
    for (const lane of this.#lanes.values()) if (lane.kind === 'postponed') lane.cancel();
    this.#lanes.clear();
    this.#woken.clear();
    this.#spoken.clear();
    this.#nudged.clear();
    await Promise.all(this.#running);
  }

  has(server: ServerName): boolean {
    return this.#lanes.has(server);
  }

  isRunning(server: ServerName): boolean {
    return this.#lanes.get(server)?.kind === 'running';
  }

  /** There is something new for this server. */
  wake(server: ServerName): void {
    const lane = this.#lanes.get(server);
    if (lane === undefined) this.#run(server);
    else if (lane.kind === 'running') this.#woken.add(server);
    else this.#bringForward(server, lane, this.#options.wokenRetry(lane.failures));
  }

  /** There is something for this server that brings no attempt forward: where it is waited for, it waits as well. */
  nudge(server: ServerName): void {
    const lane = this.#lanes.get(server);
    if (lane === undefined) this.#run(server);
    else if (lane.kind === 'running') this.#nudged.add(server);
  }

  /** The server has just spoken to us, and so can be reached. */
  peerSpoke(server: ServerName): void {
    const lane = this.#lanes.get(server);
    if (lane === undefined) return;
    if (lane.kind === 'running') {
      this.#spoken.add(server);
      return;
    }
    const wait = Math.min(MAX_SPOKEN_RETRY_MS, FIRST_SPOKEN_RETRY_MS * 2 ** (lane.failures - 1));
    this.#bringForward(server, lane, wait);
  }

  /** Lets a lane wait, as after an attempt that has just failed. */
  postpone(server: ServerName, { failures, waitMs }: Postponement): void {
    if (this.#stopping === undefined) return;
    this.#setTimer(server, { failures, attemptedAt: this.#options.clock.monotonic() }, waitMs);
    this.#nudged.delete(server);
    // What came while the attempt ran, and could not help it, counts as if it came now.
    if (this.#woken.delete(server)) this.wake(server);
    if (this.#spoken.delete(server)) this.peerSpoke(server);
  }

  #bringForward(server: ServerName, lane: LaneState & { kind: 'postponed' }, sinceAttempt: Millis): void {
    const at = lane.attemptedAt + sinceAttempt;
    if (at >= lane.at) return;
    lane.cancel();
    const wait = Math.max(0, at - this.#options.clock.monotonic());
    this.#setTimer(server, { failures: lane.failures, attemptedAt: lane.attemptedAt }, wait);
  }

  #setTimer(server: ServerName, lane: { failures: number; attemptedAt: Millis }, wait: Millis): void {
    const { clock } = this.#options;
    const cancel = clock.after(wait, () => this.#run(server));
    this.#lanes.set(server, { kind: 'postponed', ...lane, at: clock.monotonic() + wait, cancel });
  }

  #run(server: ServerName): void {
    const stopping = this.#stopping;
    if (stopping === undefined) return;
    this.#lanes.set(server, { kind: 'running' });
    const run = this.#drain(server, stopping.signal)
      .catch((error: unknown) => {
        // The database failed. The rows are where they were.
        this.#options.log.warn({ server, error: String(error) }, 'work for a server was interrupted');
        if (!stopping.signal.aborted) this.postpone(server, { failures: 1, waitMs: DATABASE_RETRY_MS });
      })
      .finally(() => this.#running.delete(run));
    this.#running.add(run);
  }

  async #drain(server: ServerName, signal: AbortSignal): Promise<void> {
    for (;;) {
      this.#woken.delete(server);
      this.#spoken.delete(server);
      this.#nudged.delete(server);
      const postponement = await this.#options.drain(server, signal);
      if (signal.aborted) return;
      if (postponement !== undefined) return this.postpone(server, postponement);
      // A wake between the last look and this line is in #woken; after it, the lane is gone.
      if (this.#woken.has(server) || this.#nudged.has(server)) continue;
      this.#spoken.delete(server);
      this.#lanes.delete(server);
      return;
    }
  }
}
