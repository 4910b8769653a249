import { describe, expect, test } from 'vitest';
import type { Requester } from '../../src/homeserver/accounts.ts';
import { connectionsOf } from '../../src/storage/connections.ts';
import { accountService } from './account_service.ts';

test('a device that was seen is noted once in ten minutes, with where it called from', async () => {
  const { accounts, database, clock } = accountService();
  await accounts.create('alice', 'secret');
  const home = { place: '192.0.2.1', ip: '192.0.2.1', agent: 'Client/1.0' };
  const phone: Requester = await accounts.login('alice', 'secret', { origin: home });
  const seen = () =>
    database.get('SELECT last_seen AS at, last_seen_ip AS ip, last_seen_agent AS agent FROM devices');
  const began = clock.wall();
  expect(await seen()).toEqual({ at: began, ip: '192.0.2.1', agent: 'Client/1.0' });
  const away = { ...home, ip: '198.51.100.7', agent: 'x'.repeat(1_000) };
  clock.advanceTo(599_999);
  await accounts.sessions.seen(phone, away);
  expect(await seen()).toMatchObject({ at: began });
  clock.advanceTo(600_000);
  await accounts.sessions.seen(phone, away);
  expect(await seen()).toEqual({ at: began + 600_000, ip: '198.51.100.7', agent: 'x'.repeat(200) });
});

test('the last ten ways in which a device has called are known for four weeks, and go with it', async () => {
  const { accounts, database, clock } = accountService();
  await accounts.create('alice', 'x');
  const here = { place: 'here', ip: '192.0.2.0', agent: 'A' };
  const session = await accounts.login('alice', 'x', { deviceId: 'PHONE', origin: here });
  const DAY_MS = 24 * 60 * 60_000;
  const call = async (ip: string | null, agent: string | null, afterMs = 600_000) => {
    clock.advanceTo(clock.monotonic() + afterMs);
    await accounts.sessions.seen(session, { place: 'x', ip, agent });
  };
  const known = async () =>
    (await connectionsOf(database, session.user)).map(({ device, ip, agent }) => `${device} ${ip} ${agent}`);
  await call('192.0.2.0', 'A');
  expect(await known()).toEqual(['PHONE 192.0.2.0 A']);
  await call('192.0.2.0', 'B');
  await call(null, null);
  await call('192.0.2.0', 'A');
  expect(await known()).toEqual(['PHONE 192.0.2.0 A', 'PHONE null null', 'PHONE 192.0.2.0 B']);
  for (let n = 1; n < 10; n++) await call(`192.0.2.${n}`, 'A');
  expect((await known()).slice(-2)).toEqual(['PHONE 192.0.2.1 A', 'PHONE 192.0.2.0 A']);
  await call('198.51.100.1', 'A', 28 * DAY_MS);
  expect(await known()).toEqual(['PHONE 198.51.100.1 A', 'PHONE 192.0.2.9 A']);
  await accounts.sessions.logout(session);
  expect(await known()).toEqual([]);
});

test('login tokens are handed out five at once, then one a minute', async () => {
  const { accounts, clock } = accountService();
  await accounts.create('alice', 'secret');
  const session = await accounts.login('alice', 'secret', {});
  for (let token = 0; token < 5; token++) await accounts.issueLoginToken(session);
  await expect(accounts.issueLoginToken(session)).rejects.toMatchObject({
    status: 429,
    errcode: 'M_LIMIT_EXCEEDED',
    extra: { retry_after_ms: 60_000 },
  });
  clock.advanceTo(60_000);
  expect(await accounts.issueLoginToken(session)).toMatchObject({ expiresInMs: 120_000 });
});

describe('refreshed tokens', () => {
  test('are two pairs at most, however often an answer is lost', async () => {
    const { accounts, database } = accountService();
    await accounts.create('alice', 'secret');
    const { sessions } = accounts;
    let { refreshToken } = await accounts.login('alice', 'secret', { refreshes: true });
    for (let round = 0; round < 5; round++) {
      for (let lost = 0; lost < 3; lost++) await sessions.refresh(refreshToken!);
      expect(await database.all('SELECT 1 FROM access_tokens')).toHaveLength(2);
      ({ refreshToken } = await sessions.refresh(refreshToken!));
    }
  });

  test('go with the device, and with a new login as it', async () => {
    const { accounts } = accountService();
    await accounts.create('alice', 'secret');
    const { sessions } = accounts;
    const one = await accounts.login('alice', 'secret', { deviceId: 'PHONE', refreshes: true });
    const two = await accounts.login('alice', 'secret', { deviceId: 'PHONE' });
    expect(two.refreshToken).toBeUndefined();
    await expect(sessions.refresh(one.refreshToken!)).rejects.toMatchObject({ errcode: 'M_UNKNOWN_TOKEN' });
    const three = await accounts.login('alice', 'secret', { refreshes: true });
    await sessions.logout(three);
    await expect(sessions.refresh(three.refreshToken!)).rejects.toMatchObject({ errcode: 'M_UNKNOWN_TOKEN' });
    // An access token is no refresh token, nor the other way round.
    const four = await accounts.login('alice', 'secret', { refreshes: true });
    await expect(sessions.refresh(four.accessToken)).rejects.toMatchObject({ errcode: 'M_UNKNOWN_TOKEN' });
    expect(await sessions.authenticate(four.refreshToken!)).toBeUndefined();
  });

  test('of a locked account are refused, and good again once it is not', async () => {
    const { accounts, database } = accountService();
    await accounts.create('alice', 'secret');
    const { refreshToken } = await accounts.login('alice', 'secret', { refreshes: true });
    const lock = (locked: number) =>
      database.transaction((tx) => tx.run('UPDATE users SET locked = ?', locked));
    await lock(1);
    await expect(accounts.sessions.refresh(refreshToken!)).rejects.toMatchObject({
      status: 401,
      errcode: 'M_USER_LOCKED',
      extra: { soft_logout: true },
    });
    await lock(0);
    expect(await accounts.sessions.refresh(refreshToken!)).toMatchObject({ expiresInMs: 3_600_000 });
  });
});
