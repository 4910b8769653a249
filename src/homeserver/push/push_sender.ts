import type { Result } from '../../base/result.ts';
import type { Cancel, Clock, Millis } from '../../base/time.ts';
import type { UserId } from '../../matrix/ids.ts';
import type { JsonObject } from '../../matrix/json.ts';
import type { Database } from '../../storage/database.ts';
import {
  nextNotification,
  nextNotifying,
  pruneNotifications,
  unreadOf,
} from '../../storage/push_notifications.ts';
import {
  allPushers,
  deletePusher,
  findPusher,
  movePusher,
  type PusherRow,
  pushersOf,
} from '../../storage/pushers.ts';
import { badgeBody, eventBody, gatewayOf } from './push_body.ts';

/** How long a gateway may take for an answer. */
const TIMEOUT_MS: Millis = 30_000;
/** Between two requests of which the first has failed, at first and at most. */
const FIRST_RETRY_MS: Millis = 1_000;
const MAX_RETRY_MS: Millis = 60 * 60_000;
/** What is older is not pushed any more: nobody wants to be woken for it. */
const MAX_AGE_MS: Millis = 24 * 60 * 60_000;
/** Requests that are under way at once. */
const MAX_REQUESTS = 16;
/** How long notifications are kept, how often that is looked at, and how many go at once. */
const KEPT_MS: Millis = 30 * 24 * 60 * 60_000;
const PRUNE_INTERVAL_MS: Millis = 60 * 60_000;
const PRUNED_AT_ONCE = 500;

/** Takes notifications to the devices of users. */
export interface PushGateway {
  /**
   * POSTs a notification (push gateway API).
   * @returns the pushkeys that the gateway rejects; a problem where it does not answer with 200
   */
  notify(url: string, body: JsonObject, timeoutMs: Millis): Promise<Result<readonly string[]>>;
  /** Ends what is under way. */
  close(): Promise<void>;
}

interface PushSenderOptions {
  readonly database: Database;
  readonly clock: Clock;
  readonly gateway: PushGateway;
  readonly log: { warn(fields: object, message: string): void };
}

// How notifications reach gateways
// --------------------------------
// What is to be pushed is on the disk with the events that notify (storage/push_notifications.ts); a pusher only has a
// position up to which its gateway has been told. So nothing is lost by a stop: what comes behind that position and is not read
// is pushed next, one after another, each until the gateway has answered 200. Where it had and the position was not stored
// any more, it is told once more, which gateways know by the event's id. Where there is nothing to push and the count of what is
// unread is another one than the gateway was told last, it is told the count.

/** Serves the pushers of all users. */
export class PushSender {
  readonly #options: PushSenderOptions;
  /** The pushers of each user that has some. */
  readonly #byUser = new Map<UserId, Set<number>>();
  /** Those that are being served; whether they have to be looked at once more. */
  readonly #active = new Map<number, { isAskedFor: boolean }>();
  readonly #waiting = new Set<number>();
  readonly #retries = new Map<number, Cancel>();
  readonly #running = new Set<Promise<void>>();
  readonly #counters = { pushed: 0, failed: 0, rejected: 0 };
  #pruning: Cancel | undefined;
  #isStopped = false;

  constructor(options: PushSenderOptions) {
    this.#options = options;
  }

  get counters(): Readonly<{ pushed: number; failed: number; rejected: number }> {
    return this.#counters;
  }

  /** Goes on where the pushers were. */
  async start(): Promise<void> {
    for (const { id, user } of await allPushers(this.#options.database)) {
      this.#known(user).add(id);
      this.#serve(id);
    }
    this.#schedulePruning();
  }

  /** No request is begun any more when this resolves, and none is under way. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#pruning?.();
    for (const cancel of this.#retries.values()) cancel();
    await this.#options.gateway.close();
    await Promise.all(this.#running);
  }

  /** There may be something new for users. */
  wake(users: Iterable<UserId>): void {
    for (const user of users) for (const id of this.#byUser.get(user) ?? []) this.#serve(id);
  }

  /** A user's pushers have changed. */
  pushersChanged(user: UserId): void {
    this.#track(async () => {
      for (const { id } of await pushersOf(this.#options.database, user)) {
        this.#known(user).add(id);
        this.#serve(id);
      }
    });
  }

  #known(user: UserId): Set<number> {
    const known = this.#byUser.get(user) ?? new Set();
    this.#byUser.set(user, known);
    return known;
  }

