import { inject } from 'light-my-request';
import { createApp } from '../../src/api/app.ts';
import { CALLER } from '../../src/api/caller.ts';
import { addServerHook, xMatrixAuthentication } from '../../src/api/federation/authenticate.ts';
import { eventRoutes } from '../../src/api/federation/events.ts';
import { handshakeRoutes } from '../../src/api/federation/handshakes.ts';
import { keyRoutes } from '../../src/api/federation/key.ts';
import { queryRoutes } from '../../src/api/federation/queries.ts';
import { transactionRoutes } from '../../src/api/federation/transactions.ts';
import { versionRoutes } from '../../src/api/federation/version.ts';
import { seededRandom } from '../../src/base/random.ts';
import type { Clock } from '../../src/base/time.ts';
import { VirtualTime } from '../../src/base/virtual_time.ts';
import { decodeJson, encodeJson } from '../../src/compact/cbor.ts';
import { KeyRing } from '../../src/federation/key_ring.ts';
import { LocalOutbox } from '../../src/federation/local_outbox.ts';
import { Receiver } from '../../src/federation/receiver.ts';
import { RemoteEvents } from '../../src/federation/remote_events.ts';
import { FederationRemoteRooms } from '../../src/federation/remote_rooms.ts';
import { Sender } from '../../src/federation/sender.ts';
import {
  type FederationCall,
  FederationError,
  type FederationTransport,
  remoteError,
} from '../../src/federation/transport.ts';
import { Transports } from '../../src/federation/transports.ts';
import { authorizationHeader, RequestAuthenticator } from '../../src/federation/x_matrix.ts';
import { Rooms, type RoomsOptions } from '../../src/homeserver/rooms/rooms.ts';
import type { DeviceId, EventId, RoomId, ServerName, UserId } from '../../src/matrix/ids.ts';
import { parseUserId } from '../../src/matrix/ids.ts';
import type { JsonValue } from '../../src/matrix/json.ts';
import type { SigningKey } from '../../src/matrix/signing.ts';
import type { Database } from '../../src/storage/database.ts';
import { temporaryDatabase } from '../storage/temporary_database.ts';
import { recordingLog } from './fixtures.ts';

type Dispatch = (
  destination: ServerName,
  call: FederationCall,
) => Promise<{ status: number; body: JsonValue }>;

/**
 * Virtual time that stands still while a request is under way: one with a large body takes many turns of the event
 * loop. Nothing that answers a request here waits for a timer.
 */
export class NetworkTime extends VirtualTime {
  underWay = 0;

  override async settle(): Promise<void> {
    do await super.settle();
    while (this.underWay > 0);
  }
}

/** Servers in one process whose requests go straight into each other's apps. */
export class Network {
  readonly sides = new Map<ServerName, Side>();
  /** Every request that went over it. */
  readonly calls: {
    readonly from: ServerName;
    readonly to: ServerName;
    readonly method: string;
    readonly path: string;
  }[] = [];
  /** Whether a request gets through. */
  passes: (from: ServerName, to: ServerName, call: FederationCall) => boolean = () => true;
  /** Runs when a request has been done and its answer has not arrived. */
  beforeAnswer: (call: FederationCall) => Promise<void> = async () => undefined;
  /** Sign requests instead of proving the caller by other means. */
  signed = false;
  readonly time = new NetworkTime();

  transportOf(from: ServerName, key: SigningKey): FederationTransport {
    const exchange: Dispatch = async (to, call) => {
      const side = this.sides.get(to);
      if (side === undefined || !this.passes(from, to, call))
        throw new FederationError('unreachable', `${to} is away`);
      this.calls.push({ from, to, method: call.method, path: call.path });
      const url = call.query === undefined ? call.path : `${call.path}?${call.query}`;
      const authorization = this.signed
        ? authorizationHeader(
            { origin: from, destination: to, method: call.method, uri: url, content: call.body },
            key,
          )
        : undefined;
      const answer = await inject(
        (req, res) => {
          if (!this.signed) req[CALLER] = { kind: 'server', name: from };
          side.app.routing(req, res);
        },
        {
          method: call.method,
          url,
          headers: { ...(authorization !== undefined && { authorization }) },
          ...(call.body !== undefined && { payload: call.body as object }),
        },
      );
      await this.beforeAnswer(call);
      const body = answer.json() as JsonValue;
      if (answer.statusCode < 200 || answer.statusCode > 299) throw remoteError(answer.statusCode, body);
      return { status: answer.statusCode, body };
    };
    const request: Dispatch = async (to, call) => {
      this.time.underWay++;
      return exchange(to, call).finally(() => this.time.underWay--);
    };
    return { request };
  }

