import { expect } from 'vitest';
import { doorsOf, PASSWORD, type User } from './coverage/doors.ts';

const { eachDoor } = doorsOf(import.meta.url);

const proof = (user: User) => ({
  type: 'm.login.password',
  identifier: { type: 'm.id.user', user: user.localpart },
  password: PASSWORD,
});

eachDoor('devices are listed, named and deleted with the password', async (door) => {
  const alice = await door.user();
  const phone = await door.again(alice, 'PHONE');
  expect(await alice.ask('PUT', '/devices/PHONE', { display_name: 'My phone' })).toMatchObject({
    status: 200,
  });
  expect((await alice.ask('GET', '/devices/PHONE')).body).toMatchObject({
    device_id: 'PHONE',
    display_name: 'My phone',
    last_seen_ts: expect.any(Number),
  });
  // Without a name nothing changes.
  expect(await alice.ask('PUT', '/devices/PHONE', {})).toMatchObject({ status: 200, body: {} });
  const ids = async (): Promise<unknown[]> =>
    ((await alice.ask('GET', '/devices')).body.devices as { device_id: string }[]).map(
      (one) => one.device_id,
    );
  expect((await ids()).sort()).toEqual(['PHONE', alice.device].sort());

  const asked = await alice.ask('DELETE', '/devices/PHONE', {});
  expect(asked).toMatchObject({ status: 401, body: { flows: [{ stages: ['m.login.password'] }] } });
  expect(await alice.ask('DELETE', '/devices/PHONE', { auth: proof(alice) })).toMatchObject({ status: 200 });
  expect((await phone.ask('GET', '/account/whoami')).status).toBe(401);
  for (const [method, body] of [
    ['GET', undefined],
    ['PUT', { display_name: 'x' }],
  ] as const)
    expect((await alice.ask(method, '/devices/PHONE', body)).status).toBe(404);
  const many = { devices: [alice.device, 'NONE'] };
  expect((await alice.ask('POST', '/delete_devices', many)).status).toBe(401);
  expect(await alice.ask('POST', '/delete_devices', { ...many, auth: proof(alice) })).toMatchObject({
    status: 200,
  });
  expect((await alice.ask('GET', '/account/whoami')).status).toBe(401);
  for (const [method, path] of [
    ['GET', '/devices'],
    ['GET', '/devices/X'],
    ['PUT', '/devices/X'],
    ['DELETE', '/devices/X'],
    ['POST', '/delete_devices'],
  ] as const)
    expect((await door.stranger().ask(method, path, method === 'GET' ? undefined : {})).status).toBe(401);
});

eachDoor('when a device called last is written down once in ten minutes', async (door) => {
  const alice = await door.user();
  const seen = async (): Promise<number> =>
    (await alice.ask('GET', `/devices/${alice.device}`)).body.last_seen_ts as number;
  const first = await seen();
  await door.pass(9 * 60_000);
  expect(await seen()).toBe(first);
  await door.pass(2 * 60_000);
  expect((await seen()) - first).toBeGreaterThanOrEqual(10 * 60_000);
});
