import type { Random } from '../../../src/base/random.ts';
import { parseRoomEventFilter } from '../../../src/homeserver/filter_events.ts';
import type { RoomId, UserId } from '../../../src/matrix/ids.ts';
import { asker, type Driver, markOf, placeOf } from './driver.ts';
import type { ClientEvent, Page, Plain, Section, SyncBody } from './room_fixture.ts';

export interface ModelRoom {
  membership: string;
  /** Whether an invite came since they were last told all of what they saw. */
  invitedSince: boolean;
  /** What was shown, oldest first, and how many of it are of the room's creation. */
  readonly timeline: ClientEvent[];
  readonly seen: Set<string>;
  state: Map<string, ClientEvent>;
  /** By user, type and thread: the event. */
  receipts: Map<string, string>;
  typing: string[];
  /** By type, as JSON text. */
  data: Map<string, string>;
}

/** The content of m.receipt. */
type Receipts = Record<string, Record<string, Record<string, { thread_id?: string }>>>;

export interface ModelOptions {
  readonly user: UserId;
  readonly lazy: boolean;
  readonly stateAfter: boolean;
  readonly notTypes?: readonly string[];
  readonly wantsTyping?: boolean;
}

/**
 * A client that knows nothing but what it is answered: it applies /sync, and closes gaps by /messages. It stops at
 * once where it is told something twice.
 */
export class ModelClient {
  readonly user: UserId;
  readonly lazy: boolean;
  readonly stateAfter: boolean;
  /** What of a timeline it does not want, and whether it wants to know who types. */
  readonly notTypes: readonly string[];
  readonly wantsTyping: boolean;
  readonly data = new Map<string, string>();
  readonly presence = new Map<string, string>();
  readonly rooms = new Map<string, ModelRoom>();
  readonly counts = { gaps: 0, pages: 0, syncs: 0, ephemeral: 0 };
  readonly #driver: Driver;
  readonly #random: Random;
  since: string | undefined;

  constructor(driver: Driver, random: Random, of: ModelOptions) {
    this.#driver = driver;
    this.#random = random;
    this.user = of.user;
    this.lazy = of.lazy;
    this.stateAfter = of.stateAfter;
    this.notTypes = of.notTypes ?? [];
    this.wantsTyping = of.wantsTyping ?? true;
  }

