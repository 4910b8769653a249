import { describe, expect, test } from 'vitest';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { RateLimit } from '../../src/homeserver/rate_limit.ts';
import { MatrixError } from '../../src/matrix/error.ts';
import { accountService } from './account_service.ts';

/** How long the caller is to wait, or 0 where the attempt is let through. */
function waitOf(attempt: () => void): number {
  try {
    attempt();
    return 0;
  } catch (error) {
    if (!(error instanceof MatrixError)) throw error;
    expect([error.status, error.errcode]).toEqual([429, 'M_LIMIT_EXCEEDED']);
    return Number(error.extra.retry_after_ms);
  }
}

describe('a rate of three at once and one in ten seconds', () => {
  const limited = () => {
    const clock = new VirtualClock();
    return { clock, limit: new RateLimit(clock, { burst: 3, intervalMs: 10_000 }) };
  };

  test('lets three through, then says for how long to wait, and means it', () => {
    const { clock, limit } = limited();
    const take = (): number => waitOf(() => limit.take('alice'));
    expect([take(), take(), take(), take()]).toEqual([0, 0, 0, 10_000]);
    clock.advanceTo(4_000.5);
    expect(take()).toBe(6_000);
    clock.advanceTo(9_999);
    expect(take()).toBe(1);
    clock.advanceTo(10_000);
    expect([take(), take()]).toEqual([0, 10_000]);
  });

  test('has three again after half a minute, and not more after a day', () => {
    const { clock, limit } = limited();
    const take = (): number => waitOf(() => limit.take('alice'));
    expect([take(), take(), take()]).toEqual([0, 0, 0]);
    clock.advanceTo(30_000);
    expect([take(), take(), take(), take()]).toEqual([0, 0, 0, 10_000]);
    clock.advanceTo(86_400_000);
    expect([take(), take(), take(), take()]).toEqual([0, 0, 0, 10_000]);
  });

  test('holds one back and not the other', () => {
    const { limit } = limited();
    for (let i = 0; i < 3; i++) limit.take('alice');
    expect(waitOf(() => limit.take('alice'))).toBe(10_000);
    expect(waitOf(() => limit.take('bob'))).toBe(0);
  });

  test('remembers ten thousand, the latest', () => {
    const { limit } = limited();
    for (let i = 0; i < 3; i++) limit.take('alice');
    for (let i = 0; i < 9_999; i++) limit.take(`user ${i}`);
    expect(waitOf(() => limit.take('alice'))).toBe(10_000);
    limit.take('one more');
    expect(waitOf(() => limit.take('alice'))).toBe(0);
  });
});

describe('an account', () => {
  const register = (service: ReturnType<typeof accountService>) =>
    service.accounts.registration.register({
      username: 'alice',
      password: 'secret',
      auth: { type: 'm.login.dummy' },
    });
  /** Nobody's password: refused before it is hashed. */
  const guess = { type: 'm.login.password', password: '', identifier: { type: 'm.id.user', user: 'alice' } };

  const from = (place: string) => ({ origin: { place, ip: null, agent: null } });

  test('is not open to guesses without end from one place, whatever its name is spelled like', async () => {
    const service = accountService();
    const { accounts, clock } = service;
    await register(service);
    let guesses = 0;
    const guessOn = async (): Promise<unknown> => {
      for (; guesses < 1_000; guesses++)
        for (const name of ['alice', 'ALICE', '@alice:a.example'])
          await accounts.login(name, '', from('here')).catch((error: MatrixError) => {
            if (error.errcode !== 'M_FORBIDDEN') throw error;
          });
      return undefined;
    };
    await expect(guessOn()).rejects.toMatchObject({ status: 429, errcode: 'M_LIMIT_EXCEEDED' });
    expect(guesses).toBeGreaterThan(5);
    await expect(accounts.login('bob', 'secret', from('here'))).rejects.toMatchObject({
      errcode: 'M_FORBIDDEN',
    });
    clock.advanceTo(clock.monotonic() + 5_000);
    expect(await accounts.login('alice', 'secret', from('here'))).toMatchObject({ user: '@alice:a.example' });
  });

  test('is open to its owner while strangers elsewhere guess at it', async () => {
    const service = accountService();
    const { accounts } = service;
    await register(service);
    for (let place = 0; place < 20; place++)
      for (let guesses = 0; guesses < 30; guesses++)
        await accounts.login('alice', '', from(`network ${place}`)).catch(() => undefined);
    expect(await accounts.login('alice', 'secret', from('home'))).toMatchObject({ user: '@alice:a.example' });
  });

  test('is held to the same rate where a stolen token is there and the password is not', async () => {
    const service = accountService();
    const { accounts } = service;
    const registration = await register(service);
    if (registration.kind !== 'registered') throw new Error('registered');
    const outcome = async (): Promise<void> => {
      for (let guesses = 0; guesses < 100; guesses++)
        await accounts.confirm(registration.session!, 'do it', guess);
    };
    await expect(outcome()).rejects.toMatchObject({ status: 429 });
    expect(await accounts.confirm(registration.session!, 'do it', undefined)).toMatchObject({
      flows: expect.anything(),
    });
    // Another device of the user is not kept out.
    const other = await accounts.login('alice', 'secret', {});
    expect(await accounts.confirm(other, 'do it', { ...guess, password: 'secret' })).toBeUndefined();
  });

  test('has a thousand devices at most, and those it has can log in anew', async () => {
    const service = accountService();
    const { accounts, database, clock } = service;
    await register(service);
    await accounts.login('alice', 'secret', { deviceId: 'OLD' });
    await database.transaction((tx) =>
      tx.run(
        `INSERT INTO devices (user_id, device_id, display_name, created)
         SELECT '@alice:a.example', 'D' || value, NULL, ? FROM json_each(?)`,
        clock.wall(),
        JSON.stringify(Array.from({ length: 998 }, (_, i) => i)),
      ),
    );
    await expect(accounts.login('alice', 'secret', { deviceId: 'NEW' })).rejects.toMatchObject({
      status: 403,
      errcode: 'M_FORBIDDEN',
    });
    expect(await accounts.login('alice', 'secret', { deviceId: 'OLD' })).toMatchObject({ device: 'OLD' });
    const session = await accounts.login('alice', 'secret', { deviceId: 'OLD' });
    await accounts.sessions.logout({ ...session, device: 'D0' as typeof session.device });
    expect(await accounts.login('alice', 'secret', { deviceId: 'NEW' })).toMatchObject({ device: 'NEW' });
  });
});
