import { inject } from 'light-my-request';
import { createApp } from '../../src/api/app.ts';
import { CALLER } from '../../src/api/caller.ts';
import { addAclHook, addServerHook, xMatrixAuthentication } from '../../src/api/federation/authenticate.ts';
import { eventRoutes } from '../../src/api/federation/events.ts';
import { handshakeRoutes } from '../../src/api/federation/handshakes.ts';
import { keyRoutes } from '../../src/api/federation/key.ts';
import { publicRoomRoutes } from '../../src/api/federation/public_rooms.ts';
import { queryRoutes } from '../../src/api/federation/queries.ts';
import { spaceHierarchyRoutes } from '../../src/api/federation/space_hierarchy.ts';
import { thirdPartyInviteRoutes } from '../../src/api/federation/third_party_invites.ts';
import { signatureRoutes, transactionRoutes } from '../../src/api/federation/transactions.ts';
import { userKeyRoutes } from '../../src/api/federation/user_keys.ts';
import { versionRoutes } from '../../src/api/federation/version.ts';
import { seededRandom } from '../../src/base/random.ts';
import { type Clock, type Millis, sleep } from '../../src/base/time.ts';
import { VirtualTime } from '../../src/base/virtual_time.ts';
import { decodeJson, encodeJson } from '../../src/compact/cbor.ts';
import { CompactReader } from '../../src/compact/value_reader.ts';
import { CompactWriter } from '../../src/compact/value_writer.ts';
import type { FormedBody } from '../../src/exchange/request.ts';
import { DeferredSignatures } from '../../src/federation/deferred_signatures.ts';
import { IncomingEdus } from '../../src/federation/edus/incoming.ts';
import { EduOutbox } from '../../src/federation/edus/outbox.ts';
import type { EduPolicy } from '../../src/federation/edus/policy.ts';
import { FederationForms } from '../../src/federation/forms/federation_forms.ts';
import { RoomViews } from '../../src/federation/forms/room_views.ts';
import { KEY_PATH } from '../../src/federation/key_document.ts';
import { KeyRing } from '../../src/federation/key_ring.ts';
import { LocalOutbox } from '../../src/federation/local_outbox.ts';
import { Notary } from '../../src/federation/notary.ts';
import { OwedSignatures } from '../../src/federation/owed_signatures.ts';
import { Receiver } from '../../src/federation/receiver.ts';
import { RemoteDeviceLists } from '../../src/federation/remote_device_lists.ts';
import { FederationRemoteDirectory } from '../../src/federation/remote_directory.ts';
import { RemoteEvents } from '../../src/federation/remote_events.ts';
import { FederationRemoteHistory } from '../../src/federation/remote_history.ts';
import { FederationRemoteKeys } from '../../src/federation/remote_keys.ts';
import { FederationRemoteRooms } from '../../src/federation/remote_rooms.ts';
import { FederationRemoteSpaces } from '../../src/federation/remote_spaces.ts';
import { Sender } from '../../src/federation/sender.ts';
import {
  type FederationCall,
  FederationError,
  type FederationTransport,
  remoteError,
} from '../../src/federation/transport.ts';
import { Transports } from '../../src/federation/transports.ts';
import { authorizationHeader, RequestAuthenticator } from '../../src/federation/x_matrix.ts';
import { AccountData } from '../../src/homeserver/account_data.ts';
import { Directory } from '../../src/homeserver/directory.ts';
import { DeviceLists } from '../../src/homeserver/keys/device_lists.ts';
import { LocalKeys } from '../../src/homeserver/keys/local_keys.ts';
import { Messages } from '../../src/homeserver/messages.ts';
import { Presence } from '../../src/homeserver/presence.ts';
import { Receipts } from '../../src/homeserver/receipts.ts';
import { RoomSummaries } from '../../src/homeserver/room_summaries.ts';
import { ProvisionalEvents } from '../../src/homeserver/rooms/provisional.ts';
import { Rooms, type RoomsOptions } from '../../src/homeserver/rooms/rooms.ts';
import { isServerAllowed } from '../../src/homeserver/server_acls.ts';
import { SpaceHierarchy } from '../../src/homeserver/space_hierarchy.ts';
import { ToDevice } from '../../src/homeserver/to_device.ts';
import { Typing } from '../../src/homeserver/typing.ts';
import type { DeviceId, EventId, RoomId, ServerName, UserId } from '../../src/matrix/ids.ts';
import { parseUserId } from '../../src/matrix/ids.ts';
import { type JsonValue, parseJson } from '../../src/matrix/json.ts';
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
  /** Requests on their way, for which others may be waiting that are counted as under way. */
  asleep = 0;

  override async settle(): Promise<void> {
    do await super.settle();
    while (this.underWay > 0 && this.asleep === 0);
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
    readonly body: JsonValue | undefined;
  }[] = [];
  /** Whether a request gets through. */
  passes: (from: ServerName, to: ServerName, call: FederationCall) => boolean = () => true;
  /** Runs when a request has been done and its answer has not arrived. */
  beforeAnswer: (call: FederationCall, status: number) => Promise<void> = async () => undefined;
  /** Sign requests instead of proving the caller by other means. */
  signed = false;
  /** Send bodies in their short forms, as through a pipe. */
  formed = false;
  /** In short forms, let signatures follow their events. */
  deferred = false;
  /** What everybody is told besides events. */
  policy: EduPolicy = { typing: true, presence: true, receipts: 'soon' };
  /** In short forms, let bytes count more than work. */
  isSparing = false;
  /** Changes the bytes of a short form on their way. */
  tamper: (bytes: Uint8Array, call: FederationCall) => Uint8Array = (bytes) => bytes;
  /** Bytes of short forms, by whether they were a request's or an answer's. */
  readonly formedBytes = { request: 0, answer: 0 };
  /** How long a request, or its answer, is on its way. */
  delay: () => Millis = () => 0;
  readonly time: NetworkTime;

  /** @param epoch Unix time in milliseconds at which it starts */
  constructor(epoch?: Millis) {
    this.time = new NetworkTime(epoch);
  }

  transportOf(from: ServerName, key: SigningKey): FederationTransport {
    const exchange: Dispatch = async (to, call) => {
      const side = this.sides.get(to);
      if (side === undefined || !this.passes(from, to, call))
        throw new FederationError('unreachable', `${to} is away`);
      this.calls.push({ from, to, method: call.method, path: call.path, body: call.body });
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
      await this.beforeAnswer(call, answer.statusCode);
      const body = parseJson(answer.body);
      if (answer.statusCode < 200 || answer.statusCode > 299) throw remoteError(answer.statusCode, body);
      return { status: answer.statusCode, body };
    };
    const request: Dispatch = async (to, call) => {
      await this.#travel();
      this.time.underWay++;
      const answer = this.formed ? this.#inForms(from, to, call, exchange) : exchange(to, call);
      return answer.finally(() => this.time.underWay--).finally(() => this.#travel());
    };
    return { request };
  }

  async #travel(): Promise<void> {
    const delay = this.delay();
    if (delay === 0) return;
    this.time.asleep++;
    await sleep(this.time.clock, delay);
    this.time.asleep--;
  }

  /** As the two ends of a pipe do it. */
  async #inForms(
    from: ServerName,
    to: ServerName,
    call: FederationCall,
    exchange: Dispatch,
  ): Promise<{ status: number; body: JsonValue }> {
    const [writer, reader] = [this.sides.get(from)!.forms, this.sides.get(to)?.forms];
    if (reader === undefined) return exchange(to, call);
    const send = async (formed: FormedBody | undefined): Promise<{ status: number; value: JsonValue }> => {
      let { body } = call;
      if (formed !== undefined) {
        if (!this.passes(from, to, call)) throw new FederationError('unreachable', `${to} is away`);
        const bytes = this.tamper(bytesOf(formed, this.isSparing), call);
        this.formedBytes.request += bytes.length;
        const restored = await reader.restoreRequest(from, call, new CompactReader(bytes, 0, {}));
        if (!restored.ok) {
          const { status, body: error } = restored.problem;
          return { status, value: (error as { value: JsonValue }).value };
        }
        body = restored.value;
      }
      const { status, body: value } = await exchange(to, { ...call, ...(body !== undefined && { body }) });
      // Without a pipe nothing is known of keys.
      const answer = call.path === KEY_PATH ? undefined : await reader.formAnswer(call, status, value);
      if (answer === undefined) return { status, value };
      const bytes = bytesOf(answer);
      this.formedBytes.answer += bytes.length;
      if (bytes.length === 0) return { status, value: {} };
      const restored = writer.restoreAnswer(call, new CompactReader(bytes, 0, {}));
      if (!restored.ok) throw new FederationError('bad_answer', restored.problem);
      return { status, value: restored.value };
    };
    const answer =
      call.body === undefined ? await send(undefined) : await writer.exchange(to, call, call.body, send);
    if (answer.status < 200 || answer.status > 299) throw remoteError(answer.status, answer.value);
    return { status: answer.status, body: answer.value };
  }

  count(from: ServerName, to: ServerName, part: string): number {
    return this.calls.filter((call) => call.from === from && call.to === to && call.path.includes(part))
      .length;
  }
}

