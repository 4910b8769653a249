import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { VirtualTime } from '../../src/base/virtual_time.ts';
import { Work } from '../../src/base/work.ts';
import type { Accounts } from '../../src/homeserver/accounts.ts';
import { Passwords, STANDARD_COST } from '../../src/homeserver/passwords.ts';
import type { DeviceId, UserId } from '../../src/matrix/ids.ts';
import { migrate } from '../../src/storage/migrate.ts';
import { openSqlite } from '../../src/storage/sqlite.ts';
import { temporaryFolder } from '../storage/temporary_database.ts';
import { accountService, CHEAP } from './account_service.ts';

const dummy = { type: 'm.login.dummy' };
const alice = '@alice:a.example' as UserId;

async function register(accounts: Accounts, username: string, password = 'wonderland') {
  const outcome = await accounts.registration.register({ username, password, auth: dummy });
  if (outcome.kind !== 'registered' || outcome.session === undefined) throw new Error('not registered');
  return outcome.session;
}

describe('registration', () => {
  test('asks for proof first, then makes the account and logs its first device in', async () => {
    const { accounts } = accountService();
    const first = await accounts.registration.register({ username: 'alice', password: 'wonderland' });
    expect(first).toMatchObject({
      kind: 'challenge',
      body: { flows: [{ stages: ['m.login.dummy'] }], params: {}, session: expect.any(String) },
    });
    expect(await accounts.localUserExists(alice)).toBe(false);
    const session = await register(accounts, 'alice');
    expect(session).toMatchObject({ user: alice, device: expect.stringMatching(/^[A-Z]{10}$/) });
    expect(await accounts.sessions.authenticate(session.accessToken)).toEqual({
      user: alice,
      device: session.device,
    });
    expect(await accounts.localUserExists(alice)).toBe(true);
  });

  test('gives a session of its own where the client names one that is not known', async () => {
    const { accounts } = accountService();
    const outcome = await accounts.registration.register({
      auth: { session: 'mine', type: 'm.login.recaptcha' },
    });
    expect(outcome).toMatchObject({ kind: 'challenge', body: { session: expect.stringMatching(/^.{16}$/) } });
  });

  test('makes up a name where none is given, and lower-cases one that is', async () => {
    const { accounts } = accountService();
    const outcome = await accounts.registration.register({
      password: 'wonderland',
      auth: dummy,
      inhibitLogin: true,
    });
    expect(outcome).toEqual({ kind: 'registered', user: expect.stringMatching(/^@[a-z]{12}:a\.example$/) });
    expect((await register(accounts, 'Alice')).user).toBe(alice);
  });

  test.each(['', 'al ice', 'älice', '@alice:a.example', 'alice:b', 'x'.repeat(245)])(
    'refuses the username %j before any proof',
    async (username) => {
      const { accounts } = accountService();
      await expect(accounts.registration.register({ username })).rejects.toMatchObject({
        errcode: 'M_INVALID_USERNAME',
        status: 400,
      });
    },
  );

  test('takes the longest username that fits into 255 bytes', async () => {
    const { accounts } = accountService();
    const longest = 'x'.repeat(255 - '@:a.example'.length);
    expect((await register(accounts, longest)).user).toHaveLength(255);
  });

  test('refuses a name that is taken, whatever its case, before any proof', async () => {
    const { accounts } = accountService();
    await register(accounts, 'alice');
    await expect(accounts.registration.register({ username: 'ALICE' })).rejects.toMatchObject({
      errcode: 'M_USER_IN_USE',
    });
    await expect(accounts.registration.checkAvailable('alice')).rejects.toMatchObject({
      errcode: 'M_USER_IN_USE',
    });
    expect(await accounts.registration.checkAvailable('bob')).toBe('@bob:a.example');
  });

  test('gives a name to one of two who ask for it at once', async () => {
    const { accounts } = accountService();
    const results = await Promise.allSettled([register(accounts, 'alice'), register(accounts, 'alice')]);
    expect(results.map((result) => result.status).sort()).toEqual(['fulfilled', 'rejected']);
    expect(results.find((result) => result.status === 'rejected')).toMatchObject({
      reason: { errcode: 'M_USER_IN_USE' },
    });
  });

  test.each([
    [undefined, 'M_MISSING_PARAM'],
    ['', 'M_INVALID_PARAM'],
    ['x'.repeat(513), 'M_INVALID_PARAM'],
  ])('refuses the password %j', async (password, errcode) => {
    const { accounts } = accountService();
    await expect(
      accounts.registration.register({ username: 'alice', password, auth: dummy }),
    ).rejects.toMatchObject({
      errcode,
    });
  });

  test('is refused to everybody but the operator where it is closed', async () => {
    const { accounts } = accountService({ registration: 'closed' });
    await expect(accounts.registration.register({ auth: dummy })).rejects.toMatchObject({
      errcode: 'M_FORBIDDEN',
      status: 403,
    });
    await expect(accounts.registration.isTokenValid('x')).rejects.toMatchObject({ errcode: 'M_FORBIDDEN' });
    expect(await accounts.create('alice', 'wonderland')).toBe(alice);
    expect((await accounts.login('alice', 'wonderland', {})).user).toBe(alice);
  });
});

