import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { CoapEndpoint } from '../../src/coap/endpoint.ts';
import { decode } from '../../src/coap/message.ts';
import { json } from '../exchange/device_client.ts';
import { DeviceWorld } from './device_world.ts';

/*
 * A user's device and its homeserver, over a pipe. The same user has a laptop that comes over HTTP.
 *
 *   phone ──── XX, then CoAP in records ───> home.example <── HTTP ── laptop
 */

const PASSWORD = 'through the looking glass';
const MINUTE = 60_000;
/** The option that carries an access token (MSC3079, "Access tokens"). */
const ACCESS_TOKEN = 256;

async function loggedIn() {
  const world = await DeviceWorld.start();
  const token = await world.register('alice', PASSWORD);
  const phone = world.device({ fingerprint: world.server.fingerprint });
  const login = await world.until(phone.logIn('alice', PASSWORD, 'PHONE'));
  expect([login.status, json(login)]).toEqual([
    200,
    { user_id: '@alice:home.example', device_id: 'PHONE', access_token: 'pipe' },
  ]);
  return { world, token, phone };
}

const whoami = async (world: DeviceWorld, device: DeviceWorld['devices'][number]) => {
  const { status, ...rest } = await world.until(device.ask('GET', '/account/whoami'));
  return { status, ...json({ status, ...rest }) };
};
const PHONE = { status: 200, user_id: '@alice:home.example', device_id: 'PHONE', is_guest: false };
const REFUSED = { status: 401, errcode: 'M_UNKNOWN_TOKEN' };
const connected = (world: DeviceWorld): number => world.server.counters().exchange!.held.pipe.sessions;
const passwordOf = {
  type: 'm.login.password',
  identifier: { type: 'm.id.user', user: 'alice' },
  password: PASSWORD,
};

/** Whether a CoAP message, as it is inside a record, brings an access token. */
function hasToken(bytes: Uint8Array): boolean {
  const message = decode(bytes);
  if (!message.ok) throw new Error(message.problem.toString());
  return message.value.options.some(({ number }) => number === ACCESS_TOKEN);
}

test('after the login the session is the credential: rooms, messages and sync without a token on the wire', async () => {
  const { world, phone } = await loggedIn();
  const received = vi.spyOn(CoapEndpoint.prototype, 'receive');
  try {
    expect(await whoami(world, phone)).toEqual(PHONE);
    const { room_id: room } = json(await world.until(phone.ask('POST', '/createRoom', {})));
    const send = `/rooms/${encodeURIComponent(String(room))}/send/m.room.message/1`;
    const sent = json(await world.until(phone.ask('PUT', send, { msgtype: 'm.text', body: 'Hello World' })));
    const synced = json(await world.until(phone.ask('GET', '/sync?timeout=0')));
    expect(JSON.stringify(synced)).toContain(String(sent.event_id));
    const without = received.mock.calls.map(([, bytes]) => hasToken(bytes));
    expect(without.length).toBeGreaterThanOrEqual(8);
    expect(without).not.toContain(true);
    received.mockClear();
    await world.until(phone.ask('GET', '/account/whoami', undefined, 'Bearer pipe'));
    expect(received.mock.calls.map(([, bytes]) => hasToken(bytes))).toContain(true);
  } finally {
    received.mockRestore();
  }
});

test('a device can register its account through the pipe', async () => {
  const world = await DeviceWorld.start();
  const phone = world.device();
  const body = { username: 'bob', password: PASSWORD, device_id: 'PHONE', auth: { type: 'm.login.dummy' } };
  const answer = json(await world.until(phone.ask('POST', '/register', body)));
  expect(answer).toEqual({ user_id: '@bob:home.example', device_id: 'PHONE', access_token: 'pipe' });
  expect(await whoami(world, phone)).toMatchObject({ user_id: '@bob:home.example' });
});

test('a logout is answered, the next request is refused, and the session ends', async () => {
  const { world, phone } = await loggedIn();
  expect(await world.until(phone.ask('POST', '/logout', {}))).toMatchObject({ status: 200 });
  expect(await whoami(world, phone)).toMatchObject(REFUSED);
  expect(connected(world)).toBe(1);
  await world.time.pass(3 * MINUTE);
  expect(phone.refusals).toEqual(['peer: not logged in']);
  expect(await whoami(world, phone)).toMatchObject(REFUSED);
});

test('after a logout the device can log in again, on the session that there is', async () => {
  const { world, phone } = await loggedIn();
  await world.until(phone.ask('POST', '/logout', {}));
  expect(await world.until(phone.logIn('alice', PASSWORD, 'PHONE'))).toMatchObject({ status: 200 });
  await world.time.pass(30 * MINUTE);
  expect(await whoami(world, phone)).toEqual(PHONE);
  expect([phone.refusals, phone.socket.counters.established]).toEqual([[], 1]);
});

test('the deletion of a device by another ends its session at once, and it does not get in again', async () => {
  const { world, phone, token } = await loggedIn();
  const asked = await world.http('DELETE', '/devices/PHONE', { auth: passwordOf }, token);
  expect(asked).toEqual({ status: 200, json: {} });
  await world.time.pass(MINUTE);
  expect(phone.refusals).toEqual(['peer: logged out']);
  expect(await whoami(world, phone)).toMatchObject(REFUSED);
  expect(phone.socket.counters.established).toBe(2);
});

