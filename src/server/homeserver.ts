import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { createApp } from '../api/app.ts';
import { sharedSecretRoutes } from '../api/client/shared_secret_register.ts';
import { wellKnownRoutes } from '../api/client/well_known.ts';
import { addAclHook, addServerHook, xMatrixAuthentication } from '../api/federation/authenticate.ts';
import { eventRoutes } from '../api/federation/events.ts';
import { handshakeRoutes } from '../api/federation/handshakes.ts';
import { keyRoutes } from '../api/federation/key.ts';
import { openIdUserRoutes } from '../api/federation/openid.ts';
import { publicRoomRoutes } from '../api/federation/public_rooms.ts';
import { queryRoutes } from '../api/federation/queries.ts';
import { spaceHierarchyRoutes } from '../api/federation/space_hierarchy.ts';
import { thirdPartyInviteRoutes } from '../api/federation/third_party_invites.ts';
import { signatureRoutes, transactionRoutes } from '../api/federation/transactions.ts';
import { userKeyRoutes } from '../api/federation/user_keys.ts';
import { versionRoutes as serverVersionRoutes } from '../api/federation/version.ts';
import { ClientForms } from '../api/forms/client_forms.ts';
import type { Random } from '../base/random.ts';
import { type Clock, neverBefore } from '../base/time.ts';
import type { Work } from '../base/work.ts';
import { decodeJson, encodeJson } from '../compact/cbor.ts';
import { openCoapDoor } from '../doors/coap.ts';
import type { BodyForms } from '../exchange/body_forms.ts';
import type { Layers } from '../exchange/layers.ts';
import type { LinkFits } from '../exchange/link_timing.ts';
import type { PlainPolicy } from '../exchange/plain_policy.ts';
import { jsonOf } from '../exchange/request.ts';
import { ExchangeSocket } from '../exchange/socket.ts';
import type { ExchangeCounters, ExchangeObservation } from '../exchange/socket_options.ts';
import { DeferredSignatures } from '../federation/deferred_signatures.ts';
import { IncomingEdus } from '../federation/edus/incoming.ts';
import { EduOutbox } from '../federation/edus/outbox.ts';
import { eduPolicies } from '../federation/edus/policy.ts';
import { FederationForms } from '../federation/forms/federation_forms.ts';
import { RoomViews } from '../federation/forms/room_views.ts';
import { HttpsTransport } from '../federation/https_transport.ts';
import { KeyRing } from '../federation/key_ring.ts';
import { Notary } from '../federation/notary.ts';
import { OwedSignatures } from '../federation/owed_signatures.ts';
import { fingerprint, Peers } from '../federation/peers.ts';
import { PipeTransport } from '../federation/pipe_transport.ts';
import { Receiver } from '../federation/receiver.ts';
import { RemoteDeviceLists } from '../federation/remote_device_lists.ts';
import { FederationRemoteDirectory } from '../federation/remote_directory.ts';
import { RemoteEvents } from '../federation/remote_events.ts';
import { FederationRemoteHistory } from '../federation/remote_history.ts';
import { FederationRemoteKeys } from '../federation/remote_keys.ts';
import { FederationRemoteRooms } from '../federation/remote_rooms.ts';
import { FederationRemoteSpaces } from '../federation/remote_spaces.ts';
import { Sender } from '../federation/sender.ts';
import {
  type PeerEntry,
  parsePeerAddress,
  pipeAddresses,
  Transports,
  UDP_LINK,
} from '../federation/transports.ts';
import { RequestAuthenticator } from '../federation/x_matrix.ts';
import type { Accounts } from '../homeserver/accounts.ts';
import type { DeviceLists } from '../homeserver/keys/device_lists.ts';
import { Ledger } from '../homeserver/ledger.ts';
import type { Web } from '../homeserver/media/ports.ts';
import type { PasswordCost } from '../homeserver/passwords.ts';
import type { PushGateway } from '../homeserver/push/push_sender.ts';
import { ProvisionalEvents } from '../homeserver/rooms/provisional.ts';
import type { RoomWriter } from '../homeserver/rooms/room_writer.ts';
import type { Rooms } from '../homeserver/rooms/rooms.ts';
import { isServerAllowed } from '../homeserver/server_acls.ts';
import { SharedSecret } from '../homeserver/shared_secret.ts';
import type { ToDevice } from '../homeserver/to_device.ts';
import { type Link, sustainedRate } from '../link/link.ts';
import { type KeyId, parseServerName, type ServerName, type UserId } from '../matrix/ids.ts';
import { type SigningKey, signingKey } from '../matrix/signing.ts';
import type { KeyLog } from '../pipe/key_log.ts';
import type { Database } from '../storage/database.ts';
import { highestTime } from '../storage/highest_time.ts';
import type { RetiredKey } from '../storage/own_keys.ts';
import { pipeSessionStore } from '../storage/pipe_sessions.ts';
import type { Sealing } from '../storage/sealing.ts';
import type { StoredKey } from '../storage/server_keys.ts';
import { eventById } from '../storage/sync.ts';
import { addClientRoutes } from './client_routes.ts';
import { type Config, ConfigError } from './config.ts';