describe('registration with a token', () => {
  const attempt = (
    accounts: Accounts,
    username: string,
    token: string | undefined,
    type = 'm.login.registration_token',
  ) =>
    accounts.registration.register({
      username,
      password: 'wonderland',
      auth: { type, ...(token === undefined ? {} : { token }) },
    });

  test('takes as many accounts as the token is good for', async () => {
    const { accounts } = accountService({ registration: 'token' });
    const token = await accounts.registration.issueToken({ usesLeft: 2, expires: null });
    expect(token).toMatch(/^[0-9A-Za-z._~-]{1,64}$/);
    for (const name of ['alice', 'bob']) {
      expect(await accounts.registration.isTokenValid(token)).toBe(true);
      expect(await attempt(accounts, name, token)).toMatchObject({ kind: 'registered' });
    }
    expect(await accounts.registration.isTokenValid(token)).toBe(false);
    expect(await attempt(accounts, 'carol', token)).toMatchObject({
      kind: 'challenge',
      body: { errcode: 'M_FORBIDDEN', flows: [{ stages: ['m.login.registration_token'] }] },
    });
  });

  test('makes one account of a token for one, however many ask at once', async () => {
    const { accounts } = accountService({ registration: 'token' });
    const token = await accounts.registration.issueToken({ usesLeft: 1, expires: null });
    const names = ['alice', 'bob', 'carol'];
    const results = await Promise.allSettled(names.map((name) => attempt(accounts, name, token)));
    expect(results.filter((result) => result.status === 'fulfilled')).toHaveLength(1);
    const exist = await Promise.all(
      names.map((name) => accounts.localUserExists(`@${name}:a.example` as UserId)),
    );
    expect(exist.filter(Boolean)).toHaveLength(1);
  });

  test('ends when the token expires', async () => {
    const { accounts, clock } = accountService({ registration: 'token' });
    const token = await accounts.registration.issueToken({ usesLeft: null, expires: clock.wall() + 1000 });
    clock.advanceTo(999);
    expect(await accounts.registration.isTokenValid(token)).toBe(true);
    clock.advanceTo(1000);
    expect(await accounts.registration.isTokenValid(token)).toBe(false);
    expect(await attempt(accounts, 'alice', token)).toMatchObject({
      kind: 'challenge',
      body: { errcode: 'M_FORBIDDEN' },
    });
  });

  test.each([
    ['no token', undefined, 'm.login.registration_token'],
    ['an unknown token', 'guess', 'm.login.registration_token'],
    ['another stage', 'guess', 'm.login.dummy'],
  ])('is refused with %s', async (_, token, type) => {
    const { accounts } = accountService({ registration: 'token' });
    expect(await attempt(accounts, 'alice', token, type)).toMatchObject({ kind: 'challenge' });
    expect(await accounts.localUserExists(alice)).toBe(false);
  });
});

