import type { Cancel, Clock, Millis } from '../base/time.ts';
import { forbidden, MatrixError, notFound } from '../matrix/error.ts';
import { type DeviceId, type ServerName, serverOf, type UserId } from '../matrix/ids.ts';
import type { JsonObject } from '../matrix/json.ts';
import type { Database } from '../storage/database.ts';
import { roomsOf } from '../storage/memberships.ts';
import {
  findPresence,
  type PresenceRow,
  type PresenceState,
  presentUsers,
  putPresence,
  shareRoom,
} from '../storage/presence.ts';
import type { Requester } from './accounts.ts';
import { BackgroundWrites, type Warnings } from './background_writes.ts';
import type { Notifier } from './notifier.ts';
import type { EphemeralOutbox } from './ports.ts';
import { type Rate, RateLimit } from './rate_limit.ts';

// Ours (client-server API, "Presence", leaves them open).
/** Without activity for so long, somebody who is online is no longer taken to be active at present. */
const ACTIVE_MS: Millis = 60_000;
/** Without activity for so long, they are unavailable. */
const IDLE_MS: Millis = 5 * 60_000;
/** A device that does not sync is still there for so long. */
const GRACE_MS: Millis = 30_000;
/** Where somebody said what they are, without syncing. */
const STATED_MS: Millis = 5 * 60_000;
/** A user of another server of whom nothing has been heard for so long is offline. */
const REMOTE_MS: Millis = 30 * 60_000;
/** Users who are not offline: local ones, and those of other servers. */
const MAX_USERS = 20_000;
const MAX_DEVICES = 64;
const MAX_STATUS_LENGTH = 1_000;
/** How often a user changes what others see of them. */
const CHANGES: Rate = { burst: 20, intervalMs: 3_000 };

/** One device of a local user. */
interface Session {
  readonly state: PresenceState;
  /** Whether that was said by hand: a sync alone does not change it. */
  readonly isStated: boolean;
  /** Requests of /sync that wait. */
  readonly syncing: number;
  /** When it is gone unless it syncs, in monotonic milliseconds. */
  readonly until: Millis;
}

interface LocalUser {
  readonly devices: Map<DeviceId, Session>;
  /** Undefined: as it is stored. */
  statusMsg: string | null | undefined;
  /** In Unix time and in monotonic milliseconds; null: not since the start. */
  active: { readonly wall: Millis; readonly at: Millis } | null;
  timer: Cancel | undefined;
  /** What was stored last, as text: most requests of /sync change nothing, and write nothing. */
  told: string | undefined;
}

/** What others are to see. */
interface Shown extends Omit<PresenceRow, 'status_msg'> {
  /** Undefined: as it is stored. */
  readonly status_msg: string | null | undefined;
}

/** What another server says of one of its users. */
export interface ReceivedPresence {
  readonly user: UserId;
  readonly presence: PresenceState;
  readonly statusMsg: string | null;
  /** How long ago they were active; null: it does not say. */
  readonly lastActiveAgoMs: Millis | null;
  readonly currentlyActive: boolean;
}

/** Stands for a device of which only is known that it was there before the start. */
const BEFORE_START = '' as DeviceId;

/**
 * Who is there (client-server API, "Presence"). What a user is follows from what their devices are and how long ago they did
 * something; it is written only where what others see changes.
 */
export class Presence {
  readonly enabled: boolean;
  readonly #database: Database;
  readonly #clock: Clock;
  readonly #serverName: ServerName;
  readonly #notifier: Pick<Notifier, 'published'>;
  readonly #outbox: EphemeralOutbox;
  readonly #localUserExists: (user: UserId) => Promise<boolean>;
  readonly #limit: RateLimit;
  readonly #users = new Map<UserId, LocalUser>();
  /** Users of other servers who are not offline, with what ends that. */
  readonly #remote = new Map<UserId, Cancel>();
  readonly #background: BackgroundWrites;
  #isStopped = false;

  constructor(of: {
    readonly enabled: boolean;
    readonly database: Database;
    readonly clock: Clock;
    readonly serverName: ServerName;
    readonly notifier: Pick<Notifier, 'published'>;
    readonly outbox: EphemeralOutbox;
    readonly localUserExists: (user: UserId) => Promise<boolean>;
    readonly log: Warnings;
  }) {
    this.enabled = of.enabled;
    this.#database = of.database;
    this.#clock = of.clock;
    this.#serverName = of.serverName;
    this.#notifier = of.notifier;
    this.#outbox = of.outbox;
    this.#localUserExists = of.localUserExists;
    this.#limit = new RateLimit(of.clock, CHANGES);
    this.#background = new BackgroundWrites(of.log);
  }

