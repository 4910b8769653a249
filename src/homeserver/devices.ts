import type { Millis } from '../base/time.ts';
import { notFound } from '../matrix/error.ts';
import type { DeviceId, UserId } from '../matrix/ids.ts';
import type { Database } from '../storage/database.ts';
import { deviceKeys } from '../storage/device_keys.ts';
import { type DeviceRow, findDevice, listDevices, renameDevice } from '../storage/devices.ts';
import { identityKeys } from '../storage/end_to_end_keys.ts';
import type { Requester } from './accounts.ts';
import { deleteDevices } from './device_data.ts';
import { endingPipes } from './device_logout.ts';
import { DeviceLists } from './keys/device_lists.ts';
import { type Done, notNoted } from './once.ts';
import type { DevicePipes } from './ports.ts';

export interface Device {
  readonly device: DeviceId;
  readonly displayName: string | null;
  /** When it called last, Unix time in milliseconds: some minutes ago at the most, or on that day. */
  readonly lastSeen?: Millis | undefined;
  readonly lastSeenIp: string | null;
}

/** The devices of a user, as the user manages them (client-server API, "Device management"). */
export class Devices {
  readonly #database: Database;
  readonly #pipes: DevicePipes | undefined;
  readonly #lists: DeviceLists;

  constructor({
    database,
    pipes,
    lists = new DeviceLists(),
  }: {
    readonly database: Database;
    readonly pipes?: DevicePipes | undefined;
    readonly lists?: DeviceLists | undefined;
  }) {
    this.#database = database;
    this.#pipes = pipes;
    this.#lists = lists;
  }

  async list(user: UserId): Promise<readonly Device[]> {
    const lastSeen = await this.#lastSeen(user);
    const rows = await listDevices(this.#database, user);
    return rows.map((row) => seenDevice(row, lastSeen.get(row.device)));
  }

  /** @throws MatrixError M_NOT_FOUND */
  async get(user: UserId, device: DeviceId): Promise<Device> {
    const row = await findDevice(this.#database, user, device);
    if (row === undefined) throw unknownDevice();
    return seenDevice(row, (await this.#lastSeen(user)).get(device));
  }

  /** @throws MatrixError M_NOT_FOUND */
  async rename(
    user: UserId,
    device: DeviceId,
    displayName: string,
    done: Done<void> = notNoted,
  ): Promise<void> {
    await this.#database.transaction(async (tx) => {
      const before = await findDevice(tx, user, device);
      if (before === undefined) throw unknownDevice();
      await renameDevice(tx, user, device, displayName);
      // Others get to see the name with the keys.
      if (before.displayName !== displayName && (await identityKeys(tx, user, device)) !== undefined)
        await this.#lists.devicesChanged(tx, user, [device]);
      await done(tx);
    });
  }

  /** Deletes those of the requester's devices that are there, and logs them out. */
  async delete(
    requester: Requester,
    devices: readonly DeviceId[],
    done: Done<void> = notNoted,
  ): Promise<void> {
    await this.#database.transaction(async (tx) => {
      await endingPipes(tx, this.#pipes, requester, () =>
        deleteDevices(tx, requester.user, [...new Set(devices)], this.#lists),
      );
      await done(tx);
    });
  }

  async #lastSeen(user: UserId): Promise<ReadonlyMap<DeviceId, Millis>> {
    const keys = await deviceKeys(this.#database, user);
    return new Map(keys.map(({ device, lastSeen }) => [device, lastSeen]));
  }
}

function seenDevice(
  { device, displayName, lastSeen, lastSeenIp }: DeviceRow,
  keySeen: Millis | undefined,
): Device {
  const latest = Math.max(lastSeen ?? 0, keySeen ?? 0);
  return { device, displayName, lastSeen: latest === 0 ? undefined : latest, lastSeenIp };
}

const unknownDevice = () => notFound('You have no such device.');
