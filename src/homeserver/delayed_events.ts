import { base64url } from '../base/bytes.ts';
import type { Random } from '../base/random.ts';
import type { Cancel, Clock, Millis } from '../base/time.ts';
import { badJson, forbidden, invalidParam, limitExceeded, MatrixError, notFound } from '../matrix/error.ts';
import type { RoomId, UserId } from '../matrix/ids.ts';
import type { JsonObject } from '../matrix/json.ts';
import type { Database } from '../storage/database.ts';
import {
  type DelayedEvent,
  delayedByRequest,
  endDelayed,
  endedOf,
  findDelayedEvent,
  forgetEnded,
  nextDelayed,
  putDelayedEvent,
  restartDelayed,
  waitingOf,
} from '../storage/delayed_events.ts';
import { type Done, notNoted } from './once.ts';
import type { Sending } from './rooms/sending.ts';
import type { UserLimit } from './user_limits.ts';

/** How long an event can be put off, and how many of a user's wait at most. */
export const MAX_DELAY_MS: Millis = 24 * 60 * 60_000;
export const MAX_SCHEDULED = 100;
/** What became of one is told so long, and of the last so many. */
const KEPT_MS: Millis = 24 * 60 * 60_000;
const KEPT = 100;
/** JSON text of a content; the whole event may have 64 KiB. */
const MAX_CONTENT = 65_536;
/** The longest that a timer is set for: a wall clock may be put right meanwhile. */
const MAX_SLEEP_MS: Millis = 60_000;
/** Until it is tried again where the disk failed. */
const RETRY_MS: Millis = 10_000;
const ID_BYTES = 18;
/** State whose sending is more than one event: invites go to other servers first, aliases are looked up. */
const NEVER_PUT_OFF: readonly string[] = ['m.room.member', 'm.room.canonical_alias'];

/** What is to be sent. */
export interface DelayedIntent {
  readonly room: RoomId;
  readonly type: string;
  /** Left out: a message. */
  readonly stateKey?: string | undefined;
  readonly content: JsonObject;
}

export const ACTIONS = ['send', 'cancel', 'restart'] as const;
export type DelayedAction = (typeof ACTIONS)[number];

export interface DelayedEventsOptions {
  readonly database: Database;
  readonly clock: Clock;
  readonly random: Random;
  readonly sending: Sending;
  readonly limit: UserLimit;
  readonly log: { warn(fields: object, message: string): void };
}

/**
 * Events that are sent later unless somebody prevents it (MSC4140): the hang-up of a call that goes out when the caller is not
 * heard of any more. They are on the disk, each is sent once, and those that became due while the server was not
 * running are sent at its start, in their order.
 */
export class DelayedEvents {
  readonly #options: DelayedEventsOptions;
  #timer: Cancel | undefined;
  #running: Promise<void> | undefined;
  #isAskedFor = false;
  #isStopped = false;

  constructor(options: DelayedEventsOptions) {
    this.#options = options;
  }

  /** Sends what is due, and from now on what becomes so. */
  start(): void {
    this.#wake();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#timer?.();
    await this.#running;
  }

  /**
   * Puts an event off.
   * @param request tells a repetition of the same request; left out: `done` does
   * @returns the id by which it is referred to
   * @throws MatrixError M_INVALID_PARAM, M_FORBIDDEN where the delay is too long, M_LIMIT_EXCEEDED where too many wait
   */
  async schedule(
    user: UserId,
    { room, type, stateKey, content }: DelayedIntent,
    { delayMs, request }: { readonly delayMs: Millis; readonly request?: string | undefined },
    done: Done<string> = notNoted,
  ): Promise<string> {
    const { database, clock, random, limit } = this.#options;
    if (!Number.isSafeInteger(delayMs) || delayMs <= 0) throw invalidParam('The delay is not above 0.');
    if (delayMs > MAX_DELAY_MS) throw forbidden('The delay is too long.');
    if (stateKey !== undefined && NEVER_PUT_OFF.includes(type))
      throw forbidden('Such state cannot be put off.');
    if (JSON.stringify(content).length > MAX_CONTENT) throw badJson('The content is too large.');
    const id = base64url(random.bytes(ID_BYTES));
    const scheduled = await database.transaction(async (tx) => {
      const known = request === undefined ? undefined : await delayedByRequest(tx, user, request);
      if (known !== undefined) return known;
      limit('sends', user);
      const now = clock.wall();
      await forgetEnded(tx, user, { before: now - KEPT_MS, kept: KEPT });
      const waiting = await waitingOf(tx, user);
      if (waiting.length >= MAX_SCHEDULED)
        throw limitExceeded('Too many delayed events wait.', Math.max(0, dueAt(waiting[0]!) - now));
      const event = { id, user, room, type, stateKey: stateKey ?? null, content, delayMs, since: now };
      await putDelayedEvent(tx, { ...event, request: request ?? null });
      await done(tx, id);
      return id;
    });
    this.#wake();
    return scheduled;
  }

