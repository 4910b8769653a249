import type { DeviceId, UserId } from '../matrix/ids.ts';
import { dropDeviceSignatures } from '../storage/cross_signing.ts';
import type { Transaction } from '../storage/database.ts';
import { deleteDevice, listDevices } from '../storage/devices.ts';
import { identityKeys } from '../storage/end_to_end_keys.ts';
import type { DeviceLists } from './keys/device_lists.ts';

/** What ends with a device and is not deleted with its row. */
const DEVICE_DATA: readonly ((tx: Transaction, user: UserId, device: DeviceId) => Promise<void>)[] = [
  dropDeviceSignatures,
];

/** Deletes devices of a user with everything that they have, and tells who knows of their keys. */
export async function deleteDevices(
  tx: Transaction,
  user: UserId,
  devices: readonly DeviceId[],
  lists: DeviceLists,
): Promise<void> {
  const withKeys: DeviceId[] = [];
  for (const device of devices) {
    if ((await identityKeys(tx, user, device)) !== undefined) withKeys.push(device);
    for (const deleteData of DEVICE_DATA) await deleteData(tx, user, device);
    await deleteDevice(tx, user, device);
  }
  await lists.devicesChanged(tx, user, withKeys);
}

/** The same of all devices of a user; `except` stays. */
export async function deleteAllDevices(
  tx: Transaction,
  user: UserId,
  lists: DeviceLists,
  except?: DeviceId,
): Promise<void> {
  const devices = (await listDevices(tx, user)).map(({ device }) => device);
  await deleteDevices(
    tx,
    user,
    devices.filter((device) => device !== except),
    lists,
  );
}
