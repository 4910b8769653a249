import { expect, test } from 'vitest';
import { type Account, type ClientCall, callDirectly, register } from '../../../src/cli/bench/clients.ts';
import { World } from '../../../src/cli/bench/world.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { DeviceOwner } from '../../homeserver/keys/key_owner.ts';

const MINUTE = 60_000;

test('two homeservers with nothing but a pipe between them: keys, claims, messages to devices, changes, a restart', async () => {
  const world = await World.open(['alpha', 'bravo']);
  const ask = (
    who: Account,
    method: ClientCall['method'],
    path: string,
    body?: JsonObject,
  ): Promise<JsonObject> => {
    const { app } = world.server(who.id.endsWith(':alpha.example') ? 'alpha' : 'bravo');
    const call = { method, target: `/_matrix/client/v3/${path}`, ...(body && { body }) };
    return world.until(callDirectly(app, who, call));
  };
  const alice = await world.until(register(world.server('alpha').app, 'alice'));
  const bob = await world.until(register(world.server('bravo').app, 'bob'));
  const device = String((await ask(alice, 'GET', 'account/whoami')).device_id);
  const { room_id } = await ask(alice, 'POST', 'createRoom', { preset: 'public_chat' });
  await ask(bob, 'POST', `join/${encodeURIComponent(String(room_id))}?via=alpha.example`, {});
  await world.time.pass(MINUTE);
  let { next_batch: since } = await ask(bob, 'GET', 'sync');
  const owner = new DeviceOwner({ id: alice.id, device }, 1);
  await ask(alice, 'POST', 'keys/upload', {
    device_keys: owner.identityKeys(),
    one_time_keys: owner.oneTimeKeys('a', 'b'),
  });
  await world.time.pass(5 * MINUTE);
  const news = await ask(bob, 'GET', `sync?since=${since}`);
  expect(news.device_lists).toEqual({ changed: [alice.id], left: [] });
  since = news.next_batch!;

  const query = { device_keys: { [alice.id]: [] } };
  const expected = { [alice.id]: { [device]: owner.identityKeys() } };
  expect(await ask(bob, 'POST', 'keys/query', query)).toMatchObject({ device_keys: expected, failures: {} });
  const claim = { one_time_keys: { [alice.id]: { [device]: 'signed_curve25519' } } };
  const claimed = [await ask(bob, 'POST', 'keys/claim', claim), await ask(bob, 'POST', 'keys/claim', claim)];
  expect(claimed.map(({ one_time_keys: keys }) => keys)).toEqual(
    ['a', 'b'].map((name) => ({ [alice.id]: { [device]: owner.oneTimeKeys(name) } })),
  );

  await world.stop('alpha');
  // The copy is kept, and a message waits.
  expect(await ask(bob, 'POST', 'keys/query', query)).toMatchObject({ device_keys: expected, failures: {} });
  await ask(bob, 'PUT', 'sendToDevice/m.test/1', { messages: { [alice.id]: { [device]: { n: 1 } } } });
  await world.stop('bravo');
  await world.start('bravo');
  await world.start('alpha');
  await world.time.pass(120 * MINUTE);
  const { to_device, device_one_time_keys_count: count } = await ask(alice, 'GET', 'sync');
  expect(to_device).toEqual({ events: [{ sender: bob.id, type: 'm.test', content: { n: 1 } }] });
  expect(count).toMatchObject({ signed_curve25519: 0 });

  await ask(alice, 'PUT', `devices/${device}`, { display_name: 'Boat' });
  await world.time.pass(5 * MINUTE);
  expect((await ask(bob, 'GET', `sync?since=${since}`)).device_lists).toEqual({
    changed: [alice.id],
    left: [],
  });
  expect(world.server('bravo').counters().deviceLists).toMatchObject({ applied: 1, broken: 0 });
  expect(await ask(bob, 'POST', 'keys/query', query)).toMatchObject({
    device_keys: { [alice.id]: { [device]: { unsigned: { device_display_name: 'Boat' } } } },
  });
  await world.close();
});
