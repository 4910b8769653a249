import { expect } from 'vitest';
import type { JsonObject } from '../../src/matrix/json.ts';
import { CrossSigner, DeviceOwner, keyPair, unsigned } from '../homeserver/keys/key_owner.ts';
import { type Door, doorsOf, PASSWORD, type User } from './coverage/doors.ts';

const { eachDoor } = doorsOf(import.meta.url);

const UPLOAD = '/keys/device_signing/upload';
const SIGN = '/keys/signatures/upload';
let seeds = 2_000;

/** Somebody with a device that has keys, and with cross-signing keys that are uploaded. */
async function signer(door: Door, name: string) {
  const user = await door.user(name);
  const device = new DeviceOwner(user, ++seeds);
  await user.ask('POST', '/keys/upload', { device_keys: device.identityKeys() });
  const keys = newKeys(user);
  expect(await user.ask('POST', UPLOAD, keys.body())).toMatchObject({ status: 200, body: {} });
  return { user, device, keys };
}

function newKeys({ id }: User): CrossSigner {
  seeds += 10;
  return new CrossSigner(id, seeds);
}

const query = async (asker: User, ...users: readonly User[]): Promise<Record<string, JsonObject>> => {
  const device_keys = Object.fromEntries(users.map(({ id }) => [id, []]));
  return (await asker.ask('POST', '/keys/query', { device_keys })).body as Record<string, JsonObject>;
};

const signaturesOf = (object: unknown): unknown => (object as { signatures?: unknown }).signatures;

const proof = (user: User): JsonObject => ({
  type: 'm.login.password',
  identifier: { type: 'm.id.user', user: user.localpart },
  password: PASSWORD,
});

const sync = async (user: User, since?: unknown): Promise<JsonObject> =>
  (await user.ask('GET', `/sync${since === undefined ? '' : `?since=${String(since)}`}`)).body;

eachDoor('keys are uploaded without a password only as long as they replace none', async (door) => {
  const { user: alice, keys } = await signer(door, 'alice');
  const bob = await door.user('bob');
  const own = await query(alice, alice);
  expect(own).toMatchObject({
    master_keys: { [alice.id]: keys.key('master') },
    self_signing_keys: { [alice.id]: keys.key('self_signing') },
    user_signing_keys: { [alice.id]: keys.key('user_signing') },
  });
  expect(await query(bob, alice)).toEqual({ ...own, user_signing_keys: {} });
  for (const same of [keys.body(), { master_key: keys.key('master') }, {}])
    expect(await alice.ask('POST', UPLOAD, same)).toMatchObject({ status: 200 });

  const others = newKeys(alice);
  const part = { self_signing_key: keys.pairs.master.sign(unsigned(others.key('self_signing')), alice.id) };
  for (const body of [part, others.body()]) {
    const before = await query(alice, alice);
    const asked = await alice.ask('POST', UPLOAD, body);
    expect(asked).toMatchObject({ status: 401, body: { flows: [{ stages: ['m.login.password'] }] } });
    const { session } = asked.body;
    const wrong = { ...body, auth: { ...proof(alice), session, password: 'wrong' } };
    expect(await alice.ask('POST', UPLOAD, wrong)).toMatchObject({ status: 401 });
    expect(await query(alice, alice)).toEqual(before);
    const proved = { ...body, auth: { ...proof(alice), session } };
    expect(await alice.ask('POST', UPLOAD, proved)).toMatchObject({ status: 200 });
    expect(await alice.ask('POST', UPLOAD, body)).toMatchObject({ status: 200 });
    expect((await query(alice, alice)).self_signing_keys).toEqual({ [alice.id]: body.self_signing_key });
  }
  // The old master key signs nothing any more, and what it had signed is gone with it.
  expect(await alice.ask('POST', UPLOAD, part)).toMatchObject({
    ...{ status: 400, body: { errcode: 'M_INVALID_SIGNATURE' } },
  });
  const alone = { master_key: newKeys(alice).key('master') };
  expect(await alice.ask('POST', UPLOAD, { ...alone, auth: proof(alice) })).toMatchObject({ status: 200 });
  expect(await query(alice, alice)).toMatchObject({
    ...{ master_keys: { [alice.id]: alone.master_key }, self_signing_keys: {}, user_signing_keys: {} },
  });
});

eachDoor('keys that are wrong are refused', async (door) => {
  const alice = await door.user('alice');
  const keys = newKeys(alice);
  const refused = async (body: JsonObject, status: number, errcode: string): Promise<void> =>
    expect(await alice.ask('POST', UPLOAD, body)).toMatchObject({ status, body: { errcode } });
  await refused({}, 400, 'M_MISSING_PARAM');
  await refused({ self_signing_key: keys.key('self_signing') }, 400, 'M_MISSING_PARAM');
  const master = keys.key('master');
  for (const wrong of [
    { ...master, user_id: '@bob:home.example' },
    { ...master, usage: ['self_signing'] },
    { ...master, keys: {} },
    { ...master, keys: { 'ed25519:x': 'x' } },
    { ...master, keys: { ...(master.keys as JsonObject), 'ed25519:y': 'y' } },
    { ...master, signatures: [] },
  ])
    await refused({ master_key: wrong }, 400, 'M_INVALID_PARAM');
  const forged = keyPair(++seeds).sign(unsigned(keys.key('user_signing')), alice.id);
  await refused({ ...keys.body(), user_signing_key: forged }, 400, 'M_INVALID_SIGNATURE');
  await refused(
    { ...keys.body(), self_signing_key: unsigned(keys.key('self_signing')) },
    400,
    'M_INVALID_SIGNATURE',
  );
  await refused({ master_key: { ...master, more: 'x'.repeat(20_000) } }, 413, 'M_TOO_LARGE');
  // A key whose name a device has, or a device that has the name of a key.
  const { publicKey } = keys.pairs.master;
  const device = await door.again(alice, publicKey);
  await refused(keys.body(), 403, 'M_FORBIDDEN');
  await device.ask('POST', '/logout', {});
  expect((await alice.ask('POST', UPLOAD, keys.body())).status).toBe(200);
  expect((await door.stranger().ask('POST', UPLOAD, keys.body())).status).toBe(401);
  expect((await door.stranger().ask('POST', SIGN, {})).status).toBe(401);
});