const bytesOf = ({ write }: FormedBody, isSparing = false): Uint8Array => {
  const writer = new CompactWriter({ isSparing });
  write(writer);
  return writer.done();
};

export type Side = Awaited<ReturnType<typeof openServer>>;

/** A whole server in a network whose requests go straight from one to the other. */
export async function openSide(
  network: Network,
  serverName: ServerName,
  signingKey: SigningKey,
  seed: number,
  database: Database = temporaryDatabase(),
): Promise<Side> {
  const transport = network.transportOf(serverName, signingKey);
  const transports = new Transports({ serverName, peers: [], https: transport });
  const mayDefer = (): boolean => network.formed && network.deferred;
  const side = await openServer({
    ...{ clock: network.time.clock, serverName, signingKey, seed, transports, mayDefer, database },
    policy: () => network.policy,
  });
  network.sides.set(serverName, side);
  return side;
}

/** Ends a server: nothing of it is under way any more, and its database stays open. */
export async function stopped(side: Side): Promise<void> {
  await side.sender.stop();
  await side.owed.stop();
  await side.deferred.stop();
  await side.remoteKeys.stop();
  await side.remoteDeviceLists.stop();
  await side.receiver.stop();
  await side.remoteHistory.stop();
  await side.app.close();
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
  mayDefer = () => false,
  policy = () => ({ typing: true, presence: true, receipts: 'soon' }),
}: {
  readonly clock: Clock;
  readonly serverName: ServerName;
  readonly signingKey: SigningKey;
  readonly seed: number;
  readonly transports: Transports;
  readonly database?: Database;
  readonly profiles?: RoomsOptions['profiles'];
  readonly mayDefer?: () => boolean;
  readonly policy?: (destination: ServerName) => EduPolicy;
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
  const remoteHistory = new FederationRemoteHistory({
    ...{ serverName, database, clock, log, rooms: () => rooms, remote, transport },
  });
  const edus = new EduOutbox({
    ...{ serverName, database, clock, log, policy },
    nudge: (destination) => sender.nudge(destination),
    wake: (destination) => sender.wake([destination]),
  });
  const sender: Sender = new Sender({
    ...{ serverName, database, clock, random: seededRandom(seed), transport, log, edus },
  });
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
    resolveAlias: (alias) => directory.resolve(alias),
  });
  const remoteSpaces = new FederationRemoteSpaces({ serverName, transport, clock });
  const summaries = new RoomSummaries({ database, serverName, writer: rooms.writer, remote: remoteSpaces });
  const hierarchy = new SpaceHierarchy({ database, summaries, remote: remoteSpaces });
  const remoteDirectory = new FederationRemoteDirectory({ transport });
  const directory: Directory = new Directory({
    ...{ database, clock, serverName, rooms, summaries },
    remote: remoteDirectory,
    remoteLists: remoteDirectory,
  });
  const views = new RoomViews({
    ...{ database, serverName, signingKey, stores: () => rooms.writer },
    provisional: (room, origin) => deferred.eventsOf(room, origin),
  });
  const owed = new OwedSignatures({ serverName, database, clock, transport, isAgreed: mayDefer, log });
  const deferred: DeferredSignatures = new DeferredSignatures({
    ...{ serverName, database, clock, log, checker: keys, transport, isAgreed: mayDefer },
    provisional: new ProvisionalEvents({
      ...{ database, clock, notifier: { published: () => undefined }, writer: rooms.writer },
    }),
    usualKey: (server) => views.usualKey(server),
    decide: (origin, room, pdu) => receiver.decide(origin, room, pdu),
  });
  const services = { database, clock, notifier: { published: () => undefined }, outbox: edus, log };
  const typing = new Typing(services);
  const receipts = new Receipts({ ...services, accountData: new AccountData(services) });
  const presence = new Presence({
    ...{ ...services, serverName, enabled: true, localUserExists: async () => true },
  });
  const toDevice = new ToDevice({
    ...{ ...services, serverName, log, random: seededRandom(seed + 1_000), outbox: edus.durable },
  });
  const deviceLists = new DeviceLists({ outbox: edus.durable });
  const localKeys = new LocalKeys({ ...services, lists: deviceLists });
  const remoteDeviceLists = new RemoteDeviceLists({
    ...{
      serverName,
      database,
      clock,
      random: seededRandom(seed + 2_000),
      transport,
      lists: deviceLists,
      log,
    },
  });
  const remoteKeys = new FederationRemoteKeys({
    ...{ serverName, database, clock, transport, copies: remoteDeviceLists },
  });
  const incoming = new IncomingEdus({
    ...{ serverName, database, typing, receipts, presence, toDevice, remoteDeviceLists, log },
  });
  const receiver: Receiver = new Receiver({
    serverName,
    database,
    clock,
    rooms,
    checker: keys,
    remote,
    joining: (room) => remoteRooms.joining(room),
    deferred,
    edus: incoming,
    log,
  });
  const forms = new FederationForms({
    ...{ views, database, serverName, signingKey },
    deferral: {
      mayFollow: (destination, pdus) => owed.mayFollow(destination, pdus),
      going: (destination, written) => owed.going(destination, written),
      mayTake: (origin, event) => deferred.mayTake(origin, event),
    },
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
    remoteHistory.peerSpoke(server);
    owed.peerSpoke(server);
    deferred.peerSpoke(server);
    remoteKeys.peerSpoke(server);
    remoteDeviceLists.peerSpoke(server);
  });
  addAclHook(app, (room, server) => isServerAllowed(database, room, server));
  keyRoutes(app, { keys, notary: new Notary({ serverName, signingKey, keys, clock }) });
  versionRoutes(app, { name: 'Ravine', version: '0' });
  transactionRoutes(app, { receiver });
  signatureRoutes(app, { deferred });
  handshakeRoutes(app, { serverName, rooms, checker: keys });
  eventRoutes(app, { serverName, rooms, clock });
  thirdPartyInviteRoutes(app, { serverName, rooms });
  publicRoomRoutes(app, { directory });
  spaceHierarchyRoutes(app, { hierarchy });
  queryRoutes(app, {
    serverName,
    profiles: { get: async (user) => (user.startsWith('@nobody') ? undefined : { displayname: 'Somebody' }) },
    directory,
  });
  userKeyRoutes(app, { serverName, database, clock, localKeys });
  await app.ready();
  await typing.start();
  await sender.start();
  await receiver.start();
  await owed.start();
  await deferred.start();
  await remoteDeviceLists.start();
  let txn = 0;
  const side = {
    serverName,
    signingKey,
    database,
    log,
    keys,
    sender,
    edus,
    typing,
    receipts,
    presence,
    incoming,
    toDevice,
    deviceLists,
    localKeys,
    remoteDeviceLists,
    remoteKeys,
    receiver,
    owed,
    deferred,
    rooms,
    remoteRooms,
    remoteHistory,
    history: new Messages({ reader: database, clock, remote: remoteHistory }),
    directory,
    summaries,
    hierarchy,
    forms,
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
        { user, device: 'D' as DeviceId, txnId: `t${seed} ${txn++}` },
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
