import { describe, expect, test } from 'vitest';
import type { Accounts } from '../../src/homeserver/accounts.ts';
import { Devices } from '../../src/homeserver/devices.ts';
import type { DeviceId, UserId } from '../../src/matrix/ids.ts';
import { accountService } from './account_service.ts';

const alice = '@alice:a.example' as UserId;
const [KEY, OTHER_KEY] = ['1', '2'].map((digit) => digit.repeat(64)) as [string, string];

function service() {
  const told: string[] = [];
  const pipes = {
    bound: (key: string): void => void told.push(`bound ${key[0]}`),
    revoked: (keys: readonly string[], asking?: string): void =>
      void told.push(`revoked ${keys.map((key) => key[0])}, asked by ${asking?.[0]}`),
  };
  const made = accountService({ pipes });
  return { ...made, devices: new Devices({ database: made.database, pipes }), told };
}

async function register(accounts: Accounts, key?: string) {
  const outcome = await accounts.registration.register({
    ...{ username: 'alice', password: 'wonderland', deviceId: 'PHONE', auth: { type: 'm.login.dummy' } },
    ...(key !== undefined && { key }),
  });
  if (outcome.kind !== 'registered' || outcome.session === undefined) throw new Error('not registered');
  return outcome.session;
}

const logIn = (accounts: Accounts, deviceId?: string, key?: string) =>
  accounts.login('alice', 'wonderland', { deviceId, key });

describe('a login through a pipe', () => {
  test('binds the key to the device and makes no token that could be stolen', async () => {
    const { accounts, database, told } = service();
    const session = await register(accounts, KEY);
    expect(session).toEqual({ user: alice, device: 'PHONE', accessToken: 'pipe' });
    expect(await accounts.sessions.authenticateKey(KEY)).toEqual({ user: alice, device: 'PHONE' });
    expect(await accounts.sessions.authenticateKey(OTHER_KEY)).toBeUndefined();
    expect(await accounts.sessions.authenticate('pipe')).toBeUndefined();
    expect(await database.all('SELECT * FROM access_tokens')).toEqual([]);
    expect(told).toEqual(['bound 1']);
  });

  test('with a wrong password binds nothing', async () => {
    const { accounts, told } = service();
    await register(accounts);
    await expect(accounts.login('alice', 'guess', { key: KEY })).rejects.toMatchObject({
      errcode: 'M_FORBIDDEN',
    });
    expect(await accounts.sessions.authenticateKey(KEY)).toBeUndefined();
    expect(told).toEqual([]);
  });

  test('as a known device takes it from the key and from the token that it had', async () => {
    const { accounts, told } = service();
    const { accessToken } = await register(accounts);
    await logIn(accounts, 'PHONE', KEY);
    expect(await accounts.sessions.authenticate(accessToken)).toBeUndefined();
    await logIn(accounts, 'PHONE', OTHER_KEY);
    expect(await accounts.sessions.authenticateKey(KEY)).toBeUndefined();
    expect(await accounts.sessions.authenticateKey(OTHER_KEY)).toEqual({ user: alice, device: 'PHONE' });
    expect(told).toEqual(['bound 1', 'revoked 1, asked by undefined', 'bound 2']);
  });

  test('of a key that is bound already moves it: it acts for one device only', async () => {
    const { accounts, told } = service();
    await register(accounts, KEY);
    await logIn(accounts, 'TABLET', KEY);
    expect(await accounts.sessions.authenticateKey(KEY)).toEqual({ user: alice, device: 'TABLET' });
    await logIn(accounts, 'TABLET', KEY);
    expect(await accounts.sessions.authenticateKey(KEY)).toEqual({ user: alice, device: 'TABLET' });
    expect(told).toEqual(['bound 1', 'bound 1', 'bound 1']);
  });

  test('ends where the device logs in over HTTP', async () => {
    const { accounts, told } = service();
    await register(accounts, KEY);
    const { accessToken } = await logIn(accounts, 'PHONE');
    expect(await accounts.sessions.authenticate(accessToken)).toEqual({ user: alice, device: 'PHONE' });
    expect(await accounts.sessions.authenticateKey(KEY)).toBeUndefined();
    expect(told.at(-1)).toBe('revoked 1, asked by undefined');
  });
});

describe('the binding of a key goes', () => {
  const phone = { user: alice, device: 'PHONE' as DeviceId };

  async function twoDevices() {
    const made = service();
    await register(made.accounts, KEY);
    await logIn(made.accounts, 'LAPTOP', OTHER_KEY);
    made.told.length = 0;
    const bound = async () => [
      (await made.accounts.sessions.authenticateKey(KEY)) !== undefined,
      (await made.accounts.sessions.authenticateKey(OTHER_KEY)) !== undefined,
    ];
    return { ...made, bound };
  }

  test('with a logout', async () => {
    const { accounts, bound, told } = await twoDevices();
    await accounts.sessions.logout(phone);
    expect([await bound(), told]).toEqual([[false, true], ['revoked 1, asked by 1']]);
  });

  test('with a logout of all devices', async () => {
    const { accounts, bound, told } = await twoDevices();
    await accounts.sessions.logoutAll(phone);
    expect(await bound()).toEqual([false, false]);
    expect(told).toEqual(['revoked 2,1, asked by 1']);
  });

  test('with the deletion of the device by another', async () => {
    const { devices, bound, told } = await twoDevices();
    await devices.delete(phone, ['LAPTOP' as DeviceId, 'NONE' as DeviceId]);
    expect([await bound(), told]).toEqual([[true, false], ['revoked 2, asked by 1']]);
  });

  test('with a new password, but for the device that sets it', async () => {
    const { accounts, bound, told } = await twoDevices();
    await accounts.setPassword(phone, 'looking glass', 'nobody');
    expect([await bound(), told]).toEqual([[true, true], []]);
    await accounts.setPassword(phone, 'looking glass', 'others');
    expect([await bound(), told]).toEqual([[true, false], ['revoked 2, asked by 1']]);
  });
});

test('a device that calls through pipes is listed with the day on which it called last', async () => {
  const { accounts, devices, clock } = service();
  const DAY = 24 * 60 * 60 * 1000;
  await register(accounts, KEY);
  await logIn(accounts, 'LAPTOP');
  clock.advanceTo(2.5 * DAY);
  await accounts.sessions.authenticateKey(KEY);
  expect(await devices.list(alice)).toEqual([
    { device: 'LAPTOP', displayName: null, lastSeen: undefined, lastSeenIp: null },
    { device: 'PHONE', displayName: null, lastSeen: Date.UTC(2026, 0, 3), lastSeenIp: null },
  ]);
  expect(await devices.get(alice, 'PHONE' as DeviceId)).toMatchObject({ lastSeen: Date.UTC(2026, 0, 3) });
});
