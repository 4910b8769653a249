import { AccountData } from '../../../src/homeserver/account_data.ts';
import { Presence } from '../../../src/homeserver/presence.ts';
import { Receipts } from '../../../src/homeserver/receipts.ts';
import { Typing } from '../../../src/homeserver/typing.ts';
import type { DeviceId, EventId, UserId } from '../../../src/matrix/ids.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { noWarnings } from '../no_warnings.ts';
import { type DrivenRoom, type Driver, HERE, USERS } from './driver.ts';

/** Longer than the time between two steps, and shorter than a run. */
const TYPING_MS = 20_000;
/** As in the service: how long somebody is there who was so before a start, and who said so. */
const AFTER_START_MS = 60_000;
const STATED_MS = 5 * 60_000;

/** A receipt's user, type and thread. */
type ReceiptKey = string;
const keyOf = (user: UserId, type: string, thread: string): ReceiptKey => `${user} ${type} ${thread}`;

interface RoomLog {
  /** The events' places in the room, so that the newest is known. */
  readonly receipts: Map<ReceiptKey, { readonly at: number; readonly event: EventId }>;
  /** Until when, in the order in which they began. */
  readonly typing: Map<UserId, number>;
}

/** What one user is to know of a room besides its events. */
export interface Known {
  readonly receipts: Readonly<Record<ReceiptKey, string>>;
  readonly typing: readonly string[];
  readonly data: Readonly<Record<string, string>>;
}

/** What happens besides events, and the log of it. */
export class Besides {
  readonly accountData: AccountData;
  readonly receipts: Receipts;
  typing: Typing;
  presence: Presence;
  /** Whom a user ignores from the beginning. */
  readonly ignored = new Map<UserId, UserId>();
  readonly #driver: Driver;
  readonly #rooms = new Map<string, RoomLog>();
  /** By user, then by room, or '' for what is in none: the mark of each type. */
  readonly #data = new Map<UserId, Map<string, Record<string, string>>>();
  readonly #presence = new Map<UserId, { state: string; message: string | null; until: number }>();

  constructor(driver: Driver) {
    this.#driver = driver;
    const { database, notifier, clock } = driver;
    const outbox = { typing: () => {}, receipt: async () => {}, presence: () => {} };
    this.accountData = new AccountData({ database, notifier });
    this.receipts = new Receipts({ database, clock, notifier, accountData: this.accountData, outbox });
    this.typing = new Typing({ database, clock, notifier, outbox, log: noWarnings });
    this.presence = this.#newPresence();
  }

