import { createApp } from '../../src/api/app.ts';
import { createRoomRoutes } from '../../src/api/client/create_room.ts';
import { directoryRoutes } from '../../src/api/client/directory.ts';
import { filterRoutes } from '../../src/api/client/filter.ts';
import { keyBackupRoutes } from '../../src/api/client/key_backups.ts';
import { keyRoutes } from '../../src/api/client/keys.ts';
import { membershipRoutes } from '../../src/api/client/membership.ts';
import { profileRoutes } from '../../src/api/client/profile.ts';
import { reportRoutes } from '../../src/api/client/report.ts';
import { roomStateRoutes } from '../../src/api/client/room_state.ts';
import { sendRoutes } from '../../src/api/client/send.ts';
import { upgradeRoutes } from '../../src/api/client/upgrade.ts';
import type { MessageId } from '../../src/base/message_id.ts';
import { decodeJson, encodeJson } from '../../src/compact/cbor.ts';
import { openCoapDoor } from '../../src/doors/coap.ts';
import type { Caller, ExchangeRequest, Method } from '../../src/exchange/request.ts';
import type { ExchangeResponse } from '../../src/exchange/response.ts';
import type { RequestHandler } from '../../src/exchange/serving.ts';
import { FederationRemoteDirectory } from '../../src/federation/remote_directory.ts';
import { Transports } from '../../src/federation/transports.ts';
import { Filters } from '../../src/homeserver/filters.ts';
import { KeyBackups } from '../../src/homeserver/key_backups.ts';
import { DeviceLists } from '../../src/homeserver/keys/device_lists.ts';
import { Keys } from '../../src/homeserver/keys/keys.ts';
import { LocalKeys } from '../../src/homeserver/keys/local_keys.ts';
import { Ledger } from '../../src/homeserver/ledger.ts';
import { Messages } from '../../src/homeserver/messages.ts';
import { Notifier } from '../../src/homeserver/notifier.ts';
import { Profiles } from '../../src/homeserver/profiles.ts';
import { Reports } from '../../src/homeserver/reports.ts';
import { Sync } from '../../src/homeserver/sync/sync.ts';
import { unlimited } from '../../src/homeserver/user_limits.ts';
import type { DeviceId, RoomId, UserId } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import { insertAccount } from '../../src/storage/accounts.ts';
import type { SqliteDatabase } from '../../src/storage/sqlite.ts';
import { A, B, HOUR, testKey } from '../federation/fixtures.ts';
import { Network, openServer, openSide, type Side } from '../federation/sides.ts';
import { temporaryDatabase } from '../storage/temporary_database.ts';
import { type Death, MortalDatabase } from './mortal_database.ts';

export const ALICE = '@alice:a.example' as UserId;
export const BOB = '@bob:b.example' as UserId;
const DEVICE: Caller = { kind: 'device', key: 'ab'.repeat(32), address: '192.0.2.7:5683' };

export interface Ask {
  readonly method: Method;
  /** Behind `/_matrix/client/v3/`. */
  readonly path: string;
  readonly query?: string;
  readonly body?: JsonObject;
  readonly user?: UserId;
}

const cbor = { encode: encodeJson, decode: decodeJson };

/** One process of server A: everything that is gone when it is killed. */
interface Process {
  readonly database: MortalDatabase;
  readonly side: Side;
  readonly ledger: Ledger;
  readonly handle: RequestHandler;
}

/**
 * Server A, which may be killed at each of its transactions and started again on the same data, with a client's requests
 * that come over a pipe; and server B, which lives on.
 */
export class OnceWorld {
  readonly network = new Network();
  readonly disk: SqliteDatabase = temporaryDatabase();
  readonly loggedOut = new Set<UserId>();
  b!: Side;
  process!: Process;
  #messages = 0;

  static async open(): Promise<OnceWorld> {
    const world = new OnceWorld();
    world.b = await openSide(world.network, B, testKey(2), 2);
    await world.disk.transaction((tx) => insertAccount(tx, { user: ALICE, passwordHash: null }, 0));
    await world.start();
    return world;
  }

