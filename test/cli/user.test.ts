import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { JsonObject } from '../../src/matrix/json.ts';
import { readConfig } from '../../src/server/config.ts';
import { openServer, type RunningServer } from '../../src/server/open.ts';
import { DeviceOwner } from '../homeserver/keys/key_owner.ts';
import { type Ran, ravine, ravineTold } from './run.ts';

/* A server that runs in this process, and the commands beside it, each in a process of its own. */

const HERE = 'here.test';

const folder = mkdtempSync(join(tmpdir(), 'ravine-user-'));
const config = join(folder, 'ravine.json');

let server: RunningServer;

beforeAll(async () => {
  writeFileSync(
    config,
    JSON.stringify({
      server_name: HERE,
      data: 'data',
      registration: 'token',
      http: { listen: [] },
      coap: { enabled: false },
      log: { level: 'silent' },
    }),
  );
  server = await openServer(readConfig(config));
});

afterAll(async () => {
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
});

const user = (...args: readonly string[]): Promise<Ran> => ravine('user', ...args, '--config', config);
const token = (...args: readonly string[]): Promise<Ran> => ravine('token', ...args, '--config', config);

/** What a command prints with --json. */
async function json(outcome: Promise<Ran>): Promise<JsonObject> {
  const { code, stdout, stderr } = await outcome;
  expect([code, stderr]).toEqual([0, '']);
  return JSON.parse(stdout) as JsonObject;
}

async function post(
  path: string,
  payload: object,
  access?: string,
): Promise<JsonObject & { readonly status: number }> {
  const answer = await server.homeserver.app.inject({
    method: 'POST',
    url: `/_matrix/client/v3/${path}`,
    payload,
    ...(access !== undefined && { headers: { authorization: `Bearer ${access}` } }),
  });
  return { status: answer.statusCode, ...answer.json<JsonObject>() };
}

const logIn = (name: string, password: string) =>
  post('login', { type: 'm.login.password', identifier: { type: 'm.id.user', user: name }, password });

const whoami = (access: unknown) => get('account/whoami', access);

async function get(path: string, access: unknown): Promise<JsonObject & { readonly status: number }> {
  const answer = await server.homeserver.app.inject({
    url: `/_matrix/client/v3/${path}`,
    headers: { authorization: `Bearer ${String(access)}` },
  });
  return { status: answer.statusCode, ...answer.json<JsonObject>() };
}

const listed = async (name: string): Promise<JsonObject | undefined> => {
  const all = (await json(user('list', '--json'))) as unknown as JsonObject[];
  return all.find((one) => one.user_id === `@${name}:${HERE}`);
};

