import { VirtualClock } from '../../../src/base/virtual_clock.ts';
import { Messages } from '../../../src/homeserver/messages.ts';
import { Notifier } from '../../../src/homeserver/notifier.ts';
import { Sync, type SyncRequest } from '../../../src/homeserver/sync/sync.ts';
import type { DeviceId, EventId, RoomId, UserId } from '../../../src/matrix/ids.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { stateKey as placeOf } from '../../../src/matrix/pdu.ts';
import type { Transaction } from '../../../src/storage/database.ts';
import type { SqliteDatabase } from '../../../src/storage/sqlite.ts';
import { changeCurrentState, putGroup } from '../../../src/storage/state.ts';
import { temporaryDatabase } from '../../storage/temporary_database.ts';

export const ALICE = '@alice:here' as UserId;
export const BOB = '@bob:here' as UserId;
export const CAROL = '@carol:here' as UserId;

export const phone = (user: UserId): { user: UserId; device: DeviceId } => ({
  user,
  device: 'PHONE' as DeviceId,
});

/** What a test looks at in an answer of /sync. */
export interface SyncBody {
  next_batch: string;
  account_data: { events: Plain[] };
  presence: { events: (Plain & { sender: string })[] };
  rooms: {
    join: Record<string, Section>;
    leave: Record<string, Section>;
    invite: Record<string, { invite_state: { events: ClientEvent[] } }>;
    knock: Record<string, { knock_state: { events: ClientEvent[] } }>;
  };
}

export interface Section {
  timeline: { events: ClientEvent[]; limited: boolean; prev_batch: string };
  state?: { events: ClientEvent[] };
  state_after?: { events: ClientEvent[] };
  summary?: JsonObject;
  ephemeral?: { events: Plain[] };
  account_data: { events: Plain[] };
}

/** What is told besides the events of rooms. */
export interface Plain {
  type: string;
  content: JsonObject;
}

export interface ClientEvent {
  event_id: string;
  type: string;
  sender: string;
  state_key?: string;
  content: JsonObject;
  unsigned?: JsonObject;
  room_id?: string;
}

export interface Page {
  start: string;
  end?: string;
  chunk: ClientEvent[];
  state?: ClientEvent[];
}

export const ids = (events: readonly { event_id: string }[] | undefined): string[] =>
  (events ?? []).map((event) => event.event_id);

/** The reading services on a database of their own. */
export class Home {
  readonly database: SqliteDatabase = temporaryDatabase();
  readonly clock = new VirtualClock();
  readonly notifier = new Notifier({ clock: this.clock });
  readonly filters = { get: async (): Promise<JsonObject | undefined> => undefined };
  readonly messages = new Messages({ reader: this.database, clock: this.clock });
  #sync = this.#newSync();

  #newSync(): Sync {
    return new Sync({
      reader: this.database,
      clock: this.clock,
      notifier: this.notifier,
      filters: this.filters,
    });
  }

  restart(): void {
    this.#sync = this.#newSync();
  }

  async sync(user: UserId, request: Partial<SyncRequest> = {}): Promise<SyncBody> {
    const body = await this.#sync.sync({ requester: phone(user), timeoutMs: 0, ...request });
    return JSON.parse(JSON.stringify(body)) as SyncBody;
  }

  async page(
    user: UserId,
    room: RoomId,
    request: { dir: 'b' | 'f'; from?: string; to?: string; limit?: number; filter?: JsonObject },
  ): Promise<Page> {
    const { parseRoomEventFilter } = await import('../../../src/homeserver/filter_events.ts');
    const filter = parseRoomEventFilter(request.filter ?? {});
    if (!filter.ok) throw new Error(filter.problem);
    const body = await this.messages.messages({
      requester: phone(user),
      room,
      ...request,
      filter: filter.value,
    });
    return JSON.parse(JSON.stringify(body)) as Page;
  }
}

/** What is written of one event. */
interface Written {
  readonly type: string;
  readonly sender: UserId;
  readonly content?: JsonObject;
  readonly stateKey?: string;
  readonly id?: string;
  /** On a branch of its own that lost: delivered, without changing the room's current state. */
  readonly lost?: boolean;
  /** Never delivered, at this depth. */
  readonly backfilledAt?: number;
}