eachDoor('signatures are added, seen by those who may, and told to them', async (door) => {
  const { user: alice, device, keys } = await signer(door, 'alice');
  const { user: bob, keys: bobs } = await signer(door, 'bob');
  const { body } = await alice.ask('POST', '/createRoom', { preset: 'public_chat' });
  await bob.ask('POST', `/rooms/${encodeURIComponent(String(body.room_id))}/join`, {});
  const { next_batch: toAlice } = await sync(alice);
  const { next_batch: toBob } = await sync(bob);

  const identity = device.identityKeys();
  const master = keys.key('master');
  const bobsMaster = bobs.key('master');
  const masterId = keys.pairs.master.publicKey;
  const bobsId = bobs.pairs.master.publicKey;
  const signed = {
    [alice.id]: {
      [alice.device]: keys.pairs.self_signing.sign(identity, alice.id),
      [masterId]: device.pair.sign(master, alice.id, alice.device),
    },
    [bob.id]: { [bobsId]: keys.pairs.user_signing.sign(bobsMaster, alice.id) },
  };
  expect(await alice.ask('POST', SIGN, signed)).toMatchObject({ status: 200, body: { failures: {} } });
  const own = await query(alice, alice, bob);
  expect(own.device_keys![alice.id]).toEqual({ [alice.device]: signed[alice.id]![alice.device] });
  expect(own.master_keys).toEqual({
    [alice.id]: signed[alice.id]![masterId],
    [bob.id]: signed[bob.id]![bobsId],
  });
  const others = await query(bob, alice, bob);
  expect(others.device_keys![alice.id]).toEqual({ [alice.device]: signed[alice.id]![alice.device] });
  expect(signaturesOf(others.master_keys![alice.id])).toEqual(signaturesOf(signed[alice.id]![masterId]));
  // Whom alice has signed, nobody else gets to see.
  expect(others.master_keys![bob.id]).toEqual(bobsMaster);
  expect((await sync(alice, toAlice)).device_lists).toEqual({ changed: [alice.id, bob.id], left: [] });
  expect((await sync(bob, toBob)).device_lists).toEqual({ changed: [alice.id], left: [] });
});

eachDoor('signatures that are wrong are named, and the others stored', async (door) => {
  const { user: alice, device, keys } = await signer(door, 'alice');
  const { user: bob, keys: bobs } = await signer(door, 'bob');
  const { self_signing: self, user_signing: user } = keys.pairs;
  const bobsId = bobs.pairs.master.publicKey;
  const identity = device.identityKeys();
  const failures = async (id: string, key: string, object: JsonObject): Promise<unknown> => {
    const { status, body } = await alice.ask('POST', SIGN, { [id]: { [key]: object } });
    expect(status).toBe(200);
    return (body as { failures: Record<string, Record<string, JsonObject>> }).failures[id]?.[key]?.errcode;
  };
  const forged = self.sign(identity, alice.id);
  const stolen = { ...identity, signatures: { [alice.id]: { [`ed25519:${self.publicKey}`]: 'AAAA' } } };
  expect(await failures(alice.id, alice.device, stolen)).toBe('M_INVALID_SIGNATURE');
  expect(await failures(alice.id, alice.device, identity)).toBe('M_INVALID_SIGNATURE');
  const different = self.sign({ ...unsigned(identity), algorithms: [] }, alice.id);
  expect(await failures(alice.id, alice.device, different)).toBe('M_INVALID_PARAM');
  expect(await failures(alice.id, 'NONE', forged)).toBe('M_NOT_FOUND');
  expect(await failures(bob.id, bob.device, forged)).toBe('M_NOT_FOUND');
  const byMaster = keys.pairs.master.sign(bobs.key('master'), alice.id);
  expect(await failures(bob.id, bobsId, byMaster)).toBe('M_INVALID_SIGNATURE');
  expect(await failures('@nobody:home.example', 'x', forged)).toBe('M_NOT_FOUND');
  // The good one of two is stored.
  const good = user.sign(bobs.key('master'), alice.id);
  expect(
    (await alice.ask('POST', SIGN, { [alice.id]: { NONE: forged }, [bob.id]: { [bobsId]: good } })).body,
  ).toMatchObject({ failures: { [alice.id]: { NONE: { errcode: 'M_NOT_FOUND' } } } });
  expect((await query(alice, bob)).master_keys).toEqual({ [bob.id]: good });
  // A stranger's signature in what somebody uploads is shown to nobody.
  expect(await alice.ask('POST', SIGN, { [alice.id]: 'x' })).toMatchObject({ status: 400 });
});
