import type { Clock, Millis } from '../../base/time.ts';
import { keysOfUser } from '../../homeserver/keys/local_keys.ts';
import type { DeviceListOutbox, ToDeviceOutbox, ToDeviceToTell } from '../../homeserver/ports.ts';
import type { DeviceId, ServerName, UserId } from '../../matrix/ids.ts';
import { type JsonObject, parseJson } from '../../matrix/json.ts';
import type { Reader, Transaction } from '../../storage/database.ts';
import { joinedServers, roomsOf } from '../../storage/memberships.ts';
import {
  askers,
  dequeueDeviceUpdates,
  deviceListDestinations,
  dropDeviceUpdates,
  enqueueDeviceUpdate,
  extendDeviceChain,
  type QueuedDeviceUpdate,
  queuedDeviceUpdates,
} from '../../storage/outbox_device_lists.ts';
import {
  dequeueToDevice,
  enqueueToDevice,
  hasToDeviceBehind,
  queuedToDevice,
  toDeviceDestinations,
} from '../../storage/outbox_to_device.ts';
import { deviceUpdateEdu } from './device_lists.ts';
import { toDeviceContents, toDeviceEdu } from './to_device.ts';

// Ours.
/** Bytes of messages to devices that one transaction carries. */
const MAX_TO_DEVICE_BYTES = 256 * 1024;
/** Rows of which the newest are sought. */
const MAX_LOOKED_AT = 500;
/** Device updates of one transaction. */
const MAX_UPDATES = 50;
/** Transactions of nothing but messages to devices that go before events which they may be about. */
const MAX_AHEAD = 20;

/** What one transaction tells of what must arrive. */
export interface DurableBatch {
  readonly edus: readonly JsonObject[];
  /** Rows of the messages to devices among them. */
  readonly toDevice: readonly number[];
  /** Rows of the device updates among them. */
  readonly updates: readonly number[];
  /** Whether more messages to devices wait, that should be gone before events are. */
  readonly isCut: boolean;
}

interface DurableEdusOptions {
  readonly serverName: ServerName;
  readonly clock: Clock;
  /** Told, after the commit, that there are messages to devices for a destination. */
  readonly urgent: (destination: ServerName) => void;
  /** Told, after the commit, that there are device updates for a destination. */
  readonly later: (destination: ServerName) => void;
}

/**
 * What other servers must be told of besides events: messages to devices, in their order, and which devices and signing keys
 * local users have. Rows in the database, written with what causes them, are there until their destination has answered 200.
 * What holds of a device is read when it is told, so that of several changes of one the newest is told alone.
 */
export class DurableEdus implements DeviceListOutbox, ToDeviceOutbox {
  readonly #options: DurableEdusOptions;
  /** Destinations that have refused several at once: those go one by one, until it is known which. */
  readonly #oneByOne = new Set<ServerName>();
  /** How many transactions have gone before events. */
  readonly #ahead = new Map<ServerName, number>();

  constructor(options: DurableEdusOptions) {
    this.#options = options;
  }

  /** Every destination that something waits for. */
  async destinations(reader: Reader): Promise<readonly ServerName[]> {
    return [...(await toDeviceDestinations(reader)), ...(await deviceListDestinations(reader))];
  }