  count(from: ServerName, to: ServerName, part: string): number {
    return this.calls.filter((call) => call.from === from && call.to === to && call.path.includes(part))
      .length;
  }
}

export type Side = Awaited<ReturnType<typeof openServer>>;

/** A whole server in a network whose requests go straight from one to the other. */
export async function openSide(
  network: Network,
  serverName: ServerName,
  signingKey: SigningKey,
  seed: number,
) {
  const transport = network.transportOf(serverName, signingKey);
  const transports = new Transports({ serverName, peers: [], https: transport });
  const side = await openServer({ clock: network.time.clock, serverName, signingKey, seed, transports });
  network.sides.set(serverName, side);
  return side;
}

/** A whole server as far as federation goes: rooms, federation and routes over a database of its own. */
export async function openServer({
  clock,
  serverName,
  signingKey,
  seed,
  transports: transport,
  database = temporaryDatabase(),
  profiles = { get: async () => undefined },
}: {
  readonly clock: Clock;
  readonly serverName: ServerName;
  readonly signingKey: SigningKey;
  readonly seed: number;
  readonly transports: Transports;
  readonly database?: Database;
  readonly profiles?: RoomsOptions['profiles'];
}) {
  const log = recordingLog();
  const keys = new KeyRing({
    serverName,
    signingKey,
    database,
    clock,
    log,
    transports: transport,
  });
  const remote = new RemoteEvents({ transport, checker: keys });
  const remoteRooms = new FederationRemoteRooms({
    serverName,
    signingKey,
    clock,
    random: seededRandom(seed),
    database,
    transport,
    checker: keys,
    remote,
    log,
  });
  const sender = new Sender({ serverName, database, clock, random: seededRandom(seed), transport, log });
  const rooms = new Rooms({
    database,
    clock,
    random: seededRandom(1),
    serverName,
    signingKey,
    remote: remoteRooms,
    outbox: new LocalOutbox((destinations) => sender.wake(destinations)),
    notifier: { published: () => undefined },
    profiles,
    localUserExists: async () => true,
  });
  const receiver = new Receiver({
    serverName,
    database,
    clock,
    rooms,
    checker: keys,
    remote,
    joining: (room) => remoteRooms.joining(room),
    log,
  });
  const app = createApp({
    clock,
    cbor: { encode: encodeJson, decode: decodeJson },
    authenticate: async () => undefined,
    authenticateServer: xMatrixAuthentication(new RequestAuthenticator({ serverName, keys, clock })),
  });
  addServerHook(app, (server) => {
    keys.peerSpoke(server);
    sender.peerSpoke(server);
    receiver.peerSpoke(server);
  });
  keyRoutes(app, { keys });
  versionRoutes(app, { name: 'Ravine', version: '0' });
  transactionRoutes(app, { receiver });
  handshakeRoutes(app, { serverName, rooms, checker: keys });
  eventRoutes(app, { serverName, rooms, clock });
  queryRoutes(app, {
    serverName,
    profiles: { get: async (user) => (user.startsWith('@nobody') ? undefined : { displayname: 'Somebody' }) },
  });
  await app.ready();
  await sender.start();
  await receiver.start();
  let txn = 0;
  const side = {
    serverName,
    signingKey,
    database,
    log,
    keys,
    sender,
    receiver,
    rooms,
    remoteRooms,
    app,
    transport,
    user: (name: string): UserId => {
      const user = parseUserId(`@${name}:${serverName}`);
      if (!user.ok) throw new Error(user.problem);
      return user.value;
    },
    say: (user: UserId, room: RoomId, body: string): Promise<EventId> =>
      rooms.sending.send(
        room,
        'm.room.message',
        { msgtype: 'm.text', body },
        { user, device: 'D' as DeviceId, txnId: `t${txn++}` },
      ),
    /** The bodies of the messages that the server shows, in its order. */
    messages: async (): Promise<string[]> => {
      const rows = await database.all<{ json: string }>(
        "SELECT json FROM events WHERE type = 'm.room.message' AND position IS NOT NULL ORDER BY position",
      );
      return rows.map(({ json }) => (JSON.parse(json) as { content: { body: string } }).content.body);
    },
    /** The current state as event ids by place. */
    state: (): Promise<{ type: string; state_key: string; event_id: string }[]> =>
      database.all(
        `SELECT e.type AS type, e.state_key AS state_key, e.event_id AS event_id FROM current_state c
         JOIN events e ON e.id = c.event ORDER BY e.type, e.state_key`,
      ),
  };
  return side;
}