import { DevicePipesOfLinks } from './device_pipes.ts';
import { type OwnIdentity, ownIdentity } from './identity.ts';
import { storedFits } from './link_fits.ts';
import { createLocal } from './local.ts';
import { createMedia, type MediaServices } from './media.ts';
import { type Models, modelsFor } from './models.ts';
import { pipeNetwork } from './pipe_network.ts';

export interface HomeserverOptions {
  readonly config: Config;
  readonly clock: Clock;
  readonly random: Random;
  readonly work: Work;
  /** Migrated. Whoever opened it closes it, after `stop`. */
  readonly database: Database;
  /** How secrets are kept in the database. */
  readonly sealing: Sealing;
  /** The datagram link that `ravine://` addresses are on. Whoever opened it closes it. */
  readonly link?: Link | undefined;
  /** More links for CoAP and pipes. Whoever opened them closes them. */
  readonly links?: readonly ServerLink[] | undefined;
  /** Whether other servers may be reached over HTTPS; a simulation has no such network. */
  readonly https: boolean;
  /** Where pages are previewed and files of other servers may be; left out: the internet, where `https` is. */
  readonly web?: Web | undefined;
  /** Another way to push gateways than over HTTPS. */
  readonly pushGateway?: PushGateway;
  /** PEM certificates trusted besides the system's. */
  readonly certificateAuthorities?: readonly string[];
  readonly publicBaseUrl?: string | null;
  /** The program's version, for GET /_matrix/federation/v1/version. */
  readonly version: string;
  readonly log: Logger;
  readonly passwordCost?: PasswordCost;
  /** Lets others have their turn between parts of a long answer; left out: it is read at one go, as virtual time wants it. */
  readonly turn?: () => Promise<void>;
  readonly observer?: (observation: ExchangeObservation) => void;
  /** The models of the mixer that are there; which of them a link has the configuration says. Left out: none. */
  readonly models?: Models;
  /** Settled when they can be used: before that no link opens. Left out: they can be already. */
  readonly modelsReady?: Promise<unknown>;
  /** What shortens what it says in pipes; left out: all that there is. */
  readonly layers?: Layers;
  /** Told what opens the records of a capture. */
  readonly keyLog?: KeyLog;
}

/** A link beside the one for `ravine://`. */
export interface ServerLink {
  /** As in the addresses of peers on it: see PipeAddress. */
  readonly name: string;
  readonly link: Link;
  /** Whose CoAP outside of pipes is served on it. */
  readonly plain: PlainPolicy;
}

