import type { Millis } from './time.ts';

/**
 * What every input to a protocol machine returns. The driver commits `writes` first, sends `datagrams` then,
 * handles `events` after that, and calls the machine's `tick` at `deadline` (monotonic milliseconds; null: never).
 * That order is what makes counters, windows and exactly-once effects survive a crash. Since everything that has to
 * happen is returned, nothing can be forgotten in a drain loop.
 */
export interface Step<Write, Datagram, Event> {
  readonly writes: readonly Write[];
  readonly datagrams: readonly Datagram[];
  readonly events: readonly Event[];
  readonly deadline: Millis | null;
}
