import { expect } from 'vitest';
import type { JsonObject } from '../../src/matrix/json.ts';
import { DeviceOwner } from '../homeserver/keys/key_owner.ts';
import { type Door, doorsOf, PASSWORD, type User } from './coverage/doors.ts';

const { eachDoor } = doorsOf(import.meta.url);

let seeds = 1_000;

/** Somebody with a device that has keys. */
async function encrypted(door: Door, name?: string): Promise<{ user: User; keys: DeviceOwner }> {
  const user = await door.user(name);
  const keys = await upload(user);
  return { user, keys };
}

async function upload(user: User): Promise<DeviceOwner> {
  const keys = new DeviceOwner(user, ++seeds);
  const uploaded = await user.ask('POST', '/keys/upload', { device_keys: keys.identityKeys() });
  expect(uploaded).toMatchObject({ status: 200, body: { one_time_key_counts: { signed_curve25519: 0 } } });
  return keys;
}

const query = async (asker: User, ...users: readonly User[]): Promise<JsonObject> => {
  const device_keys = Object.fromEntries(users.map(({ id }) => [id, []]));
  return (await asker.ask('POST', '/keys/query', { device_keys })).body;
};

const claim = async (asker: User, of: User, algorithm = 'signed_curve25519'): Promise<JsonObject> => {
  const answer = await asker.ask('POST', '/keys/claim', {
    one_time_keys: { [of.id]: { [of.device]: algorithm } },
  });
  expect(answer.status).toBe(200);
  const keys = (answer.body.one_time_keys as JsonObject)[of.id] as JsonObject | undefined;
  return (keys?.[of.device] ?? {}) as JsonObject;
};

const sync = async (user: User, since?: unknown): Promise<JsonObject> =>
  (await user.ask('GET', `/sync${since === undefined ? '' : `?since=${String(since)}`}`)).body;

const proof = (user: User): JsonObject => ({
  type: 'm.login.password',
  identifier: { type: 'm.id.user', user: user.localpart },
  password: PASSWORD,
});

eachDoor(
  'identity keys are uploaded once, found with the device’s name, and cannot be changed',
  async (door) => {
    const { user: alice, keys } = await encrypted(door, 'alice');
    const bob = await door.user('bob');
    await alice.ask('PUT', `/devices/${alice.device}`, { display_name: 'Phone' });
    const expected = { ...keys.identityKeys(), unsigned: { device_display_name: 'Phone' } };
    expect(await query(bob, alice, bob)).toEqual({
      device_keys: { [alice.id]: { [alice.device]: expected }, [bob.id]: {} },
      ...{ master_keys: {}, self_signing_keys: {}, user_signing_keys: {}, failures: {} },
    });
    const body = (devices: unknown, timeout = 10_000) => ({ timeout, device_keys: { [alice.id]: devices } });
    const found = await bob.ask('POST', '/keys/query', body(['OTHER']));
    expect(found.body.device_keys).toEqual({ [alice.id]: {} });
    expect(
      (await bob.ask('POST', '/keys/query', { device_keys: { [`${alice.id}x`]: [] } })).body,
    ).toMatchObject({
      device_keys: {},
    });

    const again = { device_keys: keys.identityKeys() };
    expect((await alice.ask('POST', '/keys/upload', again)).status).toBe(200);
    const other = new DeviceOwner(alice, ++seeds).identityKeys();
    for (const wrong of [
      other,
      { ...keys.identityKeys(), user_id: bob.id },
      { ...keys.identityKeys(), device_id: 'OTHER' },
      { ...keys.identityKeys(), keys: {} },
      { ...keys.identityKeys(), algorithms: 'all' },
      { user_id: alice.id, device_id: alice.device },
    ])
      expect(await alice.ask('POST', '/keys/upload', { device_keys: wrong })).toMatchObject({
        ...{ status: 400, body: { errcode: 'M_INVALID_PARAM' } },
      });
    for (const wrong of [{}, { device_keys: [] }, { device_keys: { alice: [] } }])
      expect((await bob.ask('POST', '/keys/query', wrong)).status).toBe(400);
    for (const path of ['/keys/upload', '/keys/query', '/keys/claim'])
      expect((await door.stranger().ask('POST', path, {})).status).toBe(401);
  },
);