/** What has happened since the start. */
export interface HomeserverCounters {
  /** Federation requests begun, by transport. */
  readonly federation: { readonly https: number; readonly pipe: number };
  readonly rooms: Rooms['counters'];
  readonly sender: Sender['counters'];
  readonly receiver: Receiver['counters'];
  readonly ledger: Ledger['counters'];
  readonly forms: FederationForms['counters'];
  readonly signatures: OwedSignatures['counters'] & DeferredSignatures['counters'];
  readonly toDevice: ToDevice['counters'];
  readonly deviceLists: RemoteDeviceLists['counters'];
  readonly exchange: ExchangeCounters | undefined;
  /** Of all links by their names, the one of `exchange` included. */
  readonly links: Readonly<Record<string, ExchangeCounters>>;
  /** Keys that have pipes and with which nobody has logged in. */
  readonly unboundDevices: number;
}

/** One complete homeserver, out of a clock, dice, a database and a link: in a process of its own, or one of fifty in a simulation. */
export interface Homeserver {
  readonly serverName: ServerName;
  /** SHA-256 of the signing key in hexadecimal: what other operators pin. */
  readonly fingerprint: string;
  /** What doors hand requests to; ready. */
  readonly app: FastifyInstance;
  readonly accounts: Accounts;
  /** The one way in which rooms are written, for what works on them beside all requests. */
  readonly roomWriter: RoomWriter;
  /** Takes old media away, once it is started. */
  readonly mediaKeeper: MediaServices['keeper'];
  counters(): HomeserverCounters;
  /** Lets requests end, stops sending and closes what this opened. */
  stop(): Promise<void>;
}

/**
 * Builds a homeserver and lets it go on where it stopped: what is in its outbox is sent.
 * @throws ConfigError where the configuration does not fit the database
 */
