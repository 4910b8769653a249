import type { FastifyInstance } from 'fastify';
import { inject } from 'light-my-request';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { createApp } from '../../src/api/app.ts';
import { CALLER, type Caller } from '../../src/api/caller.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import type { Requester } from '../../src/homeserver/accounts.ts';
import type { DeviceId, ServerName, UserId } from '../../src/matrix/ids.ts';

const phone: Requester = { user: '@alice:a.example' as UserId, device: 'PHONE' as DeviceId };
const laptop: Requester = { ...phone, device: 'LAPTOP' as DeviceId };
const tokens = new Map([
  ['token_of_the_phone', phone],
  ['token_of_the_laptop', laptop],
]);
const [BOUND, UNBOUND] = ['b'.repeat(64), 'c'.repeat(64)] as const;

let app: FastifyInstance;
/** Of whom it is noted that they called, in vain. */
let seen: string[];
/** What the bound key is at the moment. */
let owner: Requester | undefined;

beforeEach(async () => {
  owner = phone;
  seen = [];
  app = createApp({
    clock: new VirtualClock(),
    authenticate: async (token) => tokens.get(token),
    authenticateKey: async (key) => (key === BOUND ? owner : undefined),
    authenticateServer: async () => 'signed.example' as ServerName,
    seen: async (requester, { ip }) => {
      seen.push(`${requester.device} from ${ip}`);
      throw new Error('the disk is full');
    },
  });
  onTestFinished(() => app.close());
  app.get('/mine', { config: { auth: 'device' } }, async ({ requester }) => requester);
  app.get('/poll', { config: { auth: 'device', longPoll: true } }, async () => {
    owner = undefined;
    return {};
  });
  app.get('/server', { config: { auth: 'server' } }, async ({ origin }) => ({ origin }));
  app.post('/limited', { config: { auth: 'none', limited: true } }, async () => ({}));
  await app.ready();
});

async function ask(caller: Caller | undefined, url: string, token?: string, remoteAddress = '192.0.2.1:7') {
  const method = url === '/limited' ? 'POST' : 'GET';
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const answer = await inject(
    (raw, response) => {
      if (caller !== undefined) raw[CALLER] = caller;
      app.routing(raw, response);
    },
    { method, url, headers, remoteAddress },
  );
  return { status: answer.statusCode, ...answer.json<Record<string, unknown>>() };
}

const bound: Caller = { kind: 'device', key: BOUND };
const unbound: Caller = { kind: 'device', key: UNBOUND };

describe('a request of a key that is bound to a device', () => {
  test('needs no token', async () => {
    expect(await ask(bound, '/mine')).toEqual({ status: 200, ...phone });
    expect(seen).toEqual(['PHONE from 192.0.2.1']);
  });

  test('may bring what the login gave as a token, and a token of the same device', async () => {
    expect(await ask(bound, '/mine', 'pipe')).toMatchObject({ status: 200 });
    expect(await ask(bound, '/mine', 'token_of_the_phone')).toMatchObject({ status: 200 });
  });

  test('is refused with a token of another device, or of nobody', async () => {
    for (const token of ['token_of_the_laptop', 'unknown'])
      expect(await ask(bound, '/mine', token)).toMatchObject({ status: 401, errcode: 'M_UNKNOWN_TOKEN' });
  });

  test('that waited for long is refused where the device was logged out meanwhile', async () => {
    expect(await ask(bound, '/poll')).toMatchObject({ status: 401, errcode: 'M_UNKNOWN_TOKEN' });
  });
});

describe('a request of a key that is bound to none', () => {
  test('is told that it has to log in', async () => {
    const refusal = { status: 401, errcode: 'M_UNKNOWN_TOKEN', soft_logout: false };
    expect(await ask(unbound, '/mine')).toMatchObject(refusal);
    expect(await ask(unbound, '/mine', 'pipe')).toMatchObject(refusal);
  });

  test('may bring an access token, as over HTTP', async () => {
    expect(await ask(unbound, '/mine', 'token_of_the_laptop')).toEqual({ status: 200, ...laptop });
  });
});

describe('who calls what', () => {
  test('no device calls what is for servers, not even with a signature', async () => {
    for (const caller of [bound, unbound])
      expect(await ask(caller, '/server')).toMatchObject({ status: 401, errcode: 'M_UNAUTHORIZED' });
    expect(await ask(undefined, '/server')).toMatchObject({ status: 200, origin: 'signed.example' });
  });

  test("no server calls what is for users' devices, whatever its name", async () => {
    for (const name of ['a.example', BOUND, `device:${BOUND}`] as ServerName[])
      expect(await ask({ kind: 'server', name }, '/mine')).toMatchObject({
        status: 401,
        errcode: 'M_MISSING_TOKEN',
      });
  });

  test('what the login gave as a token is worth nothing outside of the pipe', async () => {
    expect(await ask(undefined, '/mine', 'pipe')).toMatchObject({ status: 401, errcode: 'M_UNKNOWN_TOKEN' });
  });
});

test('attempts to log in count by the key and by the network, so that new keys do not help', async () => {
  const key = (i: number): Caller => ({ kind: 'device', key: i.toString(16).padStart(64, '0') });
  const statuses = async (callers: readonly Caller[], address: (i: number) => string) => {
    const all = [];
    for (const [i, caller] of callers.entries())
      all.push((await ask(caller, '/limited', undefined, address(i))).status);
    return all.filter((status) => status === 200).length;
  };
  const calls = Array.from({ length: 110 }, (_, i) => i);
  expect(await statuses(calls.map(key), () => '192.0.2.1:7')).toBe(100);
  expect(
    await statuses(
      calls.map(() => key(1_000)),
      (i) => `198.51.100.${i}:7`,
    ),
  ).toBe(100);
});