eachDoor('each one-time key is given away once, the oldest first, then the fallback key', async (door) => {
  const { user: alice, keys } = await encrypted(door, 'alice');
  const bob = await door.user('bob');
  const put = (body: JsonObject) => alice.ask('POST', '/keys/upload', body);
  await put({ one_time_keys: keys.oneTimeKeys('B') });
  expect((await put({ one_time_keys: keys.oneTimeKeys('A', 'C') })).body).toEqual({
    one_time_key_counts: { signed_curve25519: 3 },
  });
  // The same once more is harmless, another key under the same id is not.
  expect((await put({ one_time_keys: keys.oneTimeKeys('A') })).status).toBe(200);
  expect(await put({ one_time_keys: { 'signed_curve25519:A': keys.oneTimeKey('Z') } })).toMatchObject({
    ...{ status: 400, body: { errcode: 'M_UNKNOWN' } },
  });
  const fallback = { 'signed_curve25519:F': keys.oneTimeKey('F', { fallback: true }) };
  await put({ fallback_keys: fallback });
  const before = await sync(alice);
  expect(before).toMatchObject({
    device_one_time_keys_count: { signed_curve25519: 3 },
    device_unused_fallback_key_types: ['signed_curve25519'],
  });

  expect(await claim(bob, alice)).toEqual(keys.oneTimeKeys('B'));
  const two = [await claim(bob, alice), await claim(bob, alice)].flatMap(Object.keys);
  expect(two.sort()).toEqual(['signed_curve25519:A', 'signed_curve25519:C']);
  // Uploaded once more, by a client that has not heard the answer, it is not given away once more.
  expect((await put({ one_time_keys: keys.oneTimeKeys('B') })).body).toEqual({
    one_time_key_counts: { signed_curve25519: 0 },
  });
  expect(await claim(bob, alice)).toEqual(fallback);
  expect(await claim(bob, alice)).toEqual(fallback);
  expect(await claim(bob, alice, 'curve25519')).toEqual({});
  const after = {
    device_one_time_keys_count: { signed_curve25519: 0 },
    device_unused_fallback_key_types: [],
  };
  expect(await sync(alice, before.next_batch)).toMatchObject(after);
  await put({ fallback_keys: fallback });
  expect(await sync(alice)).toMatchObject(after);
  await put({ fallback_keys: { 'signed_curve25519:G': keys.oneTimeKey('G', { fallback: true }) } });
  expect(await sync(alice)).toMatchObject({ device_unused_fallback_key_types: ['signed_curve25519'] });

  for (const wrong of [{ A: 'key' }, { 'signed_curve25519:': 'key' }, { 'signed_curve25519:A': { key: 1 } }])
    expect((await put({ one_time_keys: wrong })).status).toBe(400);
  for (const wrong of [{}, { one_time_keys: { [alice.id]: [] } }, { one_time_keys: { x: {} } }])
    expect((await bob.ask('POST', '/keys/claim', wrong)).status).toBe(400);
});

eachDoor('a claimed key wakes the device that has lost it', async (door) => {
  const { user: alice, keys } = await encrypted(door, 'alice');
  const bob = await door.user('bob');
  await alice.ask('POST', '/keys/upload', { one_time_keys: keys.oneTimeKeys('A', 'B') });
  const { next_batch } = await sync(alice);
  const poll = alice.begin('GET', `/sync?since=${String(next_batch)}&timeout=60000`);
  const before = door.time.clock.monotonic();
  await claim(bob, alice);
  expect((await door.until(poll)).body).toMatchObject({
    device_one_time_keys_count: { signed_curve25519: 1 },
  });
  expect(door.time.clock.monotonic() - before).toBeLessThan(55_000);
});

