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
  RemoteKeys,
  RemoteProfiles,
  ToDeviceOutbox,
} from '../homeserver/ports.ts';
import { Presence } from '../homeserver/presence.ts';
import { Profiles } from '../homeserver/profiles.ts';
import { Receipts } from '../homeserver/receipts.ts';
import { Relations } from '../homeserver/relations.ts';
import { Reports } from '../homeserver/reports.ts';
import { RoomSummaries } from '../homeserver/room_summaries.ts';
import { Rooms } from '../homeserver/rooms/rooms.ts';
import { Search } from '../homeserver/search.ts';
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

/** What the services for local users need of the side that speaks with other servers and devices. */
interface FederationPorts {
  readonly devicePipes: DevicePipesOfLinks;
  readonly remoteRooms: FederationRemoteRooms;
  readonly remoteDirectory: RemoteDirectory & RemoteProfiles;
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
    sender,
    edus,
  }: FederationPorts,
) {
  const { config, clock, random, work, database, passwordCost } = options;
  const { mode, terms } = config.registration;
  const notifier = new Notifier({ clock });
  const lists = new DeviceLists({ notifier, outbox: deviceListOutbox });
  const accounts = new Accounts({
    ...{ database, clock, random, work, serverName, passwordCost, pipes, lists },
    registration: { mode, terms },
  });
  const profiles = new Profiles({ database, clock });
  const filters = new Filters({ database });
  const limit = config.limits === null ? unlimited : userLimits(clock, config.limits);
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
    joined: (user, room) => carrySettings(user, room, { accountData, queries: rooms.queries }),
    limit,
  });
  const summaries = new RoomSummaries({ database, serverName, writer: rooms.writer });
  const directory = new Directory({
    ...{ database, clock, serverName, rooms, summaries, remote: remoteDirectory },
  });
  profiles.onChange(rooms);
  const ephemeral = { database, clock, notifier, outbox: edus };
  const accountData = new AccountData({ database, notifier });
  const receipts = new Receipts({ ...ephemeral, accountData });
  const typing = new Typing(ephemeral);
  const presence = new Presence({
    ...{ ...ephemeral, serverName, enabled: config.presence.enabled },
    localUserExists: (user) => accounts.localUserExists(user),
  });
  const toDevice = new ToDevice({
    ...{ database, clock, random, notifier, serverName, outbox: toDeviceOutbox, log: options.log },
  });
  const sync = new Sync({
    ...{ reader: database, clock, notifier, filters, presence, toDevice, turn: options.turn },
  });
  const localKeys = new LocalKeys({ database, lists, notifier });
  const keys = new Keys({ ...{ reader: database, clock, serverName }, local: localKeys, remote: remoteKeys });
  const messages = new Messages({ reader: database, clock });
  const peeks = new Peeks({ reader: database, notifier, messages, directory, queries: rooms.queries });
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
      ...{ database, clock, random, limit, log: options.log, sending: rooms.sending },
    }),
    deactivation: new Deactivation({
      ...{ database, clock, pipes, lists, log: options.log },
      leave: (user, room) => rooms.memberships.leave(user, room),
    }),
    moderation: new Moderation({ database, serverName }),
    openId: new OpenId({ database, clock, random }),
    profiles,
    remoteProfiles: remoteDirectory,
    accountData,
    receipts,
    typing,
    presence,
    toDevice,
    filters,
    rooms,
    directory,
    summaries,
    reports,
    userDirectory: new UserDirectory({ reader: database, serverName, turn: options.turn }),
    voip: new Voip(config.voip, clock),
    search: new Search({ reader: database, messages, queries: rooms.queries }),
    relations: new Relations({ reader: database, messages }),
    peeks,
    sync,
    messages,
    notifier,
  };
}