  /** Goes on from what was told before the start: who does not come back is offline soon. */
  async start(): Promise<void> {
    if (!this.enabled) return;
    const now = this.#clock.monotonic();
    for (const row of await presentUsers(this.#database)) {
      const user = row.user_id;
      if (serverOf(user) !== this.#serverName) this.#expire(user, REMOTE_MS);
      else {
        const wall = row.last_active;
        const ago = wall === null ? 0 : Math.max(0, this.#clock.wall() - wall);
        const known = this.#user(user);
        known.active ??= wall === null ? null : { wall, at: now - ago };
        if (known.devices.size === 0)
          known.devices.set(BEFORE_START, {
            ...{ state: row.presence, isStated: true, syncing: 0, until: now + 2 * GRACE_MS },
          });
        this.#keep(this.#settle(user));
      }
    }
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const { timer } of this.#users.values()) timer?.();
    for (const cancel of this.#remote.values()) cancel();
    await this.#background.settled();
  }

  /**
   * A user says what they are.
   * @param statusMsg null: none
   * @throws MatrixError M_FORBIDDEN, M_TOO_LARGE, M_LIMIT_EXCEEDED
   */
  async set({ user, device }: Requester, state: PresenceState, statusMsg: string | null): Promise<void> {
    if (statusMsg !== null && statusMsg.length > MAX_STATUS_LENGTH)
      throw new MatrixError(413, 'M_TOO_LARGE', `status_msg is longer than ${MAX_STATUS_LENGTH} characters.`);
    if (!this.enabled) return;
    this.#limit.take(user);
    const known = this.#user(user);
    const before = known.devices.get(device);
    const now = this.#clock.monotonic();
    this.#put(known, device, {
      ...{ state, isStated: true, syncing: before?.syncing ?? 0, until: now + STATED_MS },
    });
    known.devices.delete(BEFORE_START);
    known.statusMsg = statusMsg;
    if (state !== 'offline') this.#setActive(known);
    await this.#settle(user);
  }

  /** A device begins to sync. @returns what is to be called when that ends, once */
  syncing({ user, device }: Requester, state: PresenceState): () => void {
    if (!this.enabled || state === 'offline') return () => undefined;
    if (!this.#users.has(user) && this.#users.size >= MAX_USERS) return () => undefined;
    const known = this.#user(user);
    const now = this.#clock.monotonic();
    const before = known.devices.get(device);
    const isStated = before?.isStated === true;
    const becomes = isStated ? before.state : state;
    // Coming is activity; going on is none.
    if (becomes === 'online' && before?.state !== 'online') this.#setActive(known);
    this.#put(known, device, {
      ...{ state: becomes, isStated, syncing: (before?.syncing ?? 0) + 1, until: now + GRACE_MS },
    });
    known.devices.delete(BEFORE_START);
    this.#keep(this.#settle(user));
    return () => this.#synced(user, device);
  }

  /** A user has done something, such as sending an event: whoever was idle is online again. */
  active({ user, device }: Requester): void {
    if (!this.enabled) return;
    const known = this.#users.get(user);
    const session = known?.devices.get(device);
    if (known === undefined || session === undefined || session.state === 'offline') return;
    known.devices.set(device, { ...session, state: 'online' });
    this.#setActive(known);
    this.#keep(this.#settle(user));
  }

  /** @throws MatrixError M_FORBIDDEN where they share no room, M_NOT_FOUND where there is no such user */
  async get(requester: UserId, user: UserId): Promise<JsonObject> {
    if (requester !== user && !(await shareRoom(this.#database, requester, user))) {
      if (serverOf(user) === this.#serverName && !(await this.#localUserExists(user)))
        throw notFound('There is no such user.');
      throw forbidden('You share no room with this user.');
    }
    const row = this.enabled ? await findPresence(this.#database, user) : undefined;
    return row === undefined ? { presence: 'offline' } : this.#content(row);
  }

  /** What /sync tells of a user. */
  event(row: PresenceRow): JsonObject {
    return { type: 'm.presence', sender: row.user_id, content: this.#content(row) };
  }

  /** What another server says of its user; somebody who is in no room here is left out. */
  async received(given: ReceivedPresence): Promise<void> {
    const { user, presence } = given;
    if (!this.enabled || (!this.#remote.has(user) && this.#remote.size >= MAX_USERS)) return;
    if ((await roomsOf(this.#database, user, 'join')).length === 0) return;
    const { lastActiveAgoMs, statusMsg } = given;
    if (presence === 'offline') this.#forget(user);
    else this.#expire(user, REMOTE_MS);
    await this.#store({
      ...{ user_id: user, presence, status_msg: statusMsg?.slice(0, MAX_STATUS_LENGTH) ?? null },
      last_active: lastActiveAgoMs === null ? null : this.#clock.wall() - lastActiveAgoMs,
      currently_active: Number(presence === 'online' && given.currentlyActive),
    });
  }

  #content(row: PresenceRow): JsonObject {
    const active = this.#users.get(row.user_id)?.active?.wall ?? row.last_active;
    return {
      presence: row.presence,
      ...(active === null ? {} : { last_active_ago: Math.max(0, this.#clock.wall() - active) }),
      ...(row.status_msg === null ? {} : { status_msg: row.status_msg }),
      ...(row.presence === 'online' ? { currently_active: row.currently_active === 1 } : {}),
    };
  }

  #user(user: UserId): LocalUser {
    const known = this.#users.get(user);
    if (known !== undefined) return known;
    const made: LocalUser = {
      ...{ devices: new Map(), statusMsg: undefined, active: null, timer: undefined, told: undefined },
    };
    this.#users.set(user, made);
    return made;
  }

  #put(known: LocalUser, device: DeviceId, session: Session): void {
    known.devices.delete(device);
    known.devices.set(device, session);
    if (known.devices.size > MAX_DEVICES) known.devices.delete(known.devices.keys().next().value!);
  }

  #setActive(known: LocalUser): void {
    known.active = { wall: this.#clock.wall(), at: this.#clock.monotonic() };
  }

  #synced(user: UserId, device: DeviceId): void {
    const known = this.#users.get(user);
    const session = known?.devices.get(device);
    if (known === undefined || session === undefined) return;
    const until = Math.max(session.until, this.#clock.monotonic() + GRACE_MS);
    known.devices.set(device, { ...session, syncing: session.syncing - 1, until });
    this.#keep(this.#settle(user));
  }

  /** Works out what a user is now and when that changes by itself, and tells others where it has changed. */
  async #settle(user: UserId): Promise<void> {
    const known = this.#users.get(user);
    if (known === undefined || this.#isStopped) return;
    const now = this.#clock.monotonic();
    for (const [device, { syncing, until }] of known.devices)
      if (syncing <= 0 && until <= now) known.devices.delete(device);
    const states = [...known.devices.values()].map(({ state }) => state);
    const idleMs = now - (known.active?.at ?? Number.NEGATIVE_INFINITY);
    const isThere = states.some((state) => state !== 'offline');
    const isOnline = states.includes('online') && idleMs < IDLE_MS;
    const presence: PresenceState = isOnline ? 'online' : isThere ? 'unavailable' : 'offline';
    const isActive = isOnline && idleMs < ACTIVE_MS;

    this.#arm(user, known, now, isOnline);
    if (known.devices.size === 0) this.#users.delete(user);
    const { statusMsg, active } = known;
    const told = JSON.stringify([presence, isActive, statusMsg]);
    if (known.told === told) return;
    known.told = told;
    try {
      await this.#store({
        ...{ user_id: user, presence, status_msg: statusMsg, last_active: active?.wall ?? null },
        currently_active: Number(isActive),
      });
    } catch (error) {
      known.told = undefined;
      throw error;
    }
  }

  #arm(user: UserId, known: LocalUser, now: Millis, isOnline: boolean): void {
    known.timer?.();
    known.timer = undefined;
    const instants = [...known.devices.values()].flatMap(({ syncing, until }) =>
      syncing > 0 ? [] : [until],
    );
    const { active } = known;
    if (isOnline && active !== null)
      instants.push(...[active.at + ACTIVE_MS, active.at + IDLE_MS].filter((instant) => instant > now));
    if (instants.length === 0) return;
    known.timer = this.#clock.after(Math.max(0, Math.min(...instants) - now), () => {
      this.#keep(this.#settle(user));
    });
  }

  async #store(given: Shown): Promise<void> {
    const user = given.user_id;
    const isLocal = serverOf(user) === this.#serverName;
    await this.#database.transaction(async (tx) => {
      const told = await findPresence(tx, user);
      const row: PresenceRow = {
        ...given,
        status_msg: given.status_msg === undefined ? (told?.status_msg ?? null) : given.status_msg,
        last_active: given.last_active ?? told?.last_active ?? null,
      };
      if (isSame(row, told)) return;
      const position = await putPresence(tx, row);
      const rooms = await roomsOf(tx, user, 'join');
      tx.afterCommit(() => {
        this.#notifier.published(position, rooms, []);
        if (!isLocal) return;
        const { presence, status_msg, last_active, currently_active } = row;
        this.#outbox.presence(
          {
            ...{ user, presence, statusMsg: status_msg, lastActive: last_active },
            currentlyActive: currently_active === 1,
          },
          rooms,
        );
      });
    });
  }

  /** Lets a user of another server go offline in some time. */
  #expire(user: UserId, delay: Millis): void {
    this.#forget(user);
    const end = async (): Promise<void> => {
      this.#remote.delete(user);
      const told = await findPresence(this.#database, user);
      if (told !== undefined) await this.#store({ ...told, presence: 'offline', currently_active: 0 });
    };
    this.#remote.set(
      user,
      this.#clock.after(delay, () => this.#keep(end())),
    );
  }

  #forget(user: UserId): void {
    this.#remote.get(user)?.();
    this.#remote.delete(user);
  }

  /** The next change writes again what could not be written. */
  #keep(writing: Promise<void>): void {
    void this.#background.keep(writing, 'the presence of a user could not be stored');
  }
}

/** Whether others see the same of both; when somebody was active last does not make a difference by itself. */
function isSame(row: PresenceRow, told: PresenceRow | undefined): boolean {
  if (told === undefined) return row.presence === 'offline' && row.status_msg === null;
  return (
    row.presence === told.presence &&
    row.status_msg === told.status_msg &&
    row.currently_active === told.currently_active
  );
}
