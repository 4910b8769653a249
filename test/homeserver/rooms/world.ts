import { seededRandom } from '../../../src/base/random.ts';
import { VirtualClock } from '../../../src/base/virtual_clock.ts';
import { Directory } from '../../../src/homeserver/directory.ts';
import type { Outbox, RemoteDirectory, RemoteJoin, RemoteRooms } from '../../../src/homeserver/ports.ts';
import { RoomSummaries } from '../../../src/homeserver/room_summaries.ts';
import type { Received, StateBefore } from '../../../src/homeserver/rooms/federated_rooms.ts';
import { Rooms } from '../../../src/homeserver/rooms/rooms.ts';
import { type UserLimit, unlimited } from '../../../src/homeserver/user_limits.ts';
import { MatrixError } from '../../../src/matrix/error.ts';
import { parsePdu } from '../../../src/matrix/event_format.ts';
import {
  type DeviceId,
  type EventId,
  type KeyId,
  type RoomId,
  type ServerName,
  serverOf,
  type UserId,
} from '../../../src/matrix/ids.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';
import type { Event, Pdu, UnsignedPdu } from '../../../src/matrix/pdu.ts';
import { roomVersion } from '../../../src/matrix/room_version.ts';
import { type SigningKey, signEvent, signingKey } from '../../../src/matrix/signing.ts';
import type { SqliteDatabase } from '../../../src/storage/sqlite.ts';
import { temporaryDatabase } from '../../storage/temporary_database.ts';

export const V12 = roomVersion('12')!;
const DEVICE = 'PHONE' as DeviceId;

/** The event as it arrives elsewhere. */
export function overTheWire(pdu: Pdu): Event {
  const parsed = parsePdu(JSON.parse(JSON.stringify(pdu)), V12);
  if (!parsed.ok) throw new Error(parsed.problem);
  return parsed.value;
}

export interface Delivery {
  readonly from: Server;
  readonly to: Server;
  readonly event: Event;
}

/** Servers of one process that hand events to each other when the test says so. */
export class World {
  readonly clock = new VirtualClock();
  readonly servers = new Map<string, Server>();
  /** What has been sent and not been delivered, oldest first. */
  readonly queue: Delivery[] = [];

  server(name: string): Server {
    const server = new Server(this, name as ServerName, this.servers.size + 1);
    this.servers.set(name, server);
    return server;
  }

  /** Delivers everything that waits, and whatever follows from it. */
  async settle(): Promise<void> {
    for (let next = this.queue.shift(); next !== undefined; next = this.queue.shift())
      await this.deliver(next);
  }

  /** Hands one event over as a receiver would: gaps are filled by the server that sent it. */
  async deliver({ from, to, event }: Delivery): Promise<Received> {
    const received = await to.rooms.receive(event);
    if (received.kind !== 'missing_prev') return received;
    const request = {
      earliest: await to.rooms.forwardExtremities(event.room),
      latest: [event.id],
      limit: 100,
      minDepth: 0,
    };
    try {
      for (const older of await from.rooms.missingEvents(event.room, request, to.name)) {
        await this.#receiveOrBridge(from, to, overTheWire(older.pdu));
      }
      return await this.#receiveOrBridge(from, to, event);
    } catch (error) {
      // The sender may have learned meanwhile that the receiver is not in the room.
      if (error instanceof MatrixError) return received;
      throw error;
    }
  }

  async #receiveOrBridge(from: Server, to: Server, event: Event): Promise<Received> {
    const received = await to.rooms.receive(event);
    return received.kind === 'missing_prev'
      ? to.rooms.receive(event, await from.stateBefore(event, to))
      : received;
  }
}

export class Server {
  readonly name: ServerName;
  readonly world: World;
  readonly database: SqliteDatabase = temporaryDatabase();
  readonly key: SigningKey;
  rooms: Rooms;
  directory: Directory;
  readonly published: { position: number; rooms: RoomId[]; users: UserId[] }[] = [];
  /** Set to have this server refuse what is asked of it over federation. */
  refuses: MatrixError | undefined;
  limit: UserLimit = unlimited;
  readonly displayNames = new Map<UserId, string>();
  #txn = 0;

  constructor(world: World, name: ServerName, seed: number) {
    this.world = world;
    this.name = name;
    this.key = signingKey('ed25519:1' as KeyId, new Uint8Array(32).fill(seed));
    this.rooms = this.#open();
    this.directory = this.#openDirectory();
  }

