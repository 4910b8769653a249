import type { DeviceId, UserId } from '../matrix/ids.ts';
import type { Transaction } from '../storage/database.ts';
import { deviceKeys } from '../storage/device_keys.ts';
import type { DevicePipes } from './ports.ts';

/**
 * Runs a deletion of devices of the requester's account, and ends the pipes of those that are gone by it once that is on
 * the disk. @param device the one that asks; undefined: none
 */
export async function endingPipes(
  tx: Transaction,
  pipes: DevicePipes | undefined,
  { user, device }: { readonly user: UserId; readonly device?: DeviceId | undefined },
  deletion: () => Promise<void>,
): Promise<void> {
  const before = await deviceKeys(tx, user);
  await deletion();
  const left = new Set((await deviceKeys(tx, user)).map(({ key }) => key));
  const ended = before.map(({ key }) => key).filter((key) => !left.has(key));
  if (ended.length === 0) return;
  const own = before.find((row) => row.device === device)?.key;
  tx.afterCommit(() => pipes?.revoked(ended, own));
}
