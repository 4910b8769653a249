import { MatrixError } from '../../matrix/error.ts';
import type { RoomId } from '../../matrix/ids.ts';

/** How many operations may wait for one room. */
const MAX_WAITING = 1_000;
/** What a client is told to wait where that many do. */
const RETRY_AFTER_MS = 2_000;

/**
 * One lock for each room, first come first served. Whoever reads a room's forward extremities to authorise and store
 * an event holds it until the event is stored, so that no two events are made on the same reading.
 */
export class RoomLocks {
  readonly #tails = new Map<RoomId, { tail: Promise<unknown>; waiting: number }>();

  /** Runs `task` when every earlier one of the room has settled. @throws MatrixError M_LIMIT_EXCEEDED past the bound */
  async run<T>(room: RoomId, task: () => Promise<T>): Promise<T> {
    const lock = this.#tails.get(room) ?? { tail: Promise.resolve(), waiting: 0 };
    if (lock.waiting >= MAX_WAITING) {
      throw new MatrixError(429, 'M_LIMIT_EXCEEDED', 'Too many requests wait for this room', {
        retry_after_ms: RETRY_AFTER_MS,
      });
    }
    this.#tails.set(room, lock);
    lock.waiting++;
    const turn = lock.tail.then(task);
    lock.tail = turn.catch(() => undefined);
    try {
      return await turn;
    } finally {
      lock.waiting--;
      if (lock.waiting === 0) this.#tails.delete(room);
    }
  }
}