export async function createHomeserver(options: HomeserverOptions): Promise<Homeserver> {
  const { config, clock, random, database, sealing, log } = options;
  const name = parseServerName(config.server_name);
  if (!name.ok) throw new ConfigError(`server_name: ${name.problem}`);
  const serverName = name.value;
  const identity = await ownIdentity({ serverName, database, sealing, random, now: clock.wall() });
  const key = signingKey(identity.signingKeyId, identity.signingSecret);
  const fits = await storedFits(
    database,
    clock,
    linksOf(options).map((link) => link.name),
  );
  const validity = neverBefore(await highestTime(database), clock);
  const federation = createFederation(
    options,
    serverName,
    identity,
    key,
    fits,
    validity,
    () => local.rooms,
    () => deferred,
    () => local.deviceLists,
  );
  const local = createLocal(options, serverName, key, federation);
  const media = createMedia(options, serverName, federation.transports);
  const deferred = new DeferredSignatures({
    ...{ serverName, database, clock, log, checker: federation.keys, transport: federation.transports },
    provisional: new ProvisionalEvents({
      ...{ database, clock, notifier: local.notifier, writer: local.rooms.writer },
      notifications: local.notifications,
    }),
    isAgreed: federation.mayDefer,
    usualKey: (server) => federation.views.usualKey(server),
    decide: (origin, room, pdu) => receiver.decide(origin, room, pdu),
  });

  const receiver = new Receiver({
    serverName,
    database,
    clock,
    log,
    rooms: local.rooms,
    checker: federation.keys,
    remote: federation.remoteEvents,
    joining: (room) => federation.remoteRooms.joining(room),
    deferred,
    edus: new IncomingEdus({ ...local, ...federation, database, log }),
  });
  const app = createApp({
    clock,
    authenticate: (token) => local.accounts.sessions.authenticate(token),
    authenticateKey: (key) => local.accounts.sessions.authenticateKey(key),
    seen: (requester, origin) => local.accounts.sessions.seen(requester, origin),
    senderOf: async (event) => (await eventById(database, event))?.sender as UserId | undefined,
    authenticateServer: xMatrixAuthentication(
      new RequestAuthenticator({ serverName, keys: federation.keys, clock }),
    ),
    cbor: { encode: encodeJson, decode: decodeJson },
    logger: log,
    trustedProxies: config.http.trusted_proxies,
  });
  addServerHook(app, (server) => {
    federation.keys.peerSpoke(server);
    federation.sender.peerSpoke(server);
    receiver.peerSpoke(server);
    federation.remoteHistory.peerSpoke(server);
    federation.owed.peerSpoke(server);
    deferred.peerSpoke(server);
    federation.remoteKeys.peerSpoke(server);
    federation.remoteDeviceLists.peerSpoke(server);
  });
  addAclHook(app, (room, server) => isServerAllowed(database, room, server));
  addClientRoutes(app, local);
  media.addRoutes(app);
  wellKnownRoutes(app, {
    publicBaseUrl: options.publicBaseUrl ?? config.http.public_base_url,
    ...config.http.well_known,
  });
  openIdUserRoutes(app, local);
  if (config.registration.shared_secret !== null) {
    const { shared_secret: secret } = config.registration;
    sharedSecretRoutes(app, { ...local, sharedSecret: new SharedSecret({ secret, clock, random }) });
  }
  serverVersionRoutes(app, { name: 'Ravine', version: options.version });
  keyRoutes(app, {
    keys: federation.keys,
    notary: new Notary({ serverName, signingKey: key, keys: federation.keys, clock: validity }),
  });
  transactionRoutes(app, { receiver });
  signatureRoutes(app, { deferred });
  handshakeRoutes(app, { serverName, rooms: local.rooms, checker: federation.keys });
  eventRoutes(app, { serverName, rooms: local.rooms, clock });
  thirdPartyInviteRoutes(app, { serverName, rooms: local.rooms });
  publicRoomRoutes(app, local);
  spaceHierarchyRoutes(app, local);
  queryRoutes(app, { serverName, profiles: local.profiles, directory: local.directory });
  userKeyRoutes(app, { serverName, database, clock, localKeys: local.localKeys });
  await app.ready();
  const ledger = new Ledger({ database, clock });
  for (const [link, { socket }] of federation.links)
    await openCoapDoor(
      app,
      socket,
      { encode: encodeJson, decode: decodeJson },
      { ledger, link },
      bodyForms(federation.forms, new ClientForms({ reader: database, clock })),
    );
  await media.start();
  await local.typing.start();
  await local.presence.start();
  await local.profiles.start();
  await local.rooms.memberships.arrivals.start();
  await federation.sender.start();
  await receiver.start();
  await federation.remoteDeviceLists.start();
  await federation.owed.start();
  await deferred.start();
  await local.pushSender.start();
  local.deactivation.start();
  local.delayedEvents.start();
  void local.keyBackups.sweep();

  return {
    serverName,
    fingerprint: fingerprint(key.publicKey),
    app,
    accounts: local.accounts,
    roomWriter: local.rooms.writer,
    mediaKeeper: media.keeper,
    counters: () => ({
      federation: { ...federation.transports.counters },
      rooms: local.rooms.counters,
      sender: { ...federation.sender.counters },
      receiver: { ...receiver.counters },
      ledger: { ...ledger.counters },
      forms: { ...federation.forms.counters },
      signatures: { ...federation.owed.counters, ...deferred.counters },
      toDevice: { ...local.toDevice.counters },
      deviceLists: { ...federation.remoteDeviceLists.counters },
      exchange: federation.links.get(UDP_LINK)?.socket.counters,
      links: Object.fromEntries([...federation.links].map(([name, { socket }]) => [name, socket.counters])),
      unboundDevices: federation.devicePipes.unbound,
    }),
    async stop() {
      federation.devicePipes.close();
      await Promise.all([...federation.links.values()].map(({ socket }) => socket.close()));
      await federation.sender.stop();
      await federation.edus.stop();
      await federation.owed.stop();
      await federation.remoteKeys.stop();
      await federation.remoteDeviceLists.stop();
      await local.deactivation.stop();
      await local.delayedEvents.stop();
      await local.keyBackups.stop();
      await local.pushSender.stop();
      const filled = federation.remoteHistory.stop();
      const decided = deferred.stop();
      const received = receiver.stop();
      await media.stop();
      await app.close();
      await Promise.all([local.typing.stop(), local.presence.stop(), local.profiles.stop()]);
      // Ends fetches under way, which the receiver waits for.
      await federation.https?.close();
      await received;
      await decided;
      await filled;
    },
  };
}