test('a long poll of a device that is deleted meanwhile shows nothing', async () => {
  const { world, phone, token } = await loggedIn();
  const { next_batch } = json(await world.until(phone.ask('GET', '/sync?timeout=0')));
  const poll = phone.ask('GET', `/sync?timeout=30000&since=${next_batch}`, undefined, undefined, 2 * MINUTE);
  const outcome = poll.then(
    ({ status }) => status,
    () => 'no answer',
  );
  await world.time.pass(5_000);
  await world.http('POST', '/delete_devices', { devices: ['PHONE'], auth: passwordOf }, token);
  expect([401, 'no answer']).toContain(await world.until(outcome));
});

test('a new password ends the sessions of the other devices', async () => {
  const { world, phone, token } = await loggedIn();
  const body = { new_password: 'another one', auth: passwordOf };
  expect(await world.http('POST', '/account/password', body, token)).toMatchObject({ status: 200 });
  await world.time.pass(MINUTE);
  expect(phone.refusals).toEqual(['peer: logged out']);
});

test('a start of the server keeps the binding and the session', async () => {
  const { world, phone } = await loggedIn();
  await world.stopServer();
  await world.startServer();
  expect(await whoami(world, phone)).toEqual(PHONE);
  expect(phone.observed.filter(({ label }) => label === 'XX1' || label === 'IK1')).toHaveLength(1);
});

test('a logout that was not told to a device before the server stopped holds after the start', async () => {
  const { world, phone, token } = await loggedIn();
  await world.http('POST', '/logout/all', {}, token);
  await world.stopServer();
  await world.startServer();
  expect(await whoami(world, phone)).toMatchObject(REFUSED);
});

test('another key does not get in with the same user and device', async () => {
  const { world, phone } = await loggedIn();
  const thief = world.device();
  expect(await whoami(world, thief)).toMatchObject(REFUSED);
  const guess = await world.until(thief.logIn('alice', 'a guess', 'PHONE'));
  expect([guess.status, json(guess).errcode]).toEqual([403, 'M_FORBIDDEN']);
  expect(await whoami(world, thief)).toMatchObject(REFUSED);
  expect(await whoami(world, phone)).toEqual(PHONE);
});

test('what is stored of a device lets nobody in: its key is the public half, and there is no token', async () => {
  const world = await DeviceWorld.start();
  await world.register('alice', PASSWORD);
  const secret = seededRandom(99).bytes(32);
  const phone = world.device({ secret });
  await world.until(phone.logIn('alice', PASSWORD, 'PHONE'));
  await world.stopServer();
  const file = readFileSync(join(world.folder, 'home.example', 'ravine.db'));
  expect(file.includes(phone.key)).toBe(true);
  expect(file.includes(Buffer.from(secret))).toBe(false);
  expect(file.includes(PASSWORD)).toBe(false);
});

test('a device has nothing to say as a server', async () => {
  const { world, phone } = await loggedIn();
  const answer = await world.until(
    phone.ask('PUT', '/_matrix/federation/v1/send/1', {
      ...{ origin: 'evil.example', origin_server_ts: 1, pdus: [] },
    }),
  );
  expect([answer.status, json(answer).errcode]).toEqual([401, 'M_UNAUTHORIZED']);
});

test('a server that is not the pinned one gets no byte of the password, and no session', async () => {
  const world = await DeviceWorld.start();
  const phone = world.device({ fingerprint: '0'.repeat(64) });
  const login = phone.logIn('alice', PASSWORD).catch((error: unknown) => error);
  expect(await world.until(login)).toBeInstanceOf(Error);
  expect(phone.refusals[0]).toBe('us: it has not the key of the server that was called');
  const sent = phone.observed.filter(({ direction }) => direction === 'sent').map(({ label }) => label);
  expect(new Set(sent)).toEqual(new Set(['XX1']));
  expect(world.server.counters().exchange).toMatchObject({ requestsIn: 0, established: 0 });
});

test('a key that never logs in has its session for ten minutes', async () => {
  const world = await DeviceWorld.start();
  const stranger = world.device();
  expect(await world.until(stranger.ask('GET', '/login'))).toMatchObject({ status: 200 });
  expect([connected(world), world.server.counters().unboundDevices]).toEqual([1, 1]);
  await world.time.pass(11 * MINUTE);
  expect(stranger.refusals).toEqual(['peer: not logged in']);
  await world.time.pass(5 * MINUTE);
  expect([connected(world), world.server.counters().unboundDevices]).toEqual([0, 0]);
});

test('where the configuration says so, no device gets a session', async () => {
  const world = await DeviceWorld.start({ coap: { pipe: { devices: false } } });
  const phone = world.device();
  await expect(world.until(phone.ask('GET', '/login'))).rejects.toThrow();
  expect(world.server.counters().exchange).toMatchObject({ requestsIn: 0, established: 0 });
});

test('where everybody can read, no device logs in', async () => {
  const network = { mode: 'authenticated-only', station: 'N0CALL' } as const;
  const world = await DeviceWorld.start({ coap: { pipe: network } });
  await world.register('alice', PASSWORD);
  const phone = world.device({ network });
  const login = await world.until(phone.logIn('alice', PASSWORD, 'PHONE'));
  expect([login.status, json(login).errcode]).toEqual([403, 'M_FORBIDDEN']);
  expect(await whoami(world, phone)).toMatchObject({ status: 403 });
});