  /**
   * Sends a user's event now, cancels it, or starts its time anew; what has ended so already has.
   * @throws MatrixError M_NOT_FOUND; M_UNKNOWN 409 where it has ended otherwise; as the room answers where it is sent
   */
  async act(user: UserId, id: string, action: DelayedAction, done: Done<void> = notNoted): Promise<void> {
    const { database, clock, limit } = this.#options;
    const event = await this.#own(user, id);
    if (event.ended !== null) {
      const wasSent = event.eventId !== null;
      if (action === 'restart' || wasSent !== (action === 'send'))
        throw new MatrixError(409, 'M_UNKNOWN', `The event was ${wasSent ? 'sent' : 'cancelled'} already.`);
      return;
    }
    limit('sends', user);
    if (action === 'send') {
      await this.#send(event);
      return;
    }
    await database.transaction(async (tx) => {
      const now = clock.wall();
      if (action === 'cancel') await endDelayed(tx, id, { at: now });
      else await restartDelayed(tx, id, now);
      await done(tx);
    });
  }

  /** One of a user's events. @throws MatrixError M_NOT_FOUND */
  async get(user: UserId, id: string): Promise<JsonObject> {
    const event = await this.#own(user, id);
    const told = waitingBody(event);
    if (event.ended === null) return told;
    const ended = {
      finalised_ts: event.ended,
      ...(event.eventId === null ? {} : { event_id: event.eventId }),
      ...(event.error === null ? {} : { error: event.error }),
    };
    return { ...told, ...ended, finalised: ended };
  }

  /** A user's events: those that wait, and what has become of the last others. */
  async list(user: UserId): Promise<JsonObject> {
    const { database } = this.#options;
    const waiting = (await waitingOf(database, user)).map(waitingBody);
    return {
      delayed_events: waiting,
      // Named as clients of the proposal's earlier text know them.
      scheduled: waiting,
      finalised: (await endedOf(database, user)).map(endedBody),
    };
  }

  async #own(user: UserId, id: string): Promise<DelayedEvent> {
    const event = await findDelayedEvent(this.#options.database, id);
    if (event?.user !== user) throw notFound('There is no such delayed event.');
    return event;
  }

  /** The transaction that makes the event notes that it was sent, so that it is sent once. */
  async #send({ id, user, room, type, stateKey, content }: DelayedEvent): Promise<void> {
    const { database, clock, sending } = this.#options;
    const sent: Done<DelayedEvent['eventId']> = async (tx, eventId) => {
      // Somebody may have cancelled it meanwhile, or sent it.
      if (!(await endDelayed(tx, id, { at: clock.wall(), eventId }))) throw new Ended();
    };
    try {
      const eventId =
        stateKey === null
          ? await sending.sendOnce(room, user, type, content, sent)
          : await sending.setState(room, user, type, stateKey, content, sent);
      // State that is there already is not set again, and nothing was noted.
      await database.transaction((tx) => endDelayed(tx, id, { at: clock.wall(), eventId }));
    } catch (error) {
      if (!(error instanceof Ended)) throw error;
    }
  }

  #wake(): void {
    this.#isAskedFor = true;
    if (this.#isStopped || this.#running !== undefined) return;
    this.#timer?.();
    this.#running = this.#run()
      .catch((error: unknown) => {
        this.#options.log.warn({ error: String(error) }, 'delayed events could not be read or stored');
        return RETRY_MS;
      })
      .then((sleepMs) => {
        this.#running = undefined;
        if (this.#isAskedFor && sleepMs !== RETRY_MS) this.#wake();
        else if (sleepMs !== undefined && !this.#isStopped)
          this.#timer = this.#options.clock.after(sleepMs, () => this.#wake());
      });
  }

  /** @returns how long there is nothing to do; undefined: nothing waits */
  async #run(): Promise<Millis | undefined> {
    const { database, clock } = this.#options;
    for (;;) {
      this.#isAskedFor = false;
      const next = await nextDelayed(database);
      if (next === undefined || this.#isStopped) return undefined;
      const left = dueAt(next) - clock.wall();
      if (left > 0) return Math.min(left, MAX_SLEEP_MS);
      try {
        await this.#send(next);
      } catch (error) {
        if (!(error instanceof MatrixError)) throw error;
        const at = clock.wall();
        await database.transaction((tx) => endDelayed(tx, next.id, { at, error: error.toJson() }));
      }
    }
  }
}

/** The event has ended while it was being sent: nothing of it is stored. */
class Ended extends Error {}

const dueAt = ({ since, delayMs }: DelayedEvent): Millis => since + delayMs;

const waitingBody = ({ id, room, type, stateKey, content, delayMs, since }: DelayedEvent): JsonObject => ({
  delay_id: id,
  room_id: room,
  type,
  ...(stateKey === null ? {} : { state_key: stateKey }),
  content,
  delay_ms: delayMs,
  scheduled_at: since,
  // The same, named as clients of the proposal's earlier text know them.
  delay: delayMs,
  running_since: since,
});

const endedBody = (event: DelayedEvent): JsonObject => ({
  delayed_event: waitingBody(event),
  outcome: event.eventId === null ? 'cancel' : 'send',
  reason: event.error !== null ? 'error' : event.ended! < dueAt(event) ? 'action' : 'delay',
  ...(event.error === null ? {} : { error: event.error }),
  ...(event.eventId === null ? {} : { event_id: event.eventId }),
  origin_server_ts: event.ended!,
});
