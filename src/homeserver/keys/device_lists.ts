import type { DeviceId, UserId } from '../../matrix/ids.ts';
import type { Transaction } from '../../storage/database.ts';
import { putDeviceListChange, putPrivateChange } from '../../storage/device_lists.ts';
import { roomsOf } from '../../storage/memberships.ts';
import type { Notifier } from '../notifier.ts';
import type { DeviceListOutbox } from '../ports.ts';

export interface DeviceListsOptions {
  /** Left out, as where another process does it: nobody is woken. */
  readonly notifier?: Pick<Notifier, 'published'> | undefined;
  /** Left out: no other server is told. */
  readonly outbox?: DeviceListOutbox | undefined;
}

/**
 * Whose devices and cross-signing keys change when. Each change has a position in the delivery stream; who is told of it in
 * /sync is seen when that is read, by who shares a room with whom (device_list_changes.ts).
 */
export class DeviceLists {
  readonly #notifier: Pick<Notifier, 'published'> | undefined;
  readonly #outbox: DeviceListOutbox | undefined;

  constructor({ notifier, outbox }: DeviceListsOptions = {}) {
    this.#notifier = notifier;
    this.#outbox = outbox;
  }

  /**
   * The keys of a user, of whatever server, are others than before, or may be: their clients and those of everybody who shares
   * a room with them ask again. @returns the position in the stream, which no other change has
   */
  async changed(tx: Transaction, user: UserId): Promise<number> {
    const position = await putDeviceListChange(tx, user);
    await this.#publish(tx, user, position);
    return position;
  }

  /** Devices of a local user that have keys are new, have changed, or are gone. */
  async devicesChanged(tx: Transaction, user: UserId, devices: readonly DeviceId[]): Promise<void> {
    let position: number | undefined;
    for (const device of devices) {
      position = await putDeviceListChange(tx, user);
      await this.#outbox?.enqueueDeviceUpdate(tx, user, device, position);
    }
    if (position !== undefined) await this.#publish(tx, user, position);
  }

  /** A local user's master or self-signing key, or what others may see of their signatures, has changed. */
  async signingKeysChanged(tx: Transaction, user: UserId): Promise<void> {
    await this.#outbox?.enqueueSigningKeys(tx, user);
    await this.changed(tx, user);
  }

  /** The keys of a user look different to `viewer`, and to nobody else. */
  async privatelyChanged(tx: Transaction, viewer: UserId, user: UserId): Promise<void> {
    const position = await putPrivateChange(tx, viewer, user);
    tx.afterCommit(() => this.#notifier?.published(position, [], [viewer]));
  }

  async #publish(tx: Transaction, user: UserId, position: number): Promise<void> {
    const rooms = await roomsOf(tx, user, 'join');
    tx.afterCommit(() => this.#notifier?.published(position, rooms, [user]));
  }
}
