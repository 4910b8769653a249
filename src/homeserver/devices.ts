import { notFound } from '../matrix/error.ts';
import type { DeviceId, UserId } from '../matrix/ids.ts';
import type { Database } from '../storage/database.ts';
import { deleteDevice, findDevice, listDevices, renameDevice } from '../storage/devices.ts';

export interface Device {
  readonly device: DeviceId;
  readonly displayName: string | null;
}

/** The devices of a user, as the user manages them (client-server API, "Device management"). */
export class Devices {
  readonly #database: Database;

  constructor({ database }: { readonly database: Database }) {
    this.#database = database;
  }

  list(user: UserId): Promise<readonly Device[]> {
    return listDevices(this.#database, user);
  }

  /** @throws MatrixError M_NOT_FOUND */
  async get(user: UserId, device: DeviceId): Promise<Device> {
    const row = await findDevice(this.#database, user, device);
    if (row === undefined) throw unknownDevice();
    return row;
  }

  /** @throws MatrixError M_NOT_FOUND */
  async rename(user: UserId, device: DeviceId, displayName: string): Promise<void> {
    const renamed = await this.#database.transaction((tx) => renameDevice(tx, user, device, displayName));
    if (!renamed) throw unknownDevice();
  }

  /** Deletes those of them that are there, and logs them out. */
  async delete(user: UserId, devices: readonly DeviceId[]): Promise<void> {
    await this.#database.transaction(async (tx) => {
      for (const device of devices) await deleteDevice(tx, user, device);
    });
  }
}

const unknownDevice = () => notFound('You have no such device.');
