import { seededRandom } from '../../../src/base/random.ts';
import { VirtualClock } from '../../../src/base/virtual_clock.ts';
import { AccountData } from '../../../src/homeserver/account_data.ts';
import { Notifier } from '../../../src/homeserver/notifier.ts';
import { Notifications } from '../../../src/homeserver/push/notifications.ts';
import { PushRules } from '../../../src/homeserver/push/push_rules.ts';
import { Recipients } from '../../../src/homeserver/push/recipients.ts';
import { Receipts } from '../../../src/homeserver/receipts.ts';
import { Rooms } from '../../../src/homeserver/rooms/rooms.ts';
import { Sync } from '../../../src/homeserver/sync/sync.ts';
import type { DeviceId, EventId, KeyId, RoomId, ServerName, UserId } from '../../../src/matrix/ids.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { signingKey } from '../../../src/matrix/signing.ts';
import { temporaryDatabase } from '../../storage/temporary_database.ts';
import { slowRuling } from './slow_rules.ts';

export const HERE = 'here' as ServerName;
export const USERS = ['@ann:here', '@ben:here', '@cid:here'] as UserId[];

/** What the driver did, in order; everything that counts follows from it. */
type Entry =
  | {
      readonly kind: 'event';
      readonly id: EventId;
      readonly room: RoomId;
      readonly event: JsonObject;
      readonly thread: string;
      /** By user: the actions of the first rule that holds, for those who may be notified. */
      readonly notified: ReadonlyMap<UserId, boolean>;
    }
  | {
      readonly kind: 'read';
      readonly room: RoomId;
      readonly user: UserId;
      readonly event: EventId;
      readonly thread: string | undefined;
    }
  | { readonly kind: 'redaction'; readonly of: EventId }
  | { readonly kind: 'left'; readonly user: UserId; readonly room: RoomId };

export interface Counts {
  readonly notifications: number;
  readonly highlights: number;
}
export type ThreadCounts = Record<string, Counts>;

/** Rooms, whose users do what they are told to, and a log of it. */
export class CountsWorld {
  readonly clock = new VirtualClock();
  readonly database = temporaryDatabase();
  readonly notifier = new Notifier({ clock: this.clock });
  readonly log: Entry[] = [];
  readonly members = new Map<RoomId, Map<UserId, string>>();
  readonly ignored = new Map<UserId, UserId>();
  readonly #contents = new Map<EventId, JsonObject>();
  /** Told of those whose counts have changed. */
  changed: (users: ReadonlySet<UserId>) => void = () => {};
  #services = this.#open();
  #transactions = 0;