/** A room whose rows a test writes itself, one event after another, as migrations/0002_rooms.sql says. */
export class FixtureRoom {
  readonly id: RoomId;
  readonly #home: Home;
  #row = 0;
  #group: number | null = null;
  #depth = 0;
  #count = 0;

  constructor(home: Home, id = '!room') {
    this.#home = home;
    this.id = id as RoomId;
  }

  /** The create event, then the creator's join. */
  async create(creator: UserId): Promise<void> {
    await this.#home.database.transaction(async (tx) => {
      await tx.run("INSERT INTO rooms (room_id, version) VALUES (?, '12')", this.id);
      this.#row = (await tx.get<{ id: number }>('SELECT id FROM rooms WHERE room_id = ?', this.id))!.id;
    });
    await this.write({
      type: 'm.room.create',
      sender: creator,
      stateKey: '',
      content: { room_version: '12' },
    });
    await this.member(creator, 'join');
  }

  member(user: UserId, membership: string, by: UserId = user): Promise<EventId> {
    return this.write({ type: 'm.room.member', sender: by, stateKey: user, content: { membership } });
  }

  message(sender: UserId, body = 'hello', more: Partial<Written> = {}): Promise<EventId> {
    return this.write({ type: 'm.room.message', sender, content: { body }, ...more });
  }

  state(sender: UserId, type: string, content: JsonObject, stateKey = ''): Promise<EventId> {
    return this.write({ type, sender, content, stateKey });
  }

  async write(given: Written): Promise<EventId> {
    const { database, notifier } = this.#home;
    const id = (given.id ?? `$${this.id.slice(1)}${++this.#count}`) as EventId;
    let at = 0;
    await database.transaction(async (tx) => {
      at = await this.#write(tx, id, given);
    });
    if (at > 0)
      notifier.published(at, [this.id], given.stateKey?.startsWith('@') ? [given.stateKey as UserId] : []);
    return id;
  }

  async #write(tx: Transaction, id: EventId, given: Written): Promise<number> {
    const { type, sender, content = {}, stateKey, lost = false, backfilledAt } = given;
    const depth = backfilledAt ?? ++this.#depth;
    if (backfilledAt === undefined) await tx.run('UPDATE stream SET position = position + 1');
    const now = (await tx.get<{ position: number }>('SELECT position FROM stream'))!.position;
    const position = backfilledAt === undefined ? now : null;
    const before = this.#group;
    const state = stateKey !== undefined;
    const pdu = {
      type,
      sender,
      content,
      depth,
      origin_server_ts: this.#home.clock.wall(),
      ...(state ? { state_key: stateKey } : {}),
    };
    await tx.run(
      `INSERT INTO events (event_id, room, type, state_key, sender, depth, origin_server_ts, json, status, state_before, state_after, position)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'timeline', ?, ?, ?)`,
      id,
      this.#row,
      type,
      stateKey ?? null,
      sender,
      depth,
      0,
      JSON.stringify(pdu),
      before,
      before,
      position,
    );
    if (!state || backfilledAt !== undefined) return position ?? 0;
    const { id: row } = (await tx.get<{ id: number }>('SELECT id FROM events WHERE event_id = ?', id))!;
    const group = await putGroup(tx, this.#row, {
      parent: before,
      changes: new Map([[placeOf(type, stateKey), id]]),
    });
    await tx.run('UPDATE events SET state_after = ? WHERE id = ?', group, row);
    if (lost) return now;
    this.#group = group;
    await this.setCurrent(tx, type, stateKey, row, now);
    if (type === 'm.room.member') {
      await tx.run(
        `INSERT INTO memberships (room, user_id, server_name, membership, event_id, position) VALUES (?, ?, 'here', ?, ?, ?)
         ON CONFLICT (user_id, room) DO UPDATE SET membership = excluded.membership, event_id = excluded.event_id,
           position = excluded.position, invite_state = NULL, event_json = NULL, forgotten = 0`,
        this.id,
        stateKey,
        content.membership as string,
        id,
        now,
      );
    }
    return now;
  }

  async setCurrent(tx: Transaction, type: string, key: string, row: number, position: number): Promise<void> {
    const { id } = (await tx.get<{ id: EventId }>('SELECT event_id AS id FROM events WHERE id = ?', row))!;
    await changeCurrentState(tx, this.#row, position, new Map([[placeOf(type, key), id]]));
  }
}