  #newPresence(): Presence {
    const { database, notifier, clock } = this.#driver;
    return new Presence({
      ...{ enabled: true, database, clock, notifier, serverName: HERE, log: noWarnings },
      outbox: { typing: () => {}, receipt: async () => {}, presence: () => {} },
      localUserExists: async () => true,
    });
  }

  async ignore(user: UserId, whom: UserId): Promise<void> {
    this.ignored.set(user, whom);
    const content = { ignored_users: { [whom]: {} } };
    await this.accountData.put(user, { room: undefined, type: 'm.ignored_user_list' }, content);
    this.#dataOf(user, '')['m.ignored_user_list'] = JSON.stringify(content);
  }

  async restart(): Promise<void> {
    await this.typing.stop();
    await this.presence.stop();
    const { database, notifier, clock } = this.#driver;
    const outbox = { typing: () => {}, receipt: async () => {}, presence: () => {} };
    this.typing = new Typing({ database, clock, notifier, outbox, log: noWarnings });
    this.presence = this.#newPresence();
    await this.typing.start();
    await this.presence.start();
    for (const { typing } of this.#rooms.values()) typing.clear();
    const until = this.#now + AFTER_START_MS;
    for (const one of this.#presence.values()) if (this.#isThere(one)) one.until = until;
    await this.settled();
  }

  /** What timers have set off is written. */
  async settled(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
  }

  get #now(): number {
    return this.#driver.clock.monotonic();
  }

  readonly #isThere = ({ state, until }: { state: string; until: number }): boolean =>
    state !== 'offline' && this.#now < until;

  #room(room: DrivenRoom): RoomLog {
    const log = this.#rooms.get(room.id) ?? { receipts: new Map(), typing: new Map() };
    this.#rooms.set(room.id, log);
    return log;
  }

  #dataOf(user: UserId, room: string): Record<string, string> {
    const rooms = this.#data.get(user) ?? new Map<string, Record<string, string>>();
    this.#data.set(user, rooms);
    const data = rooms.get(room) ?? {};
    rooms.set(room, data);
    return data;
  }

  async act(room: DrivenRoom): Promise<void> {
    const { pick } = this.#driver;
    const local = this.#driver.joined(room).filter((user) => USERS.includes(user));
    const user = pick.call(this.#driver, local) as UserId;
    const actions = [
      () => this.#read(room, user),
      () => this.#read(room, user),
      () => this.#type(room, user),
      () => this.#type(room, user),
      () => this.#keep(room),
      () => this.#tag(room),
      () => this.#state(pick.call(this.#driver, USERS) as UserId),
    ];
    await this.#driver.pick(actions)();
  }

  /** Somebody has sent something: as the route does it, they do not type it any more. */
  async sent(room: DrivenRoom, user: UserId): Promise<void> {
    await this.typing.sent(room.id, user);
    this.#room(room).typing.delete(user);
  }

  async #read(room: DrivenRoom, user: UserId): Promise<void> {
    const candidates = room.log.flatMap(({ id }, at) => (id === undefined ? [] : [{ id, at }]));
    if (candidates.length === 0) return;
    const { id, at } = this.#driver.pick(candidates);
    const threadId = this.#driver.pick([undefined, undefined, 'main']);
    const type = this.#driver.pick(['m.read', 'm.read', 'm.read.private', 'm.fully_read'] as const);
    if (type === 'm.fully_read') await this.receipts.mark(user, room.id, { fullyRead: id });
    else {
      const marker = type === 'm.read' ? { read: id } : { readPrivate: id };
      await this.receipts.mark(user, room.id, { ...marker, threadId });
    }
    this.#driver.count(type);
    const thread = type === 'm.fully_read' ? '' : (threadId ?? '');
    const { receipts } = this.#room(room);
    const key = keyOf(user, type, thread);
    if ((receipts.get(key)?.at ?? -1) >= at) return;
    receipts.set(key, { at, event: id });
    if (type === 'm.fully_read')
      this.#dataOf(user, room.id)[type] = JSON.stringify({ event_id: id } satisfies JsonObject);
  }

  async #type(room: DrivenRoom, user: UserId): Promise<void> {
    const isTyping = this.#driver.pick([true, true, false]);
    await this.typing.set(user, room.id, { isTyping, timeoutMs: TYPING_MS });
    const { typing } = this.#room(room);
    for (const [other, until] of typing) if (until <= this.#now) typing.delete(other);
    if (isTyping) typing.set(user, this.#now + TYPING_MS);
    else typing.delete(user);
    this.#driver.count(isTyping ? 'typing' : 'typing ended');
  }

  async #keep(room: DrivenRoom): Promise<void> {
    const user = this.#driver.pick(USERS);
    const place = this.#driver.pick([undefined, room.id]);
    const type = this.#driver.pick(['x.one', 'x.two']);
    const content = { mark: this.#driver.mark() };
    await this.accountData.put(user, { room: place, type }, content);
    this.#dataOf(user, place ?? '')[type] = JSON.stringify(content);
    this.#driver.count('account data');
  }

  async #tag(room: DrivenRoom): Promise<void> {
    const user = this.#driver.pick(USERS);
    const tag = this.#driver.pick(['u.a', 'u.b']);
    const data = this.#dataOf(user, room.id);
    const { tags } = JSON.parse(data['m.tag'] ?? '{"tags":{}}') as { tags: JsonObject };
    if (Object.hasOwn(tags, tag)) {
      await this.accountData.deleteTag(user, room.id, tag);
      delete tags[tag];
    } else {
      const order = this.#driver.pick([0, 0.25, 0.5]);
      await this.accountData.putTag(user, room.id, tag, { order });
      tags[tag] = { order };
    }
    data['m.tag'] = JSON.stringify({ tags });
    this.#driver.count('tags');
  }

  async #state(user: UserId): Promise<void> {
    const state = this.#driver.pick(['online', 'unavailable', 'offline'] as const);
    const message = this.#driver.pick([null, this.#driver.mark()]);
    await this.presence.set({ user, device: 'DEVICE' as DeviceId }, state, message);
    this.#presence.set(user, { state, message, until: this.#now + STATED_MS });
    this.#driver.count('presence');
  }

  /** What a user who is in a room is to know of it. */
  known(room: DrivenRoom, viewer: UserId): Known {
    const { receipts, typing } = this.#room(room);
    const ignored = this.ignored.get(viewer);
    const seen = [...receipts].filter(([key]) => {
      const [user, type] = key.split(' ');
      return type !== 'm.fully_read' && user !== ignored && (type === 'm.read' || user === viewer);
    });
    return {
      receipts: Object.fromEntries(seen.map(([key, { event }]) => [key, event])),
      typing: [...typing].flatMap(([user, until]) => (until > this.#now && user !== ignored ? [user] : [])),
      data: { ...this.#dataOf(viewer, room.id) },
    };
  }

  globalData(viewer: UserId): Readonly<Record<string, string>> {
    return { ...this.#dataOf(viewer, '') };
  }

  /** What others are that a user is to know of, without those who are offline and say nothing. */
  presenceFor(viewer: UserId): Readonly<Record<string, string>> {
    const shares = (user: UserId): boolean =>
      this.#driver.driven.some(
        ({ members }) => members.get(viewer) === 'join' && members.get(user) === 'join',
      );
    return Object.fromEntries(
      [...this.#presence].flatMap(([user, one]) => {
        if (user === viewer || user === this.ignored.get(viewer) || !shares(user)) return [];
        return [[user, this.#isThere(one) ? one.state : 'offline']];
      }),
    );
  }
}
