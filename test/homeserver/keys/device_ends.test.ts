import { beforeEach, describe, expect, test } from 'vitest';
import type { Accounts } from '../../../src/homeserver/accounts.ts';
import { Deactivation } from '../../../src/homeserver/deactivation.ts';
import { Devices } from '../../../src/homeserver/devices.ts';
import { CrossSigning } from '../../../src/homeserver/keys/cross_signing.ts';
import { DeviceLists } from '../../../src/homeserver/keys/device_lists.ts';
import { Keys } from '../../../src/homeserver/keys/keys.ts';
import { LocalKeys } from '../../../src/homeserver/keys/local_keys.ts';
import type { DeviceListOutbox } from '../../../src/homeserver/ports.ts';
import type { DeviceId, ServerName, UserId } from '../../../src/matrix/ids.ts';
import type { SqliteDatabase } from '../../../src/storage/sqlite.ts';
import { accountService } from '../account_service.ts';
import { CrossSigner, DeviceOwner } from './key_owner.ts';

const A = 'a.example' as ServerName;
const [PHONE, TABLET, PLAIN] = ['PHONE', 'TABLET', 'PLAIN'] as DeviceId[];

let accounts: Accounts;
let database: SqliteDatabase;
let lists: DeviceLists;
let local: LocalKeys;
let devices: Devices;
let crossSigning: CrossSigning;
let deactivation: Deactivation;
let alice: UserId;
/** What other servers are to be told: devices by id, and 'signing keys'. */
let told: string[];
const positions = new Set<number>();
/** Whom long polls were woken for. */
let woken: UserId[];

const outbox: DeviceListOutbox = {
  enqueueDeviceUpdate: async (_tx, user, device, streamId) => {
    expect(user).toBe(alice);
    expect(positions.has(streamId)).toBe(false);
    positions.add(streamId);
    told.push(device);
  },
  enqueueSigningKeys: async () => void told.push('signing keys'),
};

beforeEach(async () => {
  told = [];
  woken = [];
  positions.clear();
  const notifier = {
    published: (_position: number, _rooms: unknown, users: Iterable<UserId>) => void woken.push(...users),
  };
  lists = new DeviceLists({ notifier, outbox });
  const service = accountService({ lists });
  ({ accounts, database } = service);
  const { clock } = service;
  local = new LocalKeys({ database, lists, notifier });
  const keys = new Keys({ reader: database, clock, serverName: A, local });
  crossSigning = new CrossSigning({ database, keys, lists });
  devices = new Devices({ database, lists });
  deactivation = new Deactivation({
    ...{ database, clock, lists, leave: async () => undefined, log: { warn: () => undefined } },
  });
  alice = await accounts.create('alice', 'a password that is long');
  for (const [i, device] of [PHONE!, TABLET!, PLAIN!].entries()) {
    await accounts.loginAs(alice, { deviceId: device });
    if (device === PLAIN) continue;
    const owner = new DeviceOwner({ id: alice, device }, i * 10);
    await local.upload(
      { user: alice, device },
      {
        deviceKeys: owner.identityKeys(),
        oneTimeKeys: owner.oneTimeKeys('A', 'B'),
        fallbackKeys: owner.oneTimeKeys('F'),
      },
    );
  }
  expect(told).toEqual([PHONE, TABLET]);
  told = [];
  woken = [];
});

const requester = () => ({ user: alice, device: PHONE! });

/** How many rows of keys there are, by table. */
async function rows(): Promise<Record<string, number>> {
  const tables = ['identity_keys', 'one_time_keys', 'fallback_keys', 'key_signatures', 'cross_signing_keys'];
  const counts = await Promise.all(
    tables.map(async (table) => [table, (await database.all(`SELECT * FROM ${table}`)).length] as const),
  );
  return Object.fromEntries(counts.filter(([, count]) => count > 0));
}

const ONE_DEVICE = { identity_keys: 1, one_time_keys: 2, fallback_keys: 1 };