  #open() {
    const { database, clock, notifier } = this;
    const recipients = new Recipients();
    const changed = (users: ReadonlySet<UserId>): void => this.changed(users);
    const notifications = new Notifications({ serverName: HERE, recipients, changed });
    const accountData = new AccountData({ database, notifier, recipients });
    const refuse = async (): Promise<never> => {
      throw new Error('there is no other server to ask');
    };
    const outbox = { typing: () => {}, receipt: async () => {}, presence: () => {} };
    return {
      accountData,
      notifications,
      pushRules: new PushRules({ database, notifier, recipients }),
      receipts: new Receipts({ database, clock, notifier, accountData, outbox, notifications }),
      sync: new Sync({ reader: database, clock, notifier, filters: { get: async () => undefined } }),
      rooms: new Rooms({
        ...{ database, clock, notifier, notifications, random: seededRandom(1), serverName: HERE },
        signingKey: signingKey('ed25519:1' as KeyId, new Uint8Array(32).fill(1)),
        remote: {
          ...{ join: refuse, imported: async () => undefined, leave: refuse },
          ...{ makeKnock: refuse, sendKnock: refuse, invite: refuse },
        },
        outbox: { enqueue: async () => undefined },
        profiles: { get: async (user) => ({ displayname: user.slice(1, 4) }) },
        localUserExists: async () => true,
      }),
    };
  }

  get services() {
    return this.#services;
  }

  restart(): void {
    this.#services = this.#open();
  }

  async createRoom(): Promise<RoomId> {
    const [creator] = USERS as [UserId];
    const room = await this.services.rooms.create(creator, { preset: 'public_chat' });
    this.members.set(room, new Map([[creator, 'join']]));
    return room;
  }

  joined(room: RoomId): UserId[] {
    return [...this.members.get(room)!].flatMap(([user, what]) => (what === 'join' ? [user] : []));
  }

  async send(room: RoomId, sender: UserId, type: string, content: JsonObject): Promise<EventId> {
    this.clock.advanceTo(this.clock.monotonic() + 1_000);
    const from = { user: sender, device: 'PHONE' as DeviceId, txnId: `t${++this.#transactions}` };
    const id = await this.services.rooms.sending.send(room, type, content, from);
    await this.#note(room, id, sender, type, content);
    return id;
  }

  async redact(room: RoomId, sender: UserId, of: EventId): Promise<void> {
    const from = { user: sender, device: 'PHONE' as DeviceId, txnId: `t${++this.#transactions}` };
    const id = await this.services.rooms.sending.redact(room, of, undefined, from);
    this.#contents.set(of, {});
    this.log.push({ kind: 'redaction', of });
    await this.#note(room, id, sender, 'm.room.redaction', { redacts: of });
  }

  async join(room: RoomId, user: UserId): Promise<void> {
    await this.services.rooms.memberships.join(user, room, {});
    this.members.get(room)!.set(user, 'join');
    await this.#note(room, '' as EventId, user, 'm.room.member', { membership: 'join' }, user);
  }

  async leave(room: RoomId, user: UserId): Promise<void> {
    await this.services.rooms.memberships.leave(user, room);
    this.members.get(room)!.set(user, 'leave');
    this.log.push({ kind: 'left', user, room });
  }

  async read(
    room: RoomId,
    user: UserId,
    event: EventId,
    type: 'read' | 'readPrivate',
    threadId: string | undefined,
  ): Promise<void> {
    this.clock.advanceTo(this.clock.monotonic() + 1_000);
    await this.services.receipts.mark(user, room, { [type]: event, threadId });
    const thread = threadId === 'main' ? '' : threadId;
    this.log.push({ kind: 'read', room, user, event, thread });
  }

  async ignore(user: UserId, whom: UserId | undefined): Promise<void> {
    const content = { ignored_users: whom === undefined ? {} : { [whom]: {} } };
    await this.services.accountData.put(user, { room: undefined, type: 'm.ignored_user_list' }, content);
    if (whom === undefined) this.ignored.delete(user);
    else this.ignored.set(user, whom);
  }

  async #note(
    room: RoomId,
    id: EventId,
    sender: UserId,
    type: string,
    content: JsonObject,
    stateKey?: string,
  ): Promise<void> {
    if (id !== '') this.#contents.set(id, content);
    const joined = this.joined(room);
    const event: JsonObject = {
      ...{ event_id: id, room_id: room, type, sender, content },
      ...(stateKey !== undefined && { state_key: stateKey }),
    };
    const notified = new Map<UserId, boolean>();
    for (const user of joined) {
      if (user === sender || this.ignored.get(user) === sender) continue;
      const actions = slowRuling(await this.services.pushRules.all(user), event, {
        ...{ displayName: user.slice(1, 4), memberCount: joined.length },
        // The creator of a room of version 12 has power over everything.
        ...{ senderLevel: sender === USERS[0] ? Number.POSITIVE_INFINITY : 0, levels: {} },
      });
      if (actions === undefined) continue;
      notified.set(
        user,
        actions.some((action) => (action as JsonObject).set_tweak === 'highlight'),
      );
    }
    this.log.push({ kind: 'event', id, room, event, notified, thread: this.threadOf(content) });
  }

  threadOf(content: JsonObject): string {
    let at: JsonObject | undefined = content;
    for (let hops = 0; at !== undefined && hops <= 3; hops++) {
      const relation = at['m.relates_to'] as { rel_type?: string; event_id?: string } | undefined;
      if (relation?.rel_type === 'm.thread') return relation.event_id!;
      if (relation?.rel_type === undefined) return '';
      at = this.#contents.get(relation.event_id as EventId);
    }
    return '';
  }

  /** What a user has not read of a room, from the log alone. */
  expected(room: RoomId, user: UserId): ThreadCounts {
    const unread: {
      readonly id: EventId;
      readonly thread: string;
      readonly highlight: boolean;
      at: number;
    }[] = [];
    const placeOf = (id: EventId): number =>
      this.log.findIndex((entry) => entry.kind === 'event' && entry.id === id);
    const drop = (those: (one: (typeof unread)[number]) => boolean): void => {
      for (let at = unread.length - 1; at >= 0; at--) if (those(unread[at]!)) unread.splice(at, 1);
    };
    for (const [at, entry] of this.log.entries()) {
      if (entry.kind === 'event' && entry.room === room) {
        if (entry.event.sender === user) drop((one) => one.thread === entry.thread);
        const highlight = entry.notified.get(user);
        if (highlight !== undefined) unread.push({ id: entry.id, thread: entry.thread, highlight, at });
      } else if (entry.kind === 'redaction') drop(({ id }) => id === entry.of);
      else if (entry.kind === 'left' && entry.user === user && entry.room === room) unread.length = 0;
      else if (entry.kind === 'read' && entry.user === user && entry.room === room) {
        const upTo = placeOf(entry.event);
        drop((one) => one.at <= upTo && (entry.thread === undefined || entry.thread === one.thread));
      }
    }
    const counts: Record<string, { notifications: number; highlights: number }> = {};
    for (const { thread, highlight } of unread) {
      counts[thread] ??= { notifications: 0, highlights: 0 };
      counts[thread].notifications++;
      if (highlight) counts[thread].highlights++;
    }
    return counts;
  }
}