  #serve(id: number): void {
    const active = this.#active.get(id);
    if (active !== undefined) active.isAskedFor = true;
    else if (this.#active.size >= MAX_REQUESTS) this.#waiting.add(id);
    else if (!this.#isStopped) this.#begin(id);
  }

  #begin(id: number): void {
    const state = { isAskedFor: true };
    this.#active.set(id, state);
    this.#retries.get(id)?.();
    this.#retries.delete(id);
    this.#track(async () => {
      try {
        while (state.isAskedFor && !this.#isStopped) {
          state.isAskedFor = false;
          while (!this.#isStopped && (await this.#step(id)));
        }
      } finally {
        this.#active.delete(id);
        const [next] = this.#waiting;
        if (next !== undefined) {
          this.#waiting.delete(next);
          this.#serve(next);
        }
      }
    });
  }

  #track(task: () => Promise<void>): void {
    const running = task()
      // The disk's failure: the next notification, or the next start, finds what is left to do.
      .catch((error: unknown) =>
        this.#options.log.warn({ error: String(error) }, 'a pusher could not be served'),
      )
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  /** Makes one request for a pusher where one is due. @returns whether there may be more to do now */
  async #step(id: number): Promise<boolean> {
    const { database, clock, gateway } = this.#options;
    const pusher = await findPusher(database, id);
    if (pusher === undefined) {
      for (const known of this.#byUser.values()) known.delete(id);
      return false;
    }
    const delayMs = pusher.retryAt - clock.wall();
    // More than that it can be only where the clock was set back.
    if (delayMs > 0 && delayMs <= MAX_RETRY_MS) {
      this.#retryLater(id, delayMs);
      return false;
    }
    const next = await nextNotification(database, pusher.user, pusher.position);
    const unread = await unreadOf(database, pusher.user);
    const position = next?.position ?? pusher.position;
    const done = { position, badge: unread, failures: 0, retryAt: 0 };
    if (next === undefined && unread === pusher.badge) return false;
    const isTooOld = next !== undefined && next.received < clock.wall() - MAX_AGE_MS;
    const body =
      next === undefined
        ? badgeBody(pusher, unread)
        : isTooOld
          ? undefined
          : await eventBody(database, pusher, next, unread);
    if (body === undefined) {
      // It is gone, or too old.
      await this.#move(pusher, { ...done, badge: pusher.badge });
      return true;
    }
    const answer = await gateway.notify(gatewayOf(pusher), body, TIMEOUT_MS);
    if (!answer.ok) return this.#failed(pusher);
    if (answer.value.includes(pusher.pushkey)) return this.#rejected(pusher);
    this.#counters.pushed++;
    await this.#move(pusher, done);
    return true;
  }

  async #failed(pusher: PusherRow): Promise<boolean> {
    this.#counters.failed++;
    const failures = pusher.failures + 1;
    const delayMs = Math.min(FIRST_RETRY_MS * 2 ** Math.min(failures - 1, 30), MAX_RETRY_MS);
    const { position, badge } = pusher;
    await this.#move(pusher, { position, badge, failures, retryAt: this.#options.clock.wall() + delayMs });
    return true;
  }

  /** The gateway wants no more of it, unless it was set anew meanwhile. */
  async #rejected(pusher: PusherRow): Promise<boolean> {
    this.#counters.rejected++;
    await this.#options.database.transaction(async (tx) => {
      const now = await findPusher(tx, pusher.id);
      if (now?.pushkeyTs === pusher.pushkeyTs) await deletePusher(tx, pusher.user, pusher);
    });
    return true;
  }

  #move(pusher: PusherRow, to: Parameters<typeof movePusher>[2]): Promise<void> {
    return this.#options.database.transaction((tx) => movePusher(tx, pusher, to));
  }

  #retryLater(id: number, delayMs: Millis): void {
    this.#retries.get(id)?.();
    this.#retries.set(
      id,
      this.#options.clock.after(delayMs, () => this.#serve(id)),
    );
  }

  #schedulePruning(): void {
    const { database, clock } = this.#options;
    this.#pruning = clock.after(PRUNE_INTERVAL_MS, () => {
      this.#track(async () => {
        const before = clock.wall() - KEPT_MS;
        for (let room = await nextNotifying(database, ''); room !== undefined && !this.#isStopped; ) {
          const at = room;
          const isMore = await database.transaction((tx) =>
            pruneNotifications(tx, at, { before, most: PRUNED_AT_ONCE }),
          );
          if (!isMore) room = await nextNotifying(database, at);
        }
      });
      if (!this.#isStopped) this.#schedulePruning();
    });
  }
}
