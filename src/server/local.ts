import { LocalOutbox } from '../federation/local_outbox.ts';
import type { FederationRemoteRooms } from '../federation/remote_rooms.ts';
import type { Sender } from '../federation/sender.ts';
import { AccountData } from '../homeserver/account_data.ts';
import { Accounts } from '../homeserver/accounts.ts';
import { carrySettings } from '../homeserver/carried_settings.ts';
import { Deactivation } from '../homeserver/deactivation.ts';
import { DelayedEvents } from '../homeserver/delayed_events.ts';
import { Devices } from '../homeserver/devices.ts';
import { Directory } from '../homeserver/directory.ts';
import { Filters } from '../homeserver/filters.ts';
import { blocksInvites } from '../homeserver/invite_permission.ts';
import { KeyBackups } from '../homeserver/key_backups.ts';
import { CrossSigning } from '../homeserver/keys/cross_signing.ts';
import { DeviceLists } from '../homeserver/keys/device_lists.ts';
import { Keys } from '../homeserver/keys/keys.ts';
import { LocalKeys } from '../homeserver/keys/local_keys.ts';
import { Messages } from '../homeserver/messages.ts';
import { Moderation } from '../homeserver/moderation.ts';
import { Notifier } from '../homeserver/notifier.ts';
import { OpenId } from '../homeserver/openid.ts';
import { Peeks } from '../homeserver/peeks.ts';
import type {
  DeviceListOutbox,
  EphemeralOutbox,
  RemoteDirectory,
  RemoteHistory,
  RemoteKeys,
  RemoteProfiles,
  RemoteRoomLists,
  RemoteSpaces,
  ToDeviceOutbox,
} from '../homeserver/ports.ts';
import { Presence } from '../homeserver/presence.ts';
import { Profiles } from '../homeserver/profiles.ts';
import { NotificationList } from '../homeserver/push/notification_list.ts';
import { Notifications } from '../homeserver/push/notifications.ts';
import { PushRules } from '../homeserver/push/push_rules.ts';
import { type PushGateway, PushSender } from '../homeserver/push/push_sender.ts';
import { Pushers } from '../homeserver/push/pushers.ts';
import { Recipients } from '../homeserver/push/recipients.ts';
import { Receipts } from '../homeserver/receipts.ts';
import { Relations } from '../homeserver/relations.ts';
import { Reports } from '../homeserver/reports.ts';
import { RoomSummaries } from '../homeserver/room_summaries.ts';
import { Rooms } from '../homeserver/rooms/rooms.ts';
import { Search } from '../homeserver/search.ts';
import { SpaceHierarchy } from '../homeserver/space_hierarchy.ts';
import { Sync } from '../homeserver/sync/sync.ts';
import { ToDevice } from '../homeserver/to_device.ts';
import { Typing } from '../homeserver/typing.ts';
import { UserDirectory } from '../homeserver/user_directory.ts';
import { unlimited, userLimits } from '../homeserver/user_limits.ts';
import { Voip } from '../homeserver/voip.ts';
import type { ServerName } from '../matrix/ids.ts';
import type { SigningKey } from '../matrix/signing.ts';
import type { DevicePipesOfLinks } from './device_pipes.ts';
import type { HomeserverOptions } from './homeserver.ts';
import { HttpPushGateway, NO_GATEWAY } from './push_gateway.ts';

/** What the services for local users need of the side that speaks with other servers and devices. */
interface FederationPorts {
  readonly devicePipes: DevicePipesOfLinks;
  readonly remoteRooms: FederationRemoteRooms;
  readonly remoteDirectory: RemoteDirectory & RemoteProfiles & RemoteRoomLists;
  readonly remoteHistory: RemoteHistory;
  readonly remoteSpaces: RemoteSpaces;
  readonly sender: Sender;
  readonly edus: EphemeralOutbox;
  readonly remoteKeys?: RemoteKeys;
  readonly deviceListOutbox?: DeviceListOutbox;
  readonly toDeviceOutbox: ToDeviceOutbox;
}

export type LocalServices = ReturnType<typeof createLocal>;

