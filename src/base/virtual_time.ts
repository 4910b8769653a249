import type { Millis } from './time.ts';
import { VirtualClock } from './virtual_clock.ts';
import { Work } from './work.ts';

/**
 * Turns of the event loop after which nothing new has come up. A Fastify inject of an ordinary request settles within
 * two; one with a body of 50 PDUs was seen to take more.
 */
const QUIET_TURNS = 10;

/**
 * Runs a whole network of servers in virtual time: the clock moves to the next timer only when nothing is pending,
 * so the same seed gives the same run, as fast as the processor allows.
 */
export class VirtualTime {
  readonly clock: VirtualClock;
  readonly work: Work = new Work({ oneAtATime: true });

  /** @param epoch Unix time in milliseconds at which it starts. */
  constructor(epoch?: Millis) {
    this.clock = new VirtualClock(epoch);
  }

  /** Waits, in real time, until everything that was set going has come to rest. */
  async settle(): Promise<void> {
    for (let quiet = 0; quiet < QUIET_TURNS; ) {
      await new Promise<void>((resolve) => setImmediate(resolve));
      quiet = this.work.pending === 0 ? quiet + 1 : 0;
    }
  }

  /**
   * Lets time pass until `outcome` settles, and answers it.
   * @param limit how much virtual time it may take, in milliseconds
   * @throws where the limit passes, or nothing is left that could settle it
   */
  async until<T>(outcome: Promise<T>, limit: Millis): Promise<T> {
    const end = this.clock.monotonic() + limit;
    let settled = false;
    const watch = (): void => {
      settled = true;
    };
    outcome.then(watch, watch);
    await this.settle();
    while (!settled) {
      const next = this.clock.next();
      if (next === null)
        throw new Error('virtual time: nothing is left to happen, and the outcome is still open');
      if (next > end) throw new Error(`virtual time: not settled within ${limit} ms`);
      this.clock.step();
      await this.settle();
    }
    return outcome;
  }

  /** Lets `duration` milliseconds pass. */
  async pass(duration: Millis): Promise<void> {
    const end = this.clock.monotonic() + duration;
    await this.settle();
    for (let next = this.clock.next(); next !== null && next <= end; next = this.clock.next()) {
      this.clock.step();
      await this.settle();
    }
    this.clock.advanceTo(end);
  }
}