  /** Starts A, with nothing but what is on its disk. */
  async start(): Promise<void> {
    const { network } = this;
    const database = new MortalDatabase(this.disk);
    const signingKey = testKey(1);
    const { clock } = network.time;
    const transports = new Transports({
      serverName: A,
      peers: [],
      https: network.transportOf(A, signingKey),
    });
    const profiles = new Profiles({ database, clock, log: { warn: () => undefined } });
    const side = await openServer({
      ...{ clock, serverName: A, signingKey, seed: 1, transports, database, profiles },
    });
    profiles.onChange(side.rooms);
    network.sides.set(A, side);
    const ledger = new Ledger({ database, clock });
    const app = createApp({
      clock,
      cbor,
      // An access token is a user here.
      authenticate: async (token) =>
        this.loggedOut.has(token as UserId)
          ? undefined
          : { user: token as UserId, device: 'PHONE' as DeviceId },
    });
    createRoomRoutes(app, side);
    membershipRoutes(app, side);
    roomStateRoutes(app, side);
    sendRoutes(app, side);
    directoryRoutes(app, side);
    upgradeRoutes(app, side);
    reportRoutes(app, {
      reports: new Reports({
        ...{ database, clock, serverName: A, messages: new Messages({ reader: database, clock }) },
        localUserExists: async () => true,
        limit: unlimited,
      }),
    });
    const remoteProfiles = new FederationRemoteDirectory({ transport: transports });
    profileRoutes(app, { profiles, remoteProfiles, serverName: A });
    const filters = new Filters({ database });
    filterRoutes(app, { filters });
    const notifier = new Notifier({ clock });
    const localKeys = new LocalKeys({ database, lists: new DeviceLists({ notifier }), notifier });
    keyRoutes(app, {
      localKeys,
      keys: new Keys({ reader: database, clock, serverName: A, local: localKeys }),
      sync: new Sync({ reader: database, clock, notifier, filters }),
    });
    keyBackupRoutes(app, { keyBackups: new KeyBackups({ database, log: { warn: () => undefined } }) });
    let handle: RequestHandler | undefined;
    const source = {
      onRequest(given: RequestHandler): void {
        handle = given;
      },
    };
    await openCoapDoor(app, source, cbor, { ledger, link: 'udp' });
    // As the server does it: rooms that have not been told of a profile are told now.
    await profiles.start();
    this.process = { database, side, ledger, handle: handle! };
  }

  newMessage(): MessageId {
    return { generation: 7, number: this.#messages++ };
  }

  /** Sends one copy of a request, and waits for what comes of it. */
  ask(
    { method, path, query = '', body, user = ALICE }: Ask,
    message: MessageId = this.newMessage(),
    caller: Caller = DEVICE,
  ): Promise<ExchangeResponse> {
    const request: ExchangeRequest = {
      ...{ method, path: `/_matrix/client/v3/${path}`, query, authorization: `Bearer ${user}` },
      ...(body && { body: { kind: 'json', value: body } }),
    };
    const { signal } = new AbortController();
    return this.within(this.process.handle(caller, request, signal, message));
  }

  /** Sends one copy of a request to a process that is killed at some transaction of it, or is not; starts it again. */
  async askAndKill(ask: Ask, message: MessageId, death: Death): Promise<boolean> {
    this.process.database.dieAt(death);
    await this.ask(ask, message).catch(() => undefined);
    const { isDead } = this.process.database;
    // Whatever is made anew later is something else.
    await this.network.time.pass(1_000);
    await this.start();
    return isDead;
  }

  within<T>(outcome: Promise<T>): Promise<T> {
    return this.network.time.until(outcome, HOUR);
  }

  /** How often which thing has happened, on both servers. */
  async effects(): Promise<Record<string, number>> {
    // Rooms are told of a profile behind the answer.
    await this.network.time.settle();
    const counts: Record<string, number> = {};
    const count = (what: string): void => {
      counts[what] = (counts[what] ?? 0) + 1;
    };
    for (const [server, database] of [
      ['a', this.disk],
      ['b', this.b.database],
    ] as const) {
      const events = await database.all<{ json: string }>(
        'SELECT json FROM events WHERE position IS NOT NULL',
      );
      for (const { json } of events) {
        const { type, content } = JSON.parse(json) as { type: string; content: { membership?: string } };
        count(`${server} ${type} ${content.membership ?? ''}`);
      }
      const members = await database.all<{ user_id: string; membership: string; forgotten: number }>(
        'SELECT user_id, membership, forgotten FROM memberships',
      );
      for (const { user_id: user, membership, forgotten } of members)
        count(`${server} ${user} ${membership} ${forgotten}`);
    }
    // However often they were asked, the other server has seen one event.
    for (const path of new Set(this.network.calls.map((call) => call.path))) {
      const [, endpoint] = /\/v[12]\/(send_join|send_leave|send_knock|invite)\//.exec(path) ?? [];
      if (endpoint !== undefined) count(endpoint);
    }
    for (const table of ['filters', 'room_aliases', 'published_rooms', 'reports', 'backed_up_keys'])
      for (const _ of await this.disk.all(`SELECT * FROM ${table}`)) count(table);
    const keys = await this.disk.all<{ given: number }>('SELECT key IS NULL AS given FROM one_time_keys');
    for (const { given } of keys) count(`key ${given === 1 ? 'given away' : 'left'}`);
    const backups = await this.disk.all<{ etag: number }>('SELECT etag FROM key_backups WHERE deleted = 0');
    counts.backups = backups.length;
    counts['changes of backups'] = backups.reduce((sum, { etag }) => sum + etag, 0);
    const users = await this.disk.all<{ displayname: string | null }>('SELECT displayname FROM users');
    for (const { displayname } of users) count(`profile ${displayname}`);
    return counts;
  }

  /** A room of alice on A. */
  async room(request: JsonObject = { preset: 'private_chat' }): Promise<RoomId> {
    return jsonOf(await this.ask({ method: 'POST', path: 'createRoom', body: request })).room_id as RoomId;
  }

  /** A room of bob on B. */
  remoteRoom(): Promise<RoomId> {
    return this.within(this.b.rooms.create(BOB, { preset: 'private_chat' }));
  }
}

/** The body of an answer. */
export function jsonOf({ body }: ExchangeResponse): JsonObject {
  if (body?.kind !== 'json') throw new Error('the answer has no JSON');
  return body.value as JsonObject;
}