/** Everything that reaches other servers. @param validity the clock by which others' keys end */
function createFederation(
  options: HomeserverOptions,
  serverName: ServerName,
  identity: OwnIdentity,
  signing: SigningKey,
  fits: ReadonlyMap<string, LinkFits>,
  validity: Clock,
  rooms: () => Rooms,
  deferred: () => DeferredSignatures,
  lists: () => DeviceLists,
) {
  const { config, clock, random, work, database, sealing, log } = options;
  const peers = config.federation.peers.map(peerEntry);
  const common = { serverName, signingKey: signing, database, clock, random, log };
  const https = options.https
    ? new HttpsTransport({
        ...common,
        work,
        peers,
        ...(options.certificateAuthorities && { certificateAuthorities: options.certificateAuthorities }),
      })
    : undefined;
  const network = { ...pipeNetwork(config.coap.pipe), ...(options.keyLog && { keyLog: options.keyLog }) };
  const links = new Map(
    linksOf(options).map(({ name, link, plain }) => {
      const socket = new ExchangeSocket({
        link,
        clock,
        random,
        log,
        identity: identity.pipe,
        plain,
        network,
        linkName: name,
        store: pipeSessionStore(database, sealing, name),
        fits: fits.get(name)!,
        trust: {
          decide: (claim, address, isResumed) =>
            claim.kind === 'device' ? devicePipes.decide(claim, address) : trust.decide(claim, isResumed),
          isStranger: (peer) => devicePipes.isStranger(peer),
          heard: (server) => void trust.heard(server),
        },
        acceptDevices: config.coap.pipe.devices,
        earlySends: config.coap.pipe.early_sends,
        deferredSignatures: config.coap.pipe.signatures === 'deferred',
        ...(config.coap.pipe.keep_alive !== null && { keepAliveMs: config.coap.pipe.keep_alive * 1000 }),
        models: modelsFor(config.coap.pipe, link.profile).flatMap((one) => options.models?.get(one) ?? []),
        ...(options.modelsReady && { modelsReady: options.modelsReady }),
        ...(options.observer && { observer: options.observer }),
        ...(options.layers && { layers: options.layers }),
      });
      return [name, { socket, profile: link.profile }];
    }),
  );
  const forget = (peer: string, reason: string): void => {
    for (const { socket } of links.values()) socket.forget(peer, reason);
  };
  const devicePipes = new DevicePipesOfLinks({ database, clock, forget });
  const views = new RoomViews({
    ...{ database, serverName, signingKey: signing, stores: () => rooms().writer },
    provisional: (room, origin) => deferred().eventsOf(room, origin),
  });
  const addresses = pipeAddresses(peers);
  // Where bodies have no forms of their own, signatures are always there.
  const mayDefer = (server: ServerName): boolean => {
    const at = addresses.get(server);
    const agreed = at && links.get(at.link)?.socket.agreed(server);
    return agreed?.deferredSignatures === true && options.layers?.forms !== false;
  };
  const forms = new FederationForms({
    ...{ views, database, serverName, signingKey: signing },
    deferral: {
      mayFollow: (destination, pdus) => owed.mayFollow(destination, pdus),
      going: (destination, written) => owed.going(destination, written),
      mayTake: (origin, event) => deferred().mayTake(origin, event),
    },
  });
  const transports = new Transports({
    serverName,
    peers,
    ...(https && { https }),
    ...(links.size > 0 && { pipe: new PipeTransport({ links, addresses, forms }) }),
  });
  const keys = new KeyRing({
    ...common,
    clock: validity,
    transports,
    retiredKeys: identity.retired.map(storedKey),
    notaries: config.federation.notaries.map(notaryName),
    isPinned: (server) => trust.isPinned(server),
  });
  const trust = new Peers({ ...common, peers, defaultTrust: config.federation.trust, keys, forget });
  const remoteEvents = new RemoteEvents({ transport: transports, checker: keys, log });
  const remoteRooms = new FederationRemoteRooms({
    ...common,
    transport: transports,
    checker: keys,
    remote: remoteEvents,
  });
  const remoteHistory = new FederationRemoteHistory({
    ...{ serverName, database, clock, log, rooms, remote: remoteEvents, transport: transports },
  });
  const edus = new EduOutbox({
    ...common,
    policy: eduPolicies(config.federation.ephemeral, (server) => {
      const link = links.get(addresses.get(server)?.link ?? '');
      return link === undefined ? null : sustainedRate(link.profile);
    }),
    nudge: (destination) => sender.nudge(destination),
    wake: (destination) => sender.wake([destination]),
  });
  const sender: Sender = new Sender({ ...common, transport: transports, edus });
  const remoteDeviceLists = new RemoteDeviceLists({
    ...{ ...common, transport: transports },
    lists: { changed: (tx, user) => lists().changed(tx, user) },
  });
  const remoteKeys = new FederationRemoteKeys({
    ...{ ...common, transport: transports, copies: remoteDeviceLists },
  });
  const owed = new OwedSignatures({ ...common, transport: transports, isAgreed: mayDefer });
  return {
    views,
    mayDefer,
    owed,
    https,
    links,
    devicePipes,
    forms,
    transports,
    keys,
    remoteEvents,
    remoteRooms,
    remoteHistory,
    remoteSpaces: new FederationRemoteSpaces({ serverName, transport: transports, clock }),
    remoteDirectory: new FederationRemoteDirectory({ transport: transports }),
    sender,
    edus,
    deviceListOutbox: edus.durable,
    toDeviceOutbox: edus.durable,
    remoteKeys,
    remoteDeviceLists,
  };
}

