/** Time in milliseconds. Instants are Unix time (`wall`) or an arbitrary origin (`monotonic`). */
export type Millis = number;

/** Undoes a scheduled call; calling it twice, or after the call has run, does nothing. */
export type Cancel = () => void;

/** The only source of time in the process. The CLI passes the system's, simulations pass a virtual one. */
export interface Clock {
  /** Unix time in milliseconds; may jump. For timestamps in events and validity of keys. */
  wall(): Millis;
  /** Milliseconds since an arbitrary origin; never goes back. For timers and measured intervals. */
  monotonic(): Millis;
  /** Runs `run` once, `delay` milliseconds from now. */
  after(delay: Millis, run: () => void): Cancel;
}

/** The longest delay that a Node.js timer takes; longer ones are cut into pieces. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  wall: () => Date.now(),
  monotonic: () => performance.now(),
  after(delay, run) {
    let timer: ReturnType<typeof setTimeout>;
    const arm = (left: Millis): void => {
      timer = setTimeout(
        () => (left > LONGEST_TIMER_MS ? arm(left - LONGEST_TIMER_MS) : run()),
        Math.min(Math.max(0, left), LONGEST_TIMER_MS),
      );
    };
    arm(delay);
    return () => clearTimeout(timer);
  },
};

/** A clock that tells no earlier Unix time than `earliest`; its intervals are those of `clock`. */
export const neverBefore = (earliest: Millis, clock: Clock): Clock => ({
  wall: () => Math.max(earliest, clock.wall()),
  monotonic: () => clock.monotonic(),
  after: (delay, run) => clock.after(delay, run),
});

/** Resolves after `delay` milliseconds of `clock`, or at once when `signal` aborts (it never rejects). */
export function sleep(clock: Clock, delay: Millis, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const done = (): void => {
      cancel();
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const cancel = clock.after(delay, done);
    signal?.addEventListener('abort', done, { once: true });
  });
}
