import { type ChildProcess, fork } from 'node:child_process';
import { setPriority } from 'node:os';
import type { Cancel, Clock, Millis } from '../../base/time.ts';
import type { Work } from '../../base/work.ts';
import { limitExceeded } from '../../matrix/error.ts';
import { OUT_OF_MEMORY, READY, type ThumbnailOutcome, type ThumbnailTask } from './thumbnail_task.ts';

/** Images that wait for their turn. */
const MAX_WAITING = 64;
const RETRY_AFTER_MS: Millis = 5_000;
/** Without anything to do the process ends, so that an idle server is small. */
const IDLE_MS: Millis = 60_000;
/** Of its JavaScript; what decoders take comes on top, and is bounded by `maxMemoryBytes`. */
const HEAP_MIB = 64;
/** Below the server's (POSIX nice). */
const NICENESS = 5;
/** Until it is ready: machines may be busy. */
const START_TIMEOUT_MS: Millis = 60_000;

const WORKER = new URL('./thumbnail_worker.ts', import.meta.url);

export interface ThumbnailerOptions {
  readonly clock: Clock;
  readonly work: Work;
  /** For one image; then the process is ended. */
  readonly timeoutMs: Millis;
  /** Of all frames of an image together. */
  readonly maxPixels: number;
  /** Of the process; with more it ends. */
  readonly maxMemoryBytes: number;
}

/**
 * Has images of strangers decoded in a process of its own, one at a time, which may take only so much time and memory: what
 * breaks a decoder breaks that process, and the next image gets a new one. It is started by the first image.
 */
export class Thumbnailer {
  readonly #options: ThumbnailerOptions;
  #child: ChildProcess | undefined;
  #endIdle: Cancel | undefined;
  #waiting = 0;
  #lane: Promise<unknown> = Promise.resolve();
  #isStopped = false;

  constructor(options: ThumbnailerOptions) {
    this.#options = options;
  }

  /** How often a process was started. */
  starts = 0;

  /**
   * @param path of the image
   * @throws MatrixError M_LIMIT_EXCEEDED where too many wait
   */
  make(path: string, key: ThumbnailTask['key']): Promise<ThumbnailOutcome> {
    if (this.#waiting >= MAX_WAITING)
      return Promise.reject(limitExceeded('Too many images wait to be made smaller.', RETRY_AFTER_MS));
    this.#waiting++;
    const { maxPixels } = this.#options;
    const made = this.#lane.then(() => this.#ask({ path, key, maxPixels }));
    this.#lane = made.catch(() => undefined);
    return made.finally(() => this.#waiting--);
  }

  /** Ends the process; nothing is made any more. */
  stop(): void {
    this.#isStopped = true;
    this.#end();
  }

  async #ask(task: ThumbnailTask): Promise<ThumbnailOutcome> {
    this.#endIdle?.();
    const said = await this.#options.work.run(() => this.#askChild(task));
    if (said.kind !== 'message') this.#end();
    else if (!this.#isStopped) this.#endIdle = this.#options.clock.after(IDLE_MS, () => this.#end());
    switch (said.kind) {
      case 'message':
        return said.message as ThumbnailOutcome;
      case 'timeout':
        return { kind: 'too large' };
      case 'failed':
        return said;
      case 'exit':
        // One that was stopped has said nothing of the image.
        if (this.#isStopped) return { kind: 'failed' };
        return { kind: said.code === OUT_OF_MEMORY ? 'too large' : 'no image' };
    }
  }

  async #askChild(task: ThumbnailTask): Promise<Said> {
    const { clock, timeoutMs } = this.#options;
    if (this.#child?.connected !== true) {
      if (this.#isStopped) return { kind: 'failed' };
      const started = await nextWord(this.#start(), clock, START_TIMEOUT_MS);
      if (started.kind !== 'message' || started.message !== READY) return { kind: 'failed' };
    }
    const child = this.#child;
    if (child === undefined) return { kind: 'failed' };
    const answer = nextWord(child, clock, timeoutMs);
    child.send(task, () => undefined);
    return answer;
  }

  #start(): ChildProcess {
    this.starts++;
    const child = fork(WORKER, [String(this.#options.maxMemoryBytes)], {
      // Nothing of ours is to be found in there.
      env: {},
      execArgv: [`--max-old-space-size=${HEAP_MIB}`],
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    });
    // Whoever asks it is told by other means.
    child.on('error', () => undefined);
    if (child.pid !== undefined) lower(child.pid);
    this.#child = child;
    return child;
  }

  #end(): void {
    this.#endIdle?.();
    this.#endIdle = undefined;
    this.#child?.kill('SIGKILL');
    this.#child = undefined;
  }
}

function lower(pid: number): void {
  try {
    setPriority(pid, NICENESS);
  } catch {
    // It has ended already, or the system does not let us: it is slower or faster for that, no more.
  }
}

type Said =
  | { readonly kind: 'message'; readonly message: unknown }
  | { readonly kind: 'exit'; readonly code: number | null }
  | { readonly kind: 'timeout' }
  | { readonly kind: 'failed' };

/** What is heard of a process next. */
function nextWord(child: ChildProcess, clock: Clock, timeoutMs: Millis): Promise<Said> {
  return new Promise((resolve) => {
    const settle = (said: Said): void => {
      cancel();
      child.off('message', onMessage).off('exit', onExit).off('error', onError);
      resolve(said);
    };
    const onMessage = (message: unknown): void => settle({ kind: 'message', message });
    const onExit = (code: number | null): void => settle({ kind: 'exit', code });
    const onError = (): void => settle({ kind: 'failed' });
    const cancel = clock.after(timeoutMs, () => settle({ kind: 'timeout' }));
    child.on('message', onMessage).on('exit', onExit).on('error', onError);
  });
}
