import type { Clock, Millis } from '../base/time.ts';
import type { RemoteHistory } from '../homeserver/ports.ts';
import type { FederatedRooms } from '../homeserver/rooms/federated_rooms.ts';
import { MatrixError } from '../matrix/error.ts';
import { type EventId, parseEventId, type RoomId, type ServerName, serverOf } from '../matrix/ids.ts';
import { isJsonObject, own } from '../matrix/json.ts';
import { depthOf, type Event } from '../matrix/pdu.ts';
import { extremitiesIn } from '../storage/backward_extremities.ts';
import type { Reader } from '../storage/database.ts';
import { largestServers } from '../storage/memberships.ts';
import { findRoom } from '../storage/rooms.ts';
import { BoundedMap, Slots } from './bounded.ts';
import { type Admission, admitHistoric, ancestors } from './gap.ts';
import type { Log } from './log.ts';
import { Budget, type RemoteEvents } from './remote_events.ts';
import { FederationError, path } from './transport.ts';
import type { Transports } from './transports.ts';

/** Events asked for at once. Through a pipe fewer: its link may be slow, and a client waits. */
const BATCH = { https: 100, pipe: 20 } as const;
/** Servers that are asked for one batch, or for one event. */
const MAX_ASKED = 3;
/** Servers of a room that are considered. */
const MAX_SERVERS = 20;
/** Requests that one batch may cause. */
const MAX_REQUESTS = 120;
/** Rooms that are filled at a time; who asks for more of them is told that nobody can be asked. */
const MAX_FILLED = 8;
/** How long a server that is away is not asked, unless it speaks. */
const AWAY_MS: Millis = 5 * 60_000;
/**
 * How long a server that refused to help with a room is not asked about it again, and nobody what lies before an event of
 * which nobody could tell it. For how many of each that is kept.
 */
const REST_MS: Millis = 60_000;
const MAX_RESTING = 2_000;
/** Events that a server is asked about one by one where it told nothing new of all of them together. */
const MAX_SINGLY = 5;
const TIMEOUT_MS: Millis = 30_000;

interface RemoteHistoryOptions {
  readonly serverName: ServerName;
  readonly database: Reader;
  readonly clock: Clock;
  readonly rooms: () => FederatedRooms;
  readonly remote: RemoteEvents;
  readonly transport: Pick<Transports, 'kindFor' | 'request'>;
  readonly log: Log;
}

/**
 * Brings what was before this server came into a room (server-server API, "Backfilling and retrieving missing events"). A
 * batch comes from one server. Of what it tells, only what hangs together with what is here is taken, each event checked and
 * authorised as any other, in transactions of their own: what is stored when something breaks off is where the next batch
 * goes on.
 */
export class FederationRemoteHistory implements RemoteHistory {
  /** Batches that were asked for, and events that got their place in a room's history. */
  readonly counters = { batches: 0, backfilled: 0 };
  readonly #options: RemoteHistoryOptions;
  readonly #underWay = new Map<RoomId, Promise<boolean>>();
  readonly #slots = new Slots(MAX_FILLED, 0);
  /** Until when a server is not asked, by its name, or not about a room, by both. */
  readonly #resting = new BoundedMap<string, Millis>(MAX_RESTING);
  /** Until when nobody is asked what lies before an event. */
  readonly #hopeless = new BoundedMap<EventId, Millis>(MAX_RESTING);
  readonly #running = new Set<Promise<unknown>>();
  readonly #waiting = new Set<() => void>();
  #isStopped = false;

  constructor(options: RemoteHistoryOptions) {
    this.#options = options;
  }