/** The short forms of bodies, by who asks. */
function bodyForms(federation: FederationForms, client: ClientForms): BodyForms {
  return {
    async restoreRequest(caller, request, reader) {
      if (caller.kind !== 'server') return client.restoreRequest();
      return federation.restoreRequest(caller.name, request, reader);
    },
    async formAnswer(caller, request, response) {
      const { status, body } = response;
      if (caller.kind !== 'server') return client.formAnswer(caller, request, response);
      if (body?.kind !== 'json') return undefined;
      return federation.formAnswer(request, status, body.value, jsonOf(request.body));
    },
  };
}

const linksOf = ({ config, link, links = [] }: HomeserverOptions): readonly ServerLink[] =>
  link === undefined ? links : [{ name: UDP_LINK, link, plain: config.coap.plain }, ...links];

const storedKey = ({ keyId, publicKey, expired }: RetiredKey): StoredKey => ({
  keyId: keyId as KeyId,
  publicKey,
  validUntil: expired,
  retired: true,
  confirmedUntil: 0,
});

function notaryName(name: string): ServerName {
  const parsed = parseServerName(name);
  if (!parsed.ok) throw new ConfigError(`federation.notaries: ${name}: ${parsed.problem}`);
  return parsed.value;
}

/** What a configuration says of one other server. @throws ConfigError */
export function peerEntry({ server_name, address, trust }: Config['federation']['peers'][number]): PeerEntry {
  const serverName = parseServerName(server_name);
  if (!serverName.ok) throw new ConfigError(`federation.peers: ${server_name}: ${serverName.problem}`);
  const parsed = parsePeerAddress(address);
  if (!parsed.ok) throw new ConfigError(`federation.peers: ${server_name}: ${address}: ${parsed.problem}`);
  return { serverName: serverName.value, address, ...(trust !== undefined && { trust }) };
}
