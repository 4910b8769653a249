import { beforeEach, expect, test } from 'vitest';
import { DeviceLists } from '../../../src/homeserver/keys/device_lists.ts';
import { LocalKeys } from '../../../src/homeserver/keys/local_keys.ts';
import { type Once, UNRECOGNISED } from '../../../src/homeserver/once.ts';
import type { ClaimedKeys } from '../../../src/homeserver/ports.ts';
import type { DeviceId, UserId } from '../../../src/matrix/ids.ts';
import { insertAccount } from '../../../src/storage/accounts.ts';
import { addDevice } from '../../../src/storage/devices.ts';
import type { SqliteDatabase } from '../../../src/storage/sqlite.ts';
import { temporaryDatabase } from '../../storage/temporary_database.ts';

const ALICE = '@alice:a.example' as UserId;
const PHONE = 'PHONE' as DeviceId;

let database: SqliteDatabase;
let keys: LocalKeys;
/** Positions that long polls were woken with. */
let positions: number[];

beforeEach(async () => {
  database = temporaryDatabase();
  positions = [];
  const notifier = { published: (position: number) => void positions.push(position) };
  keys = new LocalKeys({ database, lists: new DeviceLists(), notifier });
  await database.transaction((tx) => insertAccount(tx, { user: ALICE, passwordHash: null }, 0));
  await device(PHONE);
});

const device = (id: DeviceId): Promise<void> =>
  database.transaction((tx) => addDevice(tx, ALICE, { device: id, displayName: null }, 0));

const upload = (names: readonly string[], id = PHONE) =>
  keys.upload(
    { user: ALICE, device: id },
    { oneTimeKeys: Object.fromEntries(names.map((name) => [`x:${name}`, `key ${name}`])) },
  );

const claim = (devices: readonly DeviceId[], once = UNRECOGNISED): Promise<ClaimedKeys> =>
  keys.claim(new Map([[ALICE, new Map(devices.map((id) => [id, 'x']))]]), once);

test('many keys are given away in several transactions, each with its outcome', async () => {
  const devices = Array.from({ length: 201 }, (_, i) => `D${i}` as DeviceId);
  for (const id of devices) {
    await device(id);
    await upload(['A'], id);
  }
  const steps: string[] = [];
  const once: Once = {
    ...UNRECOGNISED,
    step: (name, run) => {
      steps.push(name);
      return run(async () => undefined);
    },
  };
  const given = await claim(devices, once);
  expect(steps).toEqual(['keys 0', 'keys 200']);
  expect([...given.get(ALICE)!]).toEqual(devices.map((id) => [id, { 'x:A': 'key A' }]));
  expect(positions).toHaveLength(201);
  expect([...positions].sort((a, b) => a - b)).toEqual(positions);
  expect(await claim(devices)).toEqual(new Map());
});

test('of the keys that were given away the last thousand are remembered, and no more', async () => {
  const names = Array.from({ length: 1_005 }, (_, i) => String(i));
  for (const name of names) {
    await upload([name]);
    await claim([PHONE]);
  }
  expect(await database.all('SELECT id FROM one_time_keys')).toHaveLength(1_000);
  expect(await upload(names.slice(5))).toEqual({ signed_curve25519: 0 });
  expect(await upload(['0'])).toEqual({ signed_curve25519: 0, x: 1 });
});

test('another key under the id of one that was given away is a new one', async () => {
  await upload(['A', 'B']);
  await claim([PHONE]);
  const other = { oneTimeKeys: { 'x:A': 'another key' } };
  expect(await keys.upload({ user: ALICE, device: PHONE }, other)).toMatchObject({ x: 2 });
  expect((await claim([PHONE])).get(ALICE)!.get(PHONE)).toEqual({ 'x:B': 'key B' });
  expect((await claim([PHONE])).get(ALICE)!.get(PHONE)).toEqual({ 'x:A': 'another key' });
});

test('an upload that is refused leaves nothing behind', async () => {
  await upload(['A']);
  const body = { oneTimeKeys: { 'x:B': 'key B', 'x:A': 'another key' } };
  await expect(keys.upload({ user: ALICE, device: PHONE }, body)).rejects.toMatchObject({
    ...{ status: 400, errcode: 'M_UNKNOWN', message: 'One time key x:A already exists.' },
  });
  expect(await upload([])).toEqual({ signed_curve25519: 0, x: 1 });
});
