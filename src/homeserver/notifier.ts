import { assert } from '../base/assert.ts';
import type { Cancel, Clock, Millis } from '../base/time.ts';
import { MatrixError } from '../matrix/error.ts';
import type { RoomId, UserId } from '../matrix/ids.ts';

/** How many calls of `wait` may be open at once, in the whole server. */
const MAX_WAITERS = 10_000;
/** How many of them for one user; the oldest gives way to the newest. */
const MAX_WAITERS_PER_USER = 64;
/** How many rooms and users the notifier remembers the last publication of. */
const MAX_REMEMBERED = 20_000;
/** What a client is told to wait where MAX_WAITERS are open. */
const RETRY_AFTER_MS = 5_000;

/** Why a call of `wait` ended. */
export type WaitOutcome = 'published' | 'timeout' | 'aborted';

export interface Wait {
  /** Whose sync waits: wakes on what is published for this user, in whatever room. */
  readonly user: UserId;
  /** The rooms that wake it: those that the user is joined to. */
  readonly rooms: Iterable<RoomId>;
  /** The stream position that the caller has read up to; only what is published beyond it counts. */
  readonly after: number;
  readonly timeoutMs: Millis;
  /** Ends the wait when the client hangs up. */
  readonly signal?: AbortSignal | undefined;
}

interface Waiter {
  readonly user: UserId;
  readonly rooms: readonly RoomId[];
  readonly after: number;
  readonly end: (outcome: WaitOutcome) => void;
}

/** What a position was last published for, bounded: what is forgotten counts as published at `floor`. */
class LastPublished<Key> {
  /** In the order of the positions, so that the first is the oldest. */
  readonly #positions = new Map<Key, number>();
  readonly #limit: number;
  #floor = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  set(key: Key, position: number): void {
    this.#positions.delete(key);
    this.#positions.set(key, position);
    if (this.#positions.size <= this.#limit) return;
    const [oldest, forgotten] = this.#positions.entries().next().value!;
    this.#positions.delete(oldest);
    this.#floor = Math.max(this.#floor, forgotten);
  }

  get(key: Key): number {
    return this.#positions.get(key) ?? this.#floor;
  }
}

/**
 * Wakes long polls, in memory. No wake-up is lost between reading and waiting: a waiter says which position its read
 * covered, and what was published beyond that before it came wakes it at once. It may wake for nothing, so whoever
 * waits reads again and decides.
 */
export class Notifier {
  readonly #clock: Clock;
  readonly #rooms: LastPublished<RoomId>;
  readonly #users: LastPublished<UserId>;
  /** Sets keep the order of insertion, so waiters wake in the order in which they came. */
  readonly #byRoom = new Map<RoomId, Set<Waiter>>();
  readonly #byUser = new Map<UserId, Set<Waiter>>();
  #waiting = 0;

  /** @param options.remembered how many rooms and users to remember the last publication of */
  constructor({
    clock,
    remembered = MAX_REMEMBERED,
  }: { readonly clock: Clock; readonly remembered?: number }) {
    this.#clock = clock;
    this.#rooms = new LastPublished(remembered);
    this.#users = new LastPublished(remembered);
  }

  /** How many calls of `wait` are open. */
  get waiting(): number {
    return this.#waiting;
  }

  /**
   * Says that everything up to `position` is committed and readable. Called after the commit, with positions that
   * never go back.
   * @param rooms the rooms in which something became visible to those who are joined
   * @param users the users for whom something changed whether or not they are joined: an invite, their membership
   */
  published(position: number, rooms: Iterable<RoomId>, users: Iterable<UserId>): void {
    const woken = new Set<Waiter>();
    const collect = (waiters: ReadonlySet<Waiter> | undefined): void => {
      for (const waiter of waiters ?? []) if (waiter.after < position) woken.add(waiter);
    };
    for (const room of rooms) {
      this.#rooms.set(room, position);
      collect(this.#byRoom.get(room));
    }
    for (const user of users) {
      this.#users.set(user, position);
      collect(this.#byUser.get(user));
    }
    for (const waiter of woken) waiter.end('published');
  }

  /**
   * Resolves as soon as something beyond `after` is published for the user or one of the rooms, the time is up, or
   * the signal aborts.
   * @throws MatrixError M_LIMIT_EXCEEDED where too many are waiting already
   */
  wait({ user, rooms, after, timeoutMs, signal }: Wait): Promise<WaitOutcome> {
    const watched = [...rooms];
    if (signal?.aborted) return Promise.resolve('aborted');
    if (this.#users.get(user) > after || watched.some((room) => this.#rooms.get(room) > after)) {
      return Promise.resolve('published');
    }
    if (timeoutMs <= 0) return Promise.resolve('timeout');
    if (this.#waiting >= MAX_WAITERS) {
      throw new MatrixError(429, 'M_LIMIT_EXCEEDED', 'Too many requests are waiting', {
        retry_after_ms: RETRY_AFTER_MS,
      });
    }
    const own = this.#byUser.get(user);
    if (own !== undefined && own.size >= MAX_WAITERS_PER_USER) [...own][0]!.end('timeout');

    return new Promise((resolve) => {
      let cancel: Cancel | undefined;
      const onAbort = (): void => waiter.end('aborted');
      const waiter: Waiter = {
        user,
        rooms: watched,
        after,
        end: (outcome) => {
          cancel?.();
          signal?.removeEventListener('abort', onAbort);
          this.#remove(waiter);
          resolve(outcome);
        },
      };
      this.#add(waiter);
      signal?.addEventListener('abort', onAbort, { once: true });
      cancel = this.#clock.after(timeoutMs, () => waiter.end('timeout'));
    });
  }

  #add(waiter: Waiter): void {
    this.#waiting++;
    addTo(this.#byUser, waiter.user, waiter);
    for (const room of waiter.rooms) addTo(this.#byRoom, room, waiter);
  }

  #remove(waiter: Waiter): void {
    this.#waiting--;
    assert(this.#waiting >= 0, 'a wait ends once');
    removeFrom(this.#byUser, waiter.user, waiter);
    for (const room of waiter.rooms) removeFrom(this.#byRoom, room, waiter);
  }
}

function addTo<Key>(index: Map<Key, Set<Waiter>>, key: Key, waiter: Waiter): void {
  const waiters = index.get(key);
  if (waiters === undefined) index.set(key, new Set([waiter]));
  else waiters.add(waiter);
}

function removeFrom<Key>(index: Map<Key, Set<Waiter>>, key: Key, waiter: Waiter): void {
  const waiters = index.get(key);
  waiters?.delete(waiter);
  if (waiters?.size === 0) index.delete(key);
}