/** What the server does for its own users. */
export function createLocal(
  options: HomeserverOptions,
  serverName: ServerName,
  signing: SigningKey,
  {
    devicePipes: pipes,
    remoteRooms,
    remoteDirectory,
    remoteKeys,
    deviceListOutbox,
    toDeviceOutbox,
    remoteHistory,
    remoteSpaces,
    sender,
    edus,
  }: FederationPorts,
) {
  const { config, clock, random, work, database, passwordCost, log } = options;
  const { mode, terms } = config.registration;
  const notifier = new Notifier({ clock });
  const lists = new DeviceLists({ notifier, outbox: deviceListOutbox });
  const accounts = new Accounts({
    ...{ database, clock, random, work, serverName, passwordCost, pipes, lists },
    registration: { mode, terms },
  });
  const profiles = new Profiles({ database, clock, log });
  const filters = new Filters({ database });
  const limit = config.limits === null ? unlimited : userLimits(clock, config.limits);
  const recipients = new Recipients();
  const pushRules = new PushRules({ database, notifier, recipients });
  const pushSender = new PushSender({ database, clock, log, gateway: pushGateway(options) });
  const notifications = new Notifications({
    ...{ serverName, recipients },
    changed: (users) => pushSender.wake(users),
  });
  const pushers = new Pushers({
    ...{ database, clock, insideGateways: new Set(config.push.inside_gateways) },
    changed: (user) => pushSender.pushersChanged(user),
  });
  const rooms = new Rooms({
    database,
    clock,
    random,
    serverName,
    signingKey: signing,
    remote: remoteRooms,
    outbox: new LocalOutbox((destinations) => sender.wake(destinations)),
    notifier,
    profiles,
    localUserExists: (user) => accounts.localUserExists(user),
    resolveAlias: (alias) => directory.resolve(alias),
    blocksInvites: (user) => blocksInvites(database, user),
    encrypted: config.rooms.encrypt,
    joined: (user, room) => carrySettings(user, room, { accountData, pushRules, queries: rooms.queries }),
    notifications,
    limit,
  });
  const summaries = new RoomSummaries({ database, serverName, writer: rooms.writer, remote: remoteSpaces });
  const hierarchy = new SpaceHierarchy({ database, summaries, remote: remoteSpaces });
  const directory = new Directory({
    ...{ database, clock, serverName, rooms, summaries, remote: remoteDirectory },
    remoteLists: remoteDirectory,
  });
  profiles.onChange(rooms);
  const ephemeral = { database, clock, notifier, outbox: edus, log };
  const accountData = new AccountData({ database, notifier, recipients });
  const receipts = new Receipts({ ...ephemeral, accountData, notifications });
  const typing = new Typing(ephemeral);
  const presence = new Presence({
    ...{ ...ephemeral, serverName, enabled: config.presence.enabled },
    localUserExists: (user) => accounts.localUserExists(user),
  });
  const toDevice = new ToDevice({
    ...{ database, clock, random, notifier, serverName, outbox: toDeviceOutbox, log },
  });
  const sync = new Sync({
    ...{ reader: database, clock, notifier, filters, presence, toDevice, turn: options.turn },
  });
  const localKeys = new LocalKeys({ database, lists, notifier });
  const keys = new Keys({ ...{ reader: database, clock, serverName }, local: localKeys, remote: remoteKeys });
  const messages = new Messages({ reader: database, clock, remote: remoteHistory });
  const peeks = new Peeks({ reader: database, notifier, messages, directory, queries: rooms.queries });
  const keyBackups = new KeyBackups({ database, log });
  const reports = new Reports({
    ...{ database, clock, serverName, messages, limit },
    localUserExists: (user) => accounts.localUserExists(user),
  });
  return {
    serverName,
    accounts,
    devices: new Devices({ database, pipes, lists }),
    deviceLists: lists,
    localKeys,
    keys,
    crossSigning: new CrossSigning({ database, keys, lists }),
    delayedEvents: new DelayedEvents({
      ...{ database, clock, random, limit, log, sending: rooms.sending },
    }),
    deactivation: new Deactivation({
      ...{ database, clock, pipes, lists, log },
      ended: () => void keyBackups.sweep(),
      leave: (user, room) => rooms.memberships.leave(user, room),
    }),
    moderation: new Moderation({ database, serverName }),
    openId: new OpenId({ database, clock, random }),
    profiles,
    remoteProfiles: remoteDirectory,
    accountData,
    pushRules,
    notifications,
    notificationList: new NotificationList({ reader: database, clock }),
    pushers,
    pushSender,
    receipts,
    typing,
    presence,
    toDevice,
    filters,
    rooms,
    directory,
    summaries,
    hierarchy,
    reports,
    userDirectory: new UserDirectory({ reader: database, serverName, turn: options.turn }),
    voip: new Voip(config.voip, clock),
    search: new Search({ reader: database, messages, queries: rooms.queries }),
    relations: new Relations({ reader: database, messages }),
    keyBackups,
    peeks,
    sync,
    messages,
    notifier,
  };
}

function pushGateway({ pushGateway: given, https, clock, work, config }: HomeserverOptions): PushGateway {
  if (given !== undefined) return given;
  if (!https) return NO_GATEWAY;
  return new HttpPushGateway({ clock, work, inside: new Set(config.push.inside_gateways) });
}
