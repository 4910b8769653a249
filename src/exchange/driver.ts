import type { Cancel, Clock, Millis } from '../base/time.ts';

/**
 * What surrounds pure machines: lets in one input after another, although working on one may bring the next, and keeps
 * one timer for the earliest of the machines' deadlines.
 */
export class Driver<Machine extends string> {
  readonly #clock: Clock;
  readonly #ticks: readonly (readonly [Machine, (now: Millis) => void])[];
  readonly #deadlines = new Map<Machine, Millis>();
  /** Inputs that came while another was being worked on. */
  readonly #inbox: ((now: Millis) => void)[] = [];
  #timer: { readonly at: Millis; readonly cancel: Cancel } | undefined;
  #busy = false;
  #paused = false;
  #latest: Millis;
  #closed = false;

  /** @param ticks what to do at each machine's deadline, in the order in which it is done where several are due. */
  constructor(clock: Clock, ticks: Readonly<Record<Machine, (now: Millis) => void>>) {
    this.#clock = clock;
    this.#ticks = Object.entries(ticks) as [Machine, (now: Millis) => void][];
    this.#latest = clock.monotonic();
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** The time of the newest input. */
  get latest(): Millis {
    return this.#latest;
  }

  /** Inputs that wait. */
  get waiting(): number {
    return this.#inbox.length;
  }

  /** From now on what comes in waits. */
  pause(): void {
    this.#busy = true;
    this.#paused = true;
  }

  /** Works on `first`, and then on everything that has waited. */
  resume(first: (now: Millis) => void): void {
    this.#paused = false;
    this.#inbox.unshift(first);
    this.#work();
  }

  /** Works on an input: at once, or after the one that is being worked on. `now` never goes back. */
  enter(input: (now: Millis) => void): void {
    this.#inbox.push(input);
    if (!this.#busy) this.#work();
  }

  #work(): void {
    this.#busy = true;
    try {
      for (let next = this.#inbox.shift(); next !== undefined; next = this.#inbox.shift()) {
        // A timer may fire a little early; time does not go back after it.
        this.#latest = Math.max(this.#latest, this.#clock.monotonic());
        next(this.#latest);
      }
    } finally {
      this.#busy = false;
    }
    this.#arm();
  }

  /** Takes over the deadline of a machine's newest step. Called while an input is worked on. */
  setDeadline(machine: Machine, deadline: Millis | null): void {
    if (deadline === null) this.#deadlines.delete(machine);
    else this.#deadlines.set(machine, deadline);
  }

  /** Ends the timer for good. What has waited is worked on, so that whoever waits for it learns that it is over. */
  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#paused) this.resume(() => undefined);
  }

  #arm(): void {
    const at = this.#closed || this.#deadlines.size === 0 ? undefined : Math.min(...this.#deadlines.values());
    if (at === this.#timer?.at) return;
    this.#timer?.cancel();
    this.#timer = undefined;
    if (at === undefined) return;
    const cancel = this.#clock.after(at - this.#clock.monotonic(), () => {
      this.#timer = undefined;
      this.#latest = Math.max(this.#latest, at);
      this.enter((now) => this.#tick(now));
    });
    this.#timer = { at, cancel };
  }

  #tick(now: Millis): void {
    for (const [machine, tick] of this.#ticks) {
      const deadline = this.#deadlines.get(machine);
      if (deadline !== undefined && deadline <= now) tick(now);
    }
  }
}