describe('login', () => {
  test.each(['alice', 'Alice', '@alice:a.example'])('takes %s and the password', async (name) => {
    const { accounts } = accountService();
    await register(accounts, 'alice');
    const session = await accounts.login(name, 'wonderland', {});
    expect(await accounts.sessions.authenticate(session.accessToken)).toEqual({
      user: alice,
      device: session.device,
    });
  });

  test.each([
    ['alice', 'wrong'],
    ['alice', ''],
    ['nobody', 'wonderland'],
    ['@alice:b.example', 'wonderland'],
    ['', 'wonderland'],
  ])('refuses %j with %j in the same words', async (name, password) => {
    const { accounts } = accountService();
    await register(accounts, 'alice');
    await expect(accounts.login(name, password, {})).rejects.toMatchObject({
      status: 403,
      errcode: 'M_FORBIDDEN',
      message: 'The user or the password is wrong.',
    });
  });

  test('costs one hash, also for a user that does not exist', async () => {
    const work = new CountingWork();
    const { accounts } = accountService({ work });
    await register(accounts, 'alice');
    for (const name of ['alice', 'nobody', '@alice:b.example']) {
      const before = work.runs;
      await accounts.login(name, 'wrong', {}).catch(() => undefined);
      expect(work.runs - before).toBe(1);
    }
  });

  test('with a device id takes the place of the login before on that device', async () => {
    const { accounts } = accountService();
    await register(accounts, 'alice');
    const first = await accounts.login('alice', 'wonderland', { deviceId: 'PHONE' });
    const other = await accounts.login('alice', 'wonderland', { deviceId: 'LAPTOP' });
    const second = await accounts.login('alice', 'wonderland', { deviceId: 'PHONE' });
    expect(await accounts.sessions.authenticate(first.accessToken)).toBeUndefined();
    expect(await accounts.sessions.authenticate(other.accessToken)).toMatchObject({ device: 'LAPTOP' });
    expect(await accounts.sessions.authenticate(second.accessToken)).toMatchObject({ device: 'PHONE' });
  });

  test.each(['', 'x'.repeat(256), '\ud800'])('refuses the device id %j', async (deviceId) => {
    const { accounts } = accountService();
    await register(accounts, 'alice');
    await expect(accounts.login('alice', 'wonderland', { deviceId })).rejects.toMatchObject({
      errcode: 'M_INVALID_PARAM',
    });
  });

  test('with a password that is replaced while it is checked is refused', async () => {
    const { accounts } = accountService();
    const phone = await register(accounts, 'alice');
    // Hashes take turns: the new password is hashed first, and stored while the old one is being checked.
    const changed = accounts.setPassword(phone, 'looking glass', 'others');
    const login = accounts.login('alice', 'wonderland', {});
    await expect(login).rejects.toMatchObject({ errcode: 'M_FORBIDDEN' });
    await changed;
  });

  test('the same password in another Unicode form is the same', async () => {
    const { accounts } = accountService();
    await register(accounts, 'alice', 'caf\u00e9 noir');
    expect((await accounts.login('alice', 'cafe\u0301 noir', {})).user).toBe(alice);
  });
});

describe('the end of a session', () => {
  test('logout takes one device, logout of all takes every one of that user', async () => {
    const { accounts } = accountService();
    const bob = await register(accounts, 'bob');
    const [one, two, three] = [
      await register(accounts, 'alice'),
      await accounts.login('alice', 'wonderland', {}),
      await accounts.login('alice', 'wonderland', {}),
    ];
    await accounts.sessions.logout(one);
    expect(await accounts.sessions.authenticate(one.accessToken)).toBeUndefined();
    expect(await accounts.sessions.authenticate(two.accessToken)).toBeDefined();
    await accounts.sessions.logoutAll(two);
    expect(await accounts.sessions.authenticate(two.accessToken)).toBeUndefined();
    expect(await accounts.sessions.authenticate(three.accessToken)).toBeUndefined();
    expect(await accounts.sessions.authenticate(bob.accessToken)).toMatchObject({ user: '@bob:a.example' });
  });

  test('a new password replaces the old one and logs the other devices out', async () => {
    const { accounts } = accountService();
    const phone = await register(accounts, 'alice');
    const laptop = await accounts.login('alice', 'wonderland', {});
    await accounts.setPassword(phone, 'looking glass', 'others');
    expect(await accounts.sessions.authenticate(phone.accessToken)).toBeDefined();
    expect(await accounts.sessions.authenticate(laptop.accessToken)).toBeUndefined();
    await expect(accounts.login('alice', 'wonderland', {})).rejects.toMatchObject({ errcode: 'M_FORBIDDEN' });
    expect((await accounts.login('alice', 'looking glass', {})).user).toBe(alice);
  });

  test('only the own name and password confirm what cannot be undone', async () => {
    const { accounts } = accountService();
    const session = await register(accounts, 'alice');
    await register(accounts, 'bob', 'builder');
    const proof = (user: string, password: string) => ({
      type: 'm.login.password',
      identifier: { type: 'm.id.user', user },
      password,
    });
    expect(await accounts.confirm(session, 'do it', undefined)).toMatchObject({
      flows: [{ stages: ['m.login.password'] }],
    });
    expect(await accounts.confirm(session, 'do it', proof('alice', 'wrong'))).toMatchObject({
      errcode: 'M_FORBIDDEN',
    });
    expect(await accounts.confirm(session, 'do it', proof('bob', 'builder'))).toMatchObject({
      errcode: 'M_FORBIDDEN',
    });
    expect(await accounts.confirm(session, 'do it', proof('bob', 'wonderland'))).toMatchObject({
      errcode: 'M_FORBIDDEN',
    });
    expect(await accounts.confirm(session, 'do it', proof('@alice:a.example', 'wonderland'))).toBeUndefined();
  });
});