  #openDirectory(): Directory {
    const { database, name: serverName, rooms } = this;
    const summaries = new RoomSummaries({ database, serverName, writer: rooms.writer });
    const remote: RemoteDirectory = {
      alias: async (alias) => {
        const server = this.world.servers.get(serverOf(alias));
        if (server === undefined) throw new MatrixError(502, 'M_UNKNOWN', 'cannot be reached');
        return server.directory.local(alias);
      },
    };
    return new Directory({ database, clock: this.world.clock, serverName, rooms, summaries, remote });
  }

  #open(): Rooms {
    return new Rooms({
      database: this.database,
      clock: this.world.clock,
      random: seededRandom(1),
      serverName: this.name,
      signingKey: this.key,
      remote: this.#remote(),
      outbox: this.#outbox(),
      notifier: {
        published: (position, rooms, users) =>
          this.published.push({ position, rooms: [...rooms], users: [...users] }),
      },
      profiles: {
        get: async (user) => {
          const displayname = this.displayNames.get(user);
          return displayname === undefined ? undefined : { displayname };
        },
      },
      localUserExists: async (user) => !user.startsWith('@nobody'),
      blocksInvites: async (user) => user.startsWith('@hermit'),
      resolveAlias: (alias) => this.directory.resolve(alias),
      limit: (act, user) => this.limit(act, user),
    });
  }

  /** Starts the service anew over what is stored. */
  restart(): void {
    this.rooms = this.#open();
    this.directory = this.#openDirectory();
  }

  user(localpart: string): UserId {
    return `@${localpart}:${this.name}` as UserId;
  }

  async say(user: UserId, room: RoomId, body: string): Promise<EventId> {
    this.world.clock.advanceTo(this.world.clock.monotonic() + 1);
    const txnId = `t${++this.#txn}`;
    return this.rooms.sending.send(
      room,
      'm.room.message',
      { msgtype: 'm.text', body },
      { user, device: DEVICE, txnId },
    );
  }

  async redact(user: UserId, room: RoomId, event: EventId): Promise<EventId> {
    return this.rooms.sending.redact(room, event, undefined, {
      user,
      device: DEVICE,
      txnId: `t${++this.#txn}`,
    });
  }

  async stored(id: EventId) {
    return (await this.rooms.writer.events.get(id))!;
  }

  /** The current state, by "type key", as event ids. */
  async state(room: RoomId): Promise<Record<string, string>> {
    const rows = await this.database.all<{ place: string; id: string }>(
      `SELECT p.type || ' ' || p.state_key AS place, e.event_id AS id FROM current_state c
       JOIN places p ON p.id = c.place JOIN events e ON e.id = c.event JOIN rooms r ON r.id = c.room WHERE r.room_id = ? ORDER BY 1`,
      room,
    );
    return Object.fromEntries(rows.map(({ place, id }) => [place, id]));
  }

  /** Bodies and redactions in the order of delivery. */
  async timeline(room: RoomId): Promise<string[]> {
    const rows = await this.database.all<{ type: string; body: string | null }>(
      `SELECT e.type AS type, json_extract(e.json, '$.content.body') AS body FROM events e JOIN rooms r ON r.id = e.room
       WHERE r.room_id = ? AND e.position IS NOT NULL AND e.state_key IS NULL ORDER BY e.position`,
      room,
    );
    return rows.map(({ type, body }) => body ?? type);
  }

  async membership(room: RoomId, user: UserId): Promise<string | undefined> {
    const row = await this.database.get<{ membership: string }>(
      'SELECT membership FROM memberships WHERE room = ? AND user_id = ?',
      room,
      user,
    );
    return row?.membership;
  }

  sign(unsigned: UnsignedPdu): Event {
    return signEvent(unsigned, V12, this.name, this.key);
  }

  async stateBefore(event: Event, asker: Server): Promise<StateBefore> {
    const ids = await this.rooms.stateIds(event.room, event.id, asker.name);
    const load = async (list: readonly EventId[]): Promise<Event[]> => {
      const events = await Promise.all(list.map((id) => this.rooms.event(id, asker.name)));
      return events.map((each) => overTheWire(each!.pdu));
    };
    return { state: await load(ids.state), authChain: await load(ids.authChain) };
  }

  #outbox(): Outbox {
    return {
      enqueue: async (tx, event, destinations) => {
        const copy = overTheWire(event.pdu);
        tx.afterCommit(() => {
          for (const name of [...destinations].sort()) {
            const to = this.world.servers.get(name);
            if (to !== undefined) this.world.queue.push({ from: this, to, event: copy });
          }
        });
      },
    };
  }

  #remote(): RemoteRooms {
    const peer = (name: ServerName): Server => {
      const server = this.world.servers.get(name);
      if (server === undefined) throw new MatrixError(502, 'M_UNKNOWN', `${name} cannot be reached`);
      if (server.refuses !== undefined) throw server.refuses;
      return server;
    };
    return {
      imported: async () => undefined,
      join: async ({ room, user, via, content }): Promise<RemoteJoin> => {
        const resident = peer(via[0]!);
        const made = await resident.rooms.makeJoin(room, user, ['12']);
        const join = this.sign({ ...made.event, content: { ...made.event.content, ...content } });
        const sent = await resident.rooms.sendJoin(overTheWire(join.pdu));
        const received = (events: readonly Event[]): Event[] => events.map(({ pdu }) => overTheWire(pdu));
        return {
          roomVersion: made.roomVersion,
          join: overTheWire(sent.event.pdu),
          state: received(sent.state),
          authChain: received(sent.authChain),
          via: resident.name,
        };
      },
      leave: async ({ room, user, via }) => {
        const resident = peer(via[0]!);
        const made = await resident.rooms.makeLeave(room, user);
        const leave = this.sign(made.event);
        await resident.rooms.sendLeave(overTheWire(leave.pdu));
        return leave;
      },
      makeKnock: async ({ room, user, via, content }) => {
        const resident = peer(via[0]!);
        const made = await resident.rooms.makeKnock(room, user, ['12']);
        const event = this.sign({ ...made.event, content: { ...made.event.content, ...content } });
        return { event, roomVersion: made.roomVersion, via: resident.name };
      },
      sendKnock: async ({ event, via }) => {
        const strippedState = await peer(via).rooms.sendKnock(overTheWire(event.pdu));
        return JSON.parse(JSON.stringify(strippedState)) as JsonObject[];
      },
      invite: async ({ event, roomVersion: version, strippedState, destination }) =>
        peer(destination).rooms.receiveInvite(
          overTheWire(event.pdu),
          version,
          JSON.parse(JSON.stringify(strippedState)) as JsonObject[],
        ),
    };
  }
}