  async enqueueToDevice(tx: Transaction, destination: ServerName, message: ToDeviceToTell): Promise<void> {
    for (const content of toDeviceContents(message))
      await enqueueToDevice(tx, destination, JSON.stringify(content));
    tx.afterCommit(() => this.#options.urgent(destination));
  }

  async enqueueDeviceUpdate(
    tx: Transaction,
    user: UserId,
    device: DeviceId,
    streamId: number,
  ): Promise<void> {
    const prevId = await extendDeviceChain(tx, user, streamId);
    await this.#enqueue(tx, { user, device, streamId, prevId });
  }

  enqueueSigningKeys(tx: Transaction, user: UserId): Promise<void> {
    return this.#enqueue(tx, { user, device: undefined, streamId: 0, prevId: undefined });
  }

  /** How long the oldest device update waits for a destination; undefined: none does. */
  async waitedMs(reader: Reader, destination: ServerName): Promise<Millis | undefined> {
    const [oldest] = await queuedDeviceUpdates(reader, destination, 1);
    return oldest && this.#options.clock.wall() - oldest.queued;
  }

  /**
   * What the next transaction tells; undefined where that is nothing. Nothing is under way to the destination.
   * @param room.edus how many there may be. `events`: whether the transaction would have some. `updates`: whether device
   *   updates may go
   */
  async next(
    tx: Transaction,
    destination: ServerName,
    room: { readonly edus: number; readonly events: boolean; readonly updates: boolean },
  ): Promise<DurableBatch | undefined> {
    const isSingle = this.#oneByOne.has(destination);
    const limit = isSingle ? 1 : room.edus;
    const messages = await queuedToDevice(tx, destination, { limit, maxBytes: MAX_TO_DEVICE_BYTES });
    const left = Math.min(MAX_UPDATES, limit - messages.length);
    const updates = room.updates && left > 0 ? await this.#updates(tx, destination, left) : [];
    const edus = messages.map(({ json }) => toDeviceEdu(parseJson(json) as JsonObject));
    for (const update of updates) {
      const devices = update.device === undefined ? [] : [update.device];
      edus.push(deviceUpdateEdu(update, await keysOfUser(tx, update.user, { viewer: undefined, devices })));
    }
    if (edus.length === 0) {
      this.#oneByOne.delete(destination);
      return undefined;
    }
    return {
      edus,
      toDevice: messages.map(({ position }) => position),
      updates: updates.map(({ position }) => position),
      isCut: room.events && (await this.#isCut(tx, destination, messages.at(-1)?.position)),
    };
  }

  /** The destination has taken it. */
  async delivered(tx: Transaction, { toDevice, updates }: DurableBatch): Promise<void> {
    await dequeueToDevice(tx, toDevice);
    await dequeueDeviceUpdates(tx, updates);
  }

  /**
   * The destination has refused a transaction of nothing but this, and takes others.
   * @returns whether it is to be given up: it was one EDU alone
   */
  refused(destination: ServerName, { edus }: DurableBatch): boolean {
    if (edus.length === 1) this.#oneByOne.delete(destination);
    else this.#oneByOne.add(destination);
    return edus.length === 1;
  }

  /** Whether what goes to a destination goes alone. */
  isOneByOne(destination: ServerName): boolean {
    return this.#oneByOne.has(destination);
  }

  async #enqueue(
    tx: Transaction,
    update: Pick<QueuedDeviceUpdate, 'user' | 'device' | 'streamId' | 'prevId'>,
  ): Promise<void> {
    const { serverName, clock, later } = this.#options;
    const destinations = new Set<ServerName>();
    for (const room of await roomsOf(tx, update.user, 'join'))
      for (const server of await joinedServers(tx, room)) destinations.add(server);
    for (const server of await askers(tx, update.user, clock.wall())) destinations.add(server);
    destinations.delete(serverName);
    await enqueueDeviceUpdate(tx, { ...update, queued: clock.wall() }, destinations);
    tx.afterCommit(() => {
      for (const destination of destinations) later(destination);
    });
  }

  /** The oldest updates, without those that newer ones have taken the place of; such rows go. */
  async #updates(
    tx: Transaction,
    destination: ServerName,
    limit: number,
  ): Promise<readonly QueuedDeviceUpdate[]> {
    const rows = await queuedDeviceUpdates(tx, destination, MAX_LOOKED_AT);
    const newest = new Map(rows.map((row) => [`${row.user} ${row.device ?? ''}`, row.position]));
    const old = rows.filter((row) => newest.get(`${row.user} ${row.device ?? ''}`) !== row.position);
    if (old.length === 0) return rows.slice(0, limit);
    await dropDeviceUpdates(tx, destination, old);
    return queuedDeviceUpdates(tx, destination, limit);
  }

  /** Whether messages wait behind those that go, for whom events are to wait as well; not for ever. */
  async #isCut(tx: Transaction, destination: ServerName, last: number | undefined): Promise<boolean> {
    const more = last !== undefined && (await hasToDeviceBehind(tx, destination, last));
    const rounds = this.#ahead.get(destination) ?? 0;
    if (!more || rounds >= MAX_AHEAD) {
      this.#ahead.delete(destination);
      return false;
    }
    this.#ahead.set(destination, rounds + 1);
    return true;
  }
}