eachDoor(
  'who shares a room is told of new, renamed and deleted devices, and of who comes and goes',
  async (door) => {
    const { user: alice } = await encrypted(door, 'alice');
    const { user: bob } = await encrypted(door, 'bob');
    const carol = await door.user('carol');
    const { body } = await alice.ask('POST', '/createRoom', { preset: 'public_chat' });
    const room = encodeURIComponent(String(body.room_id));
    let since = (await sync(alice)).next_batch;
    const first = since;
    const lists = async (): Promise<unknown> => {
      const answer = await sync(alice, since);
      since = answer.next_batch;
      return answer.device_lists;
    };
    const changed = (...users: User[]) => ({ changed: users.map(({ id }) => id), left: [] });
    const left = (...users: User[]) => ({ changed: [], left: users.map(({ id }) => id) });

    await upload(await door.again(carol));
    expect(await lists()).toEqual(changed());
    await bob.ask('POST', `/rooms/${room}/join`, {});
    expect(await lists()).toEqual(changed(bob));
    const tablet = await door.again(bob, 'TABLET');
    expect(await lists()).toEqual(changed());
    await upload(tablet);
    expect(await lists()).toEqual(changed(bob));
    const { body: changes } = await alice.ask(
      'GET',
      `/keys/changes?from=${String(first)}&to=${String(since)}`,
    );
    expect(changes).toEqual(changed(bob));
    await bob.ask('PUT', '/devices/TABLET', { display_name: 'Tablet' });
    expect(await lists()).toEqual(changed(bob));
    await bob.ask('PUT', `/profile/${encodeURIComponent(bob.id)}/displayname`, { displayname: 'Bob' });
    await door.pass(1_000);
    expect(await lists()).toEqual(changed());
    await bob.ask('POST', '/delete_devices', { devices: ['TABLET'], auth: proof(bob) });
    expect(await lists()).toEqual(changed(bob));
    expect((await query(alice, bob)).device_keys).toMatchObject({ [bob.id]: { [bob.device]: {} } });
    await bob.ask('POST', `/rooms/${room}/leave`, {});
    expect(await lists()).toEqual(left(bob));
    await upload(await door.again(bob, 'WATCH'));
    expect(await lists()).toEqual(changed());
    await bob.ask('POST', `/rooms/${room}/join`, {});
    expect(await lists()).toEqual(changed(bob));
    // Between two syncs: what happened while no room was shared has not been told.
    for (const user of [bob, alice]) {
      await user.ask('POST', `/rooms/${room}/leave`, {});
      await user.ask('POST', `/rooms/${room}/join`, {});
      expect(await lists()).toEqual(changed(bob));
    }
    await upload(await door.again(alice, 'OTHER'));
    expect(await lists()).toEqual(changed(alice));
    await (await door.again(bob, 'WATCH')).ask('POST', '/logout/all', {});
    expect(await lists()).toEqual(changed(bob));
    expect((await query(alice, bob)).device_keys).toEqual({ [bob.id]: {} });

    for (const wrong of [
      '',
      '?from=s1_1',
      '?from=s1_1&to=x',
      '?from=x&to=s1_1',
      '?from=s1_1&to=s1_999999999',
    ])
      expect((await alice.ask('GET', `/keys/changes${wrong}`)).status).toBe(400);
  },
);

eachDoor('keys are bounded in number and size', async (door) => {
  const { user: alice, keys } = await encrypted(door, 'alice');
  const put = async (body: JsonObject): Promise<unknown> => {
    const { status, body: answer } = await alice.ask('POST', '/keys/upload', body);
    return [status, answer.errcode];
  };
  const tooLarge = [413, 'M_TOO_LARGE'];
  const large = { ...keys.identityKeys(), more: 'x'.repeat(20_000) };
  expect(await put({ device_keys: large })).toEqual(tooLarge);
  expect(await put({ one_time_keys: { 'x:A': 'x'.repeat(3_000) } })).toEqual(tooLarge);
  const many = Object.fromEntries(Array.from({ length: 1_001 }, (_, i) => [`x:${i}`, 'k']));
  expect(await put({ one_time_keys: many })).toEqual(tooLarge);
  expect(await put({ one_time_keys: { 'x:A': 'k' } })).toEqual([200, undefined]);
  const fallback = Object.fromEntries(Array.from({ length: 21 }, (_, i) => [`x${i}:A`, 'k']));
  expect(await put({ fallback_keys: fallback })).toEqual(tooLarge);
});
