import type { Cancel, Clock, Millis } from '../base/time.ts';
import { forbidden } from '../matrix/error.ts';
import type { RoomId, UserId } from '../matrix/ids.ts';
import type { Database } from '../storage/database.ts';
import { membershipOf } from '../storage/memberships.ts';
import { putTyping, roomsWithTyping, typingChange } from '../storage/typing.ts';
import { BackgroundWrites, type Warnings } from './background_writes.ts';
import type { Notifier } from './notifier.ts';
import type { EphemeralOutbox } from './ports.ts';
import { type Rate, RateLimit } from './rate_limit.ts';

// Ours.
/** Where a client does not say how long, and at most. */
const DEFAULT_TIMEOUT_MS: Millis = 30_000;
const MAX_TIMEOUT_MS: Millis = 120_000;
/** Of users of other servers, which do not say how long. */
const REMOTE_TIMEOUT_MS: Millis = 45_000;
/** Other servers are told again after so long that somebody still types. */
const TELL_AGAIN_MS: Millis = 25_000;
/** At once, in one room and in rooms; of more, nobody is told. */
const MAX_TYPING = 100;
const MAX_ROOMS = 10_000;
const CHANGES: Rate = { burst: 60, intervalMs: 500 };

interface Typist {
  readonly end: Cancel;
  /** When other servers were told, in monotonic milliseconds. */
  readonly toldAt: Millis;
}

/**
 * Who types where (client-server API, "Typing Notifications"). Only changes of who types are written; that somebody goes on
 * typing moves a timer in memory.
 */
export class Typing {
  readonly #database: Database;
  readonly #clock: Clock;
  readonly #notifier: Pick<Notifier, 'published'>;
  readonly #outbox: EphemeralOutbox;
  readonly #limit: RateLimit;
  /** By room, in the order in which they began. */
  readonly #rooms = new Map<RoomId, Map<UserId, Typist>>();
  readonly #background: BackgroundWrites;

  constructor(of: {
    readonly database: Database;
    readonly clock: Clock;
    readonly notifier: Pick<Notifier, 'published'>;
    readonly outbox: EphemeralOutbox;
    readonly log: Warnings;
  }) {
    this.#database = of.database;
    this.#clock = of.clock;
    this.#notifier = of.notifier;
    this.#outbox = of.outbox;
    this.#limit = new RateLimit(of.clock, CHANGES);
    this.#background = new BackgroundWrites(of.log);
  }

  /** Nobody types any more of whom it was told before the start: nobody else would ever say so. */
  async start(): Promise<void> {
    for (const room of await roomsWithTyping(this.#database)) await this.#store(room);
  }

  async stop(): Promise<void> {
    for (const typists of this.#rooms.values()) for (const { end } of typists.values()) end();
    this.#rooms.clear();
    await this.#background.settled();
  }

  /**
   * A local user begins or goes on typing for some time, or stops.
   * @param timeoutMs cut to at most 120 s
   * @throws MatrixError M_FORBIDDEN where they are not in the room, M_LIMIT_EXCEEDED
   */
  async set(
    user: UserId,
    room: RoomId,
    { isTyping, timeoutMs = DEFAULT_TIMEOUT_MS }: { readonly isTyping: boolean; readonly timeoutMs?: Millis },
  ): Promise<void> {
    this.#limit.take(user);
    if ((await membershipOf(this.#database, room, user))?.membership !== 'join')
      throw forbidden('You are not in this room.');
    const changed = isTyping
      ? this.#begin(room, user, Math.min(Math.max(timeoutMs, 0), MAX_TIMEOUT_MS), true)
      : this.#end(room, user, true);
    if (changed) await this.#store(room);
  }

  /** A user has sent something, so that they do not type it any more. */
  async sent(room: RoomId, user: UserId): Promise<void> {
    if (this.#end(room, user, true)) await this.#store(room);
  }

  /** What another server says of its user; who is not in the room is left out. */
  async received(room: RoomId, user: UserId, isTyping: boolean): Promise<void> {
    if ((await membershipOf(this.#database, room, user))?.membership !== 'join') return;
    const changed = isTyping
      ? this.#begin(room, user, REMOTE_TIMEOUT_MS, false)
      : this.#end(room, user, false);
    if (changed) await this.#store(room);
  }

  /** Whether this changes who types. */
  #begin(room: RoomId, user: UserId, timeoutMs: Millis, isLocal: boolean): boolean {
    const typists = this.#rooms.get(room) ?? new Map<UserId, Typist>();
    const before = typists.get(user);
    if (before === undefined && (typists.size >= MAX_TYPING || this.#rooms.size >= MAX_ROOMS)) return false;
    before?.end();
    const now = this.#clock.monotonic();
    const isToTell = isLocal && (before === undefined || now - before.toldAt >= TELL_AGAIN_MS);
    typists.set(user, {
      end: this.#clock.after(timeoutMs, () => {
        if (!this.#end(room, user, isLocal)) return;
        // Where it fails, whoever types in the room next writes again.
        void this.#background.keep(this.#store(room), 'it could not be stored who types');
      }),
      toldAt: isToTell ? now : (before?.toldAt ?? now),
    });
    this.#rooms.set(room, typists);
    if (isToTell) this.#outbox.typing(room, user, true);
    return before === undefined;
  }

  #end(room: RoomId, user: UserId, isLocal: boolean): boolean {
    const typists = this.#rooms.get(room);
    const typist = typists?.get(user);
    if (typists === undefined || typist === undefined) return false;
    typist.end();
    typists.delete(user);
    if (typists.size === 0) this.#rooms.delete(room);
    if (isLocal) this.#outbox.typing(room, user, false);
    return true;
  }

  /** Writes who types now, where that is not what was told last. */
  async #store(room: RoomId): Promise<void> {
    await this.#database.transaction(async (tx) => {
      const users = [...(this.#rooms.get(room)?.keys() ?? [])];
      const told = (await typingChange(tx, room, { after: 0, upTo: Number.MAX_SAFE_INTEGER })) ?? [];
      if (JSON.stringify(told) === JSON.stringify(users)) return;
      const position = await putTyping(tx, room, users);
      tx.afterCommit(() => this.#notifier.published(position, [room], []));
    });
  }
}
