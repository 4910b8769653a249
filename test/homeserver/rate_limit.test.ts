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
    service.accounts.register({ username: 'alice', password: 'secret', auth: { type: 'm.login.dummy' } });
  /** Nobody's password: refused before it is hashed. */
  const guess = { type: 'm.login.password', password: '', identifier: { type: 'm.id.user', user: 'alice' } };

  test('is not open to guesses without end, whatever its name is spelled like and wherever they are made', async () => {
    const service = accountService();
    const { accounts, clock } = service;
    const registration = await register(service);
    if (registration.kind !== 'registered') throw new Error('registered');
    const requester = registration.session!;
    let guesses = 0;
    const outcome = async (): Promise<unknown> => {
      for (; guesses < 1_000; guesses += 3) {
        for (const name of ['alice', 'ALICE', '@alice:a.example'])
          await accounts.login(name, '', {}).catch((error: MatrixError) => {
            if (error.errcode !== 'M_FORBIDDEN') throw error;
          });
        await accounts.confirm(requester, guess);
      }
      return undefined;
    };
    await expect(outcome()).rejects.toMatchObject({ status: 429, errcode: 'M_LIMIT_EXCEEDED' });
    expect(guesses).toBeGreaterThan(20);
    await expect(accounts.confirm(requester, guess)).rejects.toMatchObject({ status: 429 });
    await expect(accounts.login('bob', 'secret', {})).rejects.toMatchObject({ errcode: 'M_FORBIDDEN' });
    expect(await accounts.confirm(requester, undefined)).toMatchObject({ flows: expect.anything() });
    clock.advanceTo(clock.monotonic() + 5_000);
    expect(await accounts.login('alice', 'secret', {})).toMatchObject({ user: '@alice:a.example' });
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
    await accounts.logout({ ...session, device: 'D0' as typeof session.device });
    expect(await accounts.login('alice', 'secret', { deviceId: 'NEW' })).toMatchObject({ device: 'NEW' });
  });
});