  backfill(room: RoomId, before: readonly EventId[]): Promise<boolean> {
    if (this.#isStopped) return Promise.resolve(false);
    const underWay = this.#underWay.get(room);
    if (underWay !== undefined) return this.#unlessStopped(underWay, false);
    const filled = this.#slots
      .run(() => this.#fill(room, before))
      .then((isMore) => isMore === true)
      .finally(() => this.#underWay.delete(room));
    this.#underWay.set(room, filled);
    return this.#unlessStopped(filled, false);
  }

  /** The server has just spoken to us, and so may be asked. */
  peerSpoke(server: ServerName): void {
    this.#resting.delete(server);
  }

  isHopeless(event: EventId): boolean {
    return (this.#hopeless.get(event) ?? 0) > this.#options.clock.monotonic();
  }

  /**
   * Whoever waits is told at once that nobody can be asked. What is under way ends with its requests: nothing is asked or stored
   * any more when this resolves.
   */
  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const leave of this.#waiting) leave();
    await Promise.allSettled(this.#running);
  }

  #unlessStopped<T>(work: Promise<T>, otherwise: T): Promise<T> {
    this.#running.add(work);
    return new Promise((resolve, reject) => {
      const leave = (): void => resolve(otherwise);
      this.#waiting.add(leave);
      work.then(resolve, reject).finally(() => {
        this.#waiting.delete(leave);
        this.#running.delete(work);
      });
    });
  }

  async #fill(room: RoomId, before: readonly EventId[]): Promise<boolean> {
    const { database, serverName } = this.#options;
    const version = (await findRoom(database, room))?.version;
    const after: Event[] = [];
    for (const id of before) {
      const event = this.isHopeless(id) ? undefined : await this.#options.rooms().event(id, serverName);
      if (event !== undefined) after.push(event);
    }
    if (version === undefined || after.length === 0) return false;
    const first = after.map(({ pdu }) => serverOf(pdu.sender));
    // What is missing before one of them may keep the answer from coming to what is missing before the others.
    const singly = after.length === 1 ? [] : after.slice(0, MAX_SINGLY).map((event) => [event]);
    let isAnswered = false;
    for (const server of (await this.#servers(room, first)).slice(0, MAX_ASKED)) {
      for (const some of [after, ...singly]) {
        if (this.#isStopped) return false;
        const placed = await this.#helped(room, server, () =>
          this.#batch(server, { id: room, version }, some),
        );
        if (placed !== undefined && placed > 0) return true;
        if (placed === undefined) break;
        isAnswered = true;
      }
    }
    if (!isAnswered) return false;
    for (const { id } of after) this.#hopeless.set(id, this.#options.clock.monotonic() + REST_MS);
    return false;
  }

  /** @returns how many events have got their place */
  async #batch(server: ServerName, room: Admission['room'], after: readonly Event[]): Promise<number> {
    const { remote, transport } = this.#options;
    this.counters.batches++;
    const limit = BATCH[transport.kindFor(server)];
    // They are part of the answer.
    const request = { from: after.map(({ id }) => id), limit: limit + after.length };
    const { good, passages } = await remote.backfill(server, room, request);
    const checked = new Map(good.map((event) => [event.id, event]));
    // Past an event whose server's keys are gone for good lies most of what an old room has.
    const told = new Map([...checked, ...passages]);
    const reached = new Map(
      after.flatMap((event) => ancestors(event, told)).map((event) => [event.id, event]),
    );
    const admission = { origin: server, room, budget: new Budget(MAX_REQUESTS), isPatient: false };
    const options = { ...this.#options, rooms: this.#options.rooms() };
    const placed = await admitHistoric(
      options,
      admission,
      [...reached.values()].filter(({ id }) => checked.has(id)),
      after,
    );
    this.counters.backfilled += placed;
    return placed;
  }

  closest(request: Parameters<RemoteHistory['closest']>[0]): ReturnType<RemoteHistory['closest']> {
    if (this.#isStopped) return Promise.resolve(undefined);
    return this.#unlessStopped(this.#closest(request), undefined);
  }

  async #closest({
    room,
    time,
    dir,
  }: Parameters<RemoteHistory['closest']>[0]): ReturnType<RemoteHistory['closest']> {
    const { database } = this.#options;
    const found = await findRoom(database, room);
    if (found === undefined) return undefined;
    const servers = await this.#servers(room, []);
    for (const server of servers.slice(0, MAX_ASKED)) {
      if (this.#isStopped) return undefined;
      const event = await this.#helped(room, server, async () => {
        const { body } = await this.#options.transport.request(server, {
          method: 'GET',
          path: path`/_matrix/federation/v1/timestamp_to_event/${room}`,
          query: `ts=${time}&dir=${dir}`,
          timeoutMs: TIMEOUT_MS,
          priority: 2,
        });
        const id = isJsonObject(body) ? own(body, 'event_id') : undefined;
        const parsed = typeof id === 'string' ? parseEventId(id) : undefined;
        if (!parsed?.ok) throw new FederationError('bad_answer', `${server} did not answer with an event`);
        return this.#bring(server, { id: room, version: found.version }, found.row, parsed.value);
      });
      const at = event?.pdu.origin_server_ts;
      if (event !== undefined && at !== undefined && (dir === 'b' ? at <= time : at >= time))
        return { event: event.id, time: at };
    }
    return undefined;
  }

  /**
   * An event that is part of the room's history here, or is from now on. One that is not behind any of those here is left to
   * come as events do: as a historic one it would never appear in /sync.
   */
  async #bring(
    server: ServerName,
    room: Admission['room'],
    row: number,
    id: EventId,
  ): Promise<Event | undefined> {
    const { remote, database } = this.#options;
    const event = await remote.event(server, room, id);
    if (event === undefined) return undefined;
    const range = { after: depthOf(event.pdu), upTo: Number.MAX_SAFE_INTEGER, limit: 1 };
    if ((await extremitiesIn(database, row, range)).length === 0) return undefined;
    const admission = { origin: server, room, budget: new Budget(MAX_REQUESTS), isPatient: false };
    await admitHistoric({ ...this.#options, rooms: this.#options.rooms() }, admission, [event], []);
    return event;
  }

  /** Servers in a room that may be asked now, the likeliest to know first. */
  async #servers(room: RoomId, first: readonly ServerName[]): Promise<ServerName[]> {
    const { database, serverName, clock } = this.#options;
    const inRoom = await largestServers(database, room, MAX_SERVERS);
    const likely = first.filter((server) => inRoom.includes(server));
    const now = clock.monotonic();
    const mayBeAsked = (key: string): boolean => (this.#resting.get(key) ?? 0) <= now;
    return [...new Set([...likely, ...inRoom])].filter(
      (server) => server !== serverName && mayBeAsked(server) && mayBeAsked(`${room} ${server}`),
    );
  }

  /** What a server was good for; undefined where nothing. */
  async #helped<T>(room: RoomId, server: ServerName, ask: () => Promise<T>): Promise<T | undefined> {
    try {
      return await ask();
    } catch (error) {
      const isExpected = error instanceof FederationError || error instanceof MatrixError;
      const isAway = error instanceof FederationError && error.problem !== 'bad_answer';
      const key = isAway ? server : `${room} ${server}`;
      this.#resting.set(key, this.#options.clock.monotonic() + (isAway ? AWAY_MS : REST_MS));
      // Else it is our own mistake, or a database that fails: what is here is served all the same.
      this.#options.log[isExpected ? 'debug' : 'warn'](
        { room, server, error: String(error) },
        'a server did not help with the history of a room',
      );
      return undefined;
    }
  }
}