describe('keys go with their device, and others are told', () => {
  test('that is deleted', async () => {
    await devices.delete(requester(), [TABLET!, TABLET!, PLAIN!, 'NONE' as DeviceId]);
    expect(told).toEqual([TABLET]);
    expect(woken).toEqual([alice]);
    expect(await rows()).toEqual(ONE_DEVICE);
  });

  test('that logs out', async () => {
    await accounts.sessions.logout(requester());
    expect(told).toEqual([PHONE]);
    expect(await rows()).toEqual(ONE_DEVICE);
  });

  test('that is logged out with all others', async () => {
    await accounts.sessions.logoutAll(requester());
    expect([...told].sort()).toEqual([PHONE, TABLET]);
    expect(woken).toEqual([alice]);
    expect(await rows()).toEqual({});
  });

  test('that is logged out by a new password', async () => {
    await accounts.setPassword(requester(), 'another long password', 'others');
    expect(told).toEqual([TABLET]);
    expect(await rows()).toEqual(ONE_DEVICE);
  });

  test('whose account ends, and the cross-signing keys too', async () => {
    const signer = new CrossSigner(alice, 100);
    const { master_key: master, self_signing_key: self } = signer.body();
    const { upload, isProofNeeded } = await crossSigning.parse(alice, {
      master: master as never,
      self_signing: self as never,
    });
    expect(isProofNeeded).toBe(false);
    await crossSigning.upload(alice, upload, false);
    const phone = new DeviceOwner({ id: alice, device: PHONE! }, 0).identityKeys();
    const signed = signer.pairs.self_signing.sign(phone, alice);
    expect(await crossSigning.addSignatures(requester(), { [alice]: { [PHONE!]: signed } })).toEqual({});
    expect(told).toEqual(['signing keys', PHONE]);
    told = [];
    await deactivation.deactivate(requester(), false);
    await deactivation.stop();
    expect([...told].sort()).toEqual([PHONE, TABLET, 'signing keys']);
    expect(await rows()).toEqual({});
  });
});

describe('others are told', () => {
  test('of a new name of a device with keys, once', async () => {
    for (const device of [PHONE!, PLAIN!]) await devices.rename(alice, device, 'My device');
    await devices.rename(alice, PHONE!, 'My device');
    expect(told).toEqual([PHONE]);
  });

  test('of nothing where a device uploads once more what it has, or one-time keys', async () => {
    const owner = new DeviceOwner({ id: alice, device: PHONE! }, 0);
    await local.upload(requester(), {
      deviceKeys: owner.identityKeys(),
      oneTimeKeys: owner.oneTimeKeys('A', 'C'),
    });
    expect([told, woken]).toEqual([[], []]);
  });

  test('of nothing where a login takes the place of another on the same device, which keeps its keys', async () => {
    await accounts.loginAs(alice, { deviceId: PHONE! });
    expect(told).toEqual([]);
    expect(await rows()).toMatchObject({ identity_keys: 2 });
  });

  test('of the user’s own signing key only the user', async () => {
    const signer = new CrossSigner(alice, 100);
    const first = await crossSigning.parse(alice, { master: signer.key('master') });
    await crossSigning.upload(alice, first.upload, false);
    [told, woken] = [[], []];
    const second = await crossSigning.parse(alice, { user_signing: signer.key('user_signing') });
    expect(second.isProofNeeded).toBe(true);
    await expect(crossSigning.upload(alice, second.upload, false)).rejects.toMatchObject({
      errcode: 'M_FORBIDDEN',
    });
    await crossSigning.upload(alice, second.upload, true);
    expect([told, woken]).toEqual([[], [alice]]);
  });
});

test('signatures of a device go where what they sign is another, and stay where it is the same', async () => {
  const signer = new CrossSigner(alice, 100);
  const { upload } = await crossSigning.parse(alice, {
    ...{ master: signer.key('master'), self_signing: signer.key('self_signing') },
  });
  await crossSigning.upload(alice, upload, false);
  const owner = new DeviceOwner({ id: alice, device: PHONE! }, 0);
  const keys = owner.identityKeys();
  const sign = { [alice]: { [PHONE!]: signer.pairs.self_signing.sign(keys, alice) } };
  await crossSigning.addSignatures(requester(), sign);
  const signatures = async (): Promise<string[]> => {
    const found = (await local.query(new Map([[alice, [PHONE!]]]))).get(alice)?.devices.get(PHONE!);
    return Object.keys((found!.signatures as Record<string, object>)[alice]!);
  };
  const both = [`ed25519:${PHONE}`, `ed25519:${signer.pairs.self_signing.publicKey}`].sort();
  expect((await signatures()).sort()).toEqual(both);
  await local.upload(requester(), { deviceKeys: keys });
  expect((await signatures()).sort()).toEqual(both);
  const { signatures: _, ...content } = keys;
  const others = owner.pair.sign({ ...content, algorithms: ['other'] }, alice, PHONE!);
  await local.upload(requester(), { deviceKeys: others });
  expect(await signatures()).toEqual([`ed25519:${PHONE}`]);
});

test('a device that is logged out uploads nothing any more', async () => {
  await accounts.sessions.logout(requester());
  await expect(local.upload(requester(), {})).rejects.toMatchObject({ errcode: 'M_UNKNOWN_TOKEN' });
});