  /** Asks, without applying the answer. */
  async ask(timeoutMs = 0): Promise<SyncBody> {
    const timeline = { limit: 1 + this.#random.integer(4), not_types: this.notTypes };
    const ephemeral = this.wantsTyping ? {} : { not_types: ['m.typing'] };
    const body = await this.#driver.sync.sync({
      requester: asker(this.user),
      since: this.since,
      timeoutMs,
      filter: JSON.stringify({ room: { timeline, ephemeral, state: { lazy_load_members: this.lazy } } }),
      setPresence: 'offline',
      useStateAfter: this.stateAfter,
    });
    return JSON.parse(JSON.stringify(body)) as SyncBody;
  }

  async apply(body: SyncBody): Promise<void> {
    this.counts.syncs++;
    if (this.since === undefined) this.data.clear();
    this.#applyData(this.data, body.account_data.events);
    for (const { sender, content } of body.presence.events)
      this.presence.set(sender, String(content.presence));
    for (const [room, section] of Object.entries(body.rooms.join))
      await this.#applyRoom(room, section, 'join');
    for (const [room, section] of Object.entries(body.rooms.leave))
      await this.#applyRoom(room, section, 'leave');
    for (const id of Object.keys(body.rooms.invite)) {
      const room = this.#room(id);
      room.membership = 'invite';
      room.invitedSince = true;
    }
    this.since = body.next_batch;
  }

  #room(id: string): ModelRoom {
    const known = this.rooms.get(id);
    if (known !== undefined) return known;
    const room: ModelRoom = {
      membership: 'leave',
      invitedSince: false,
      timeline: [],
      seen: new Set(),
      state: new Map(),
      receipts: new Map(),
      typing: [],
      data: new Map(),
    };
    this.rooms.set(id, room);
    return room;
  }

  async #applyRoom(id: string, section: Section, becomes: 'join' | 'leave'): Promise<void> {
    const room = this.#room(id);
    const wasJoined = room.membership === 'join';
    const gap = section.timeline.limited ? await this.#closeGap(id as RoomId, room, section, wasJoined) : [];
    const own = room.timeline.findLast(
      (event) => event.type === 'm.room.member' && event.state_key === this.user,
    );
    let joined = own?.content.membership === 'join';
    for (const event of [...gap, ...section.timeline.events]) {
      if (event.type === 'm.room.member' && event.state_key === this.user) {
        const before = joined;
        joined = event.content.membership === 'join';
        // What they are while they are not there is not part of what they saw of the room.
        if (!before && !joined && becomes === 'leave') continue;
      }
      if (room.seen.has(event.event_id)) throw new Error(`${this.user} was shown ${markOf(event)} twice`);
      room.seen.add(event.event_id);
      room.timeline.push(event);
    }
    if (!wasJoined) {
      room.state = new Map();
      room.receipts = new Map();
      room.typing = [];
      room.data = new Map();
    }
    this.#applyData(room.data, section.account_data.events);
    this.#applyEphemeral(room, section.ephemeral?.events ?? []);
    const changes = this.stateAfter
      ? section.state_after!.events
      : [...section.state!.events, ...section.timeline.events];
    for (const event of changes) {
      if (event.state_key !== undefined) room.state.set(placeOf(event.type, event.state_key), event);
    }
    room.membership = becomes;
    if (becomes === 'join' || section.timeline.limited) room.invitedSince = false;
  }

  #applyData(data: Map<string, string>, events: readonly Plain[]): void {
    for (const { type, content } of events) {
      const text = JSON.stringify(content);
      if (data.get(type) === text && type !== 'm.tag')
        throw new Error(`${this.user} was told ${type} ${text} twice`);
      data.set(type, text);
    }
  }

  #applyEphemeral(room: ModelRoom, events: readonly Plain[]): void {
    for (const { type, content } of events) {
      this.counts.ephemeral++;
      if (type === 'm.typing') {
        room.typing = content.user_ids as string[];
        continue;
      }
      for (const [event, types] of Object.entries(content as Receipts)) {
        for (const [receipt, users] of Object.entries(types)) {
          for (const [user, { thread_id: thread = '' }] of Object.entries(users)) {
            const key = `${user} ${receipt} ${thread}`;
            if (room.receipts.get(key) === event)
              throw new Error(`${this.user} was told the receipt ${key} at ${event} twice`);
            room.receipts.set(key, event);
          }
        }
      }
    }
  }

  /** Pages back from where a timeline starts: to the last sync, or to something that it knows. */
  async #closeGap(id: RoomId, room: ModelRoom, section: Section, wasJoined: boolean): Promise<ClientEvent[]> {
    this.counts.gaps++;
    const missed: ClientEvent[] = [];
    const filter = parseRoomEventFilter({ not_types: [...this.notTypes] });
    if (!filter.ok) throw new Error(filter.problem);
    for (let from: string | undefined = section.timeline.prev_batch; from !== undefined; ) {
      this.counts.pages++;
      const page: Page = (await this.#driver.messages.messages({
        requester: asker(this.user),
        room: id,
        dir: 'b',
        from,
        to: wasJoined ? this.since : undefined,
        limit: 1 + this.#random.integer(4),
        filter: filter.value,
      })) as unknown as Page;
      for (const event of page.chunk) {
        if (!wasJoined && room.seen.has(event.event_id)) return missed.reverse();
        missed.push(event);
      }
      from = page.end;
    }
    return missed.reverse();
  }
}