describe('what is kept', () => {
  test('are hashes: no password and no token is in the file', async () => {
    const path = join(temporaryFolder(), 'accounts.db');
    migrate(path);
    const database = openSqlite({ path, durability: 'full' });
    const { accounts } = accountService({ database });
    const issued = await accounts.registration.issueToken({ usesLeft: null, expires: null });
    const { accessToken } = await register(accounts, 'alice', 'a-password-that-is-easy-to-find');
    await database.close();
    const file = readFileSync(path);
    expect(file.includes('@alice:a.example')).toBe(true);
    for (const secret of [issued, accessToken, 'a-password-that-is-easy-to-find']) {
      expect(file.includes(secret)).toBe(false);
    }
  });

  test('passwords as argon2id with the standard cost', async () => {
    const passwords = new Passwords({ random: seededRandom(1), work: new Work() });
    const hash = await passwords.hash('wonderland');
    expect(hash).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$/);
    expect(STANDARD_COST).toEqual({ memoryKib: 19_456, passes: 2, lanes: 1 });
    expect(await passwords.verify('wonderland', hash)).toBe(true);
    expect(await passwords.verify('Wonderland', hash)).toBe(false);
    expect(await passwords.hash('wonderland')).not.toBe(hash);
  });

  test('passwords that another implementation of argon2id has hashed are verified', async () => {
    // Made with another implementation (hash-wasm 4.12), with sixteen bytes 01 as salt.
    const hash =
      '$argon2id$v=19$m=19456,t=2,p=1$AQEBAQEBAQEBAQEBAQEBAQ$r6Ti9GwtcnKmm2KTdF3a4uRp5AMg1kWkR5BUSDDUA+Y';
    const passwords = new Passwords({ random: seededRandom(1), work: new Work(), cost: CHEAP });
    expect(await passwords.verify('secretpassword', hash)).toBe(true);
    expect(await passwords.verify('secretpasswore', hash)).toBe(false);
    for (const broken of ['', 'x', hash.replace('v=19', 'v=16'), hash.replace('argon2id', 'argon2i')])
      expect(await passwords.verify('secretpassword', broken)).toBe(false);
  });

  test('devices belong to their user alone', async () => {
    const { accounts } = accountService();
    const mine = await accounts.registration.register({
      username: 'alice',
      password: 'x',
      auth: dummy,
      deviceId: 'SAME',
    });
    const other = await accounts.registration.register({
      username: 'bob',
      password: 'y',
      auth: dummy,
      deviceId: 'SAME',
    });
    if (mine.kind !== 'registered' || other.kind !== 'registered') throw new Error('not registered');
    await accounts.sessions.logout({ user: '@bob:a.example' as UserId, device: 'SAME' as DeviceId });
    expect(await accounts.sessions.authenticate(mine.session!.accessToken)).toBeDefined();
    expect(await accounts.sessions.authenticate(other.session!.accessToken)).toBeUndefined();
  });
});

describe('hashing', () => {
  test('takes one password at a time, and turns away more than can wait', async () => {
    const passwords = new Passwords({ random: seededRandom(1), work: new Work(), cost: CHEAP });
    const results = await Promise.allSettled(Array.from({ length: 65 }, () => passwords.hash('x')));
    expect(results.filter((result) => result.status === 'fulfilled')).toHaveLength(64);
    expect(results[64]).toMatchObject({ reason: { status: 429, errcode: 'M_LIMIT_EXCEEDED' } });
    await expect(passwords.hash('x')).resolves.toMatch(/argon2id/);
  });

  test('leaves room for others where one place asks for many', async () => {
    const passwords = new Passwords({ random: seededRandom(1), work: new Work(), cost: CHEAP });
    const from = (place: string, count: number) =>
      Promise.allSettled(Array.from({ length: count }, () => passwords.verify('x', undefined, place)));
    const [many, one] = await Promise.all([from('there', 20), from('here', 1)]);
    expect(many.filter(({ status }) => status === 'fulfilled')).toHaveLength(8);
    expect(one).toEqual([{ status: 'fulfilled', value: false }]);
    expect((await from('there', 8)).filter(({ status }) => status === 'fulfilled')).toHaveLength(8);
  });

  test('does not hold this thread', async () => {
    const passwords = new Passwords({ random: seededRandom(1), work: new Work() });
    let turns = 0;
    let isDone = false;
    const hashing = passwords.hash('x').then(() => {
      isDone = true;
    });
    for (; !isDone; turns++) await new Promise((resolve) => setImmediate(resolve));
    await hashing;
    expect(turns).toBeGreaterThan(10);
  });

  test('holds virtual time until it is done', async () => {
    const time = new VirtualTime();
    const { accounts } = accountService({ clock: time.clock, work: time.work });
    time.clock.after(1, () => undefined);
    const session = await time.until(register(accounts, 'alice'), 0);
    expect(session.user).toBe(alice);
    expect(time.clock.monotonic()).toBe(0);
  });
});

class CountingWork extends Work {
  runs = 0;

  override run<T>(task: () => Promise<T>): Promise<T> {
    this.runs++;
    return super.run(task);
  }
}