describe('ravine user', { timeout: 60_000 }, () => {
  test('makes an account with the password on standard input, and the server lets it in', async () => {
    const added = await ravineTold('through the glass\n', 'user', 'add', 'alice', '--config', config);
    expect([added.code, added.stdout, added.stderr]).toEqual([0, 'account  @alice:here.test\n', '']);
    expect(await logIn('alice', 'through the glass')).toMatchObject({ status: 200 });
    expect(await listed('alice')).toMatchObject({
      standing: 'active',
      admin: false,
      has_password: true,
      devices: 1,
    });
    const again = await ravineTold('x\n', 'user', 'add', 'Alice', '--config', config);
    expect([again.code, again.stderr]).toEqual([1, 'ravine: @alice:here.test is there already, or was.\n']);
  });

  test('makes a password, prints it, and gives the account another one', async () => {
    const { password, admin } = await json(user('add', 'bob', '--generate', '--admin', '--json'));
    expect(admin).toBe(true);
    const { access_token: access, device_id: device } = await logIn('bob', String(password));
    expect(await whoami(access)).toMatchObject({ status: 200, user_id: '@bob:here.test' });
    const device_keys = new DeviceOwner({ id: '@bob:here.test', device: String(device) }, 1).identityKeys();
    expect(await post('keys/upload', { device_keys }, String(access))).toMatchObject({ status: 200 });
    const before = (await get('sync', access)).next_batch;

    const kept = await json(user('password', '@bob:here.test', '--generate', '--keep-devices', '--json'));
    expect(await whoami(access)).toMatchObject({ status: 200 });
    expect(await logIn('bob', String(password))).toMatchObject({ status: 403 });
    expect(await logIn('bob', String(kept.password))).toMatchObject({ status: 200 });

    const last = await json(user('password', 'bob', '--generate', '--json'));
    expect(await whoami(access)).toMatchObject({ status: 401, errcode: 'M_UNKNOWN_TOKEN' });
    expect(await listed('bob')).toMatchObject({ standing: 'active', admin: true, devices: 0 });
    const { access_token: again } = await logIn('bob', String(last.password));
    const changes = await get(`keys/changes?from=${String(before)}&to=${String(before)}`, again);
    expect(changes).toMatchObject({ changed: ['@bob:here.test'] });
    await user('admin', 'bob', '--revoke');
    expect(await listed('bob')).toMatchObject({ admin: false });
  });

  test('locks and suspends an account at once, and undoes it', async () => {
    const { password } = await json(user('add', 'carol', '--generate', '--json'));
    const { access_token: access } = await logIn('carol', String(password));
    expect((await user('lock', 'carol')).stdout).toBe('@carol:here.test is locked.\n');
    expect(await whoami(access)).toMatchObject({ status: 401, errcode: 'M_USER_LOCKED', soft_logout: true });
    await user('unlock', 'carol');
    expect(await whoami(access)).toMatchObject({ status: 200 });
    await user('suspend', 'carol');
    expect(await post('createRoom', {}, String(access))).toMatchObject({ errcode: 'M_USER_SUSPENDED' });
    expect((await user('list')).stdout).toMatch(/@carol:here\.test +suspended +1 +\d{4}-/);
    await user('unsuspend', 'carol');
    expect(await post('createRoom', {}, String(access))).toMatchObject({ status: 200 });
  });

  test('ends an account for ever', async () => {
    const { password } = await json(user('add', 'dave', '--generate', '--json'));
    const { access_token: access } = await logIn('dave', String(password));
    expect(await json(user('deactivate', 'dave', '--erase', '--json'))).toEqual({
      ...{ user_id: '@dave:here.test', deactivated: true, erased: true },
    });
    expect(await whoami(access)).toMatchObject({ status: 401, errcode: 'M_UNKNOWN_TOKEN' });
    expect(await logIn('dave', String(password))).toMatchObject({ status: 403 });
    for (const command of ['unlock', 'admin', 'deactivate', 'password'])
      expect((await user(command, 'dave')).stderr).toBe(
        'ravine: @dave:here.test is deactivated, for ever.\n',
      );
    expect((await user('add', 'dave', '--generate')).code).toBe(1);
  });

  test.each([
    ['nobody', 'There is no @nobody:here.test here.'],
    ['@alice:there.test', '@alice:there.test is no user of here.test.'],
  ])('says of %s what is wrong, and does nothing', async (name, problem) => {
    const { code, stderr } = await user('lock', name);
    expect([code, stderr]).toEqual([1, expect.stringContaining(problem)]);
  });

  test('takes no password from the command line, and none that is empty', async () => {
    const given = await user('add', 'eve', '--password', 'visible');
    expect([given.code, given.stderr]).toEqual([1, expect.stringContaining("unknown option '--password'")]);
    const empty = await ravineTold('\n', 'user', 'add', 'eve', '--config', config);
    expect([empty.code, empty.stderr]).toEqual([1, 'ravine: There is no password on standard input.\n']);
    expect(await listed('eve')).toBeUndefined();
  });
});

describe('ravine token', { timeout: 60_000 }, () => {
  const register = (username: string, given: unknown) =>
    post('register', {
      ...{ username, password: 'a long password' },
      auth: { type: 'm.login.registration_token', token: String(given) },
    });

  test('makes a token with which one account is made, and no more', async () => {
    const made = await json(token('create', '--uses', '1', '--expires', '7d', '--json'));
    expect(made).toMatchObject({ token: expect.any(String), id: expect.any(String), uses_left: 1 });
    expect(await register('frank', made.token)).toMatchObject({ status: 200 });
    expect(await register('grace', made.token)).toMatchObject({ status: 401 });
    const all = (await json(token('list', '--json'))) as unknown as JsonObject[];
    expect(all.find(({ id }) => id === made.id)).toMatchObject({ uses_left: 0, valid: false });
    expect(JSON.stringify(all)).not.toContain(String(made.token));
    expect((await token('list')).stdout).toMatch(new RegExp(`${String(made.id)} +used up +0 `));
  });

  test('takes a token back, by its id and by itself', async () => {
    const first = await json(token('create', '--json'));
    expect(await json(token('revoke', String(first.id), '--json'))).toEqual({ revoked: first.id });
    expect(await register('heidi', first.token)).toMatchObject({ status: 401 });
    const second = await json(token('create', '--json'));
    expect((await token('revoke', String(second.token))).code).toBe(0);
    expect(await register('heidi', second.token)).toMatchObject({ status: 401 });
    expect((await token('revoke', String(second.id))).code).toBe(1);
  });

  test.each(['7y', '2020-01-31'])('refuses to let one expire %s', async (when) => {
    const { code, stderr } = await token('create', '--expires', when);
    expect([code, stderr]).toEqual([1, expect.stringContaining('a day to come such as 2030-01-31')]);
  });
});
