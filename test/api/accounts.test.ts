import type { FastifyInstance, InjectOptions } from 'fastify';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createApp } from '../../src/api/app.ts';
import { accountRoutes } from '../../src/api/client/account.ts';
import { capabilityRoutes } from '../../src/api/client/capabilities.ts';
import { deviceRoutes } from '../../src/api/client/devices.ts';
import { filterRoutes } from '../../src/api/client/filter.ts';
import { loginRoutes } from '../../src/api/client/login.ts';
import { logoutRoutes } from '../../src/api/client/logout.ts';
import { profileRoutes } from '../../src/api/client/profile.ts';
import { pushRuleRoutes } from '../../src/api/client/push_rules.ts';
import { registerRoutes } from '../../src/api/client/register.ts';
import { wellKnownRoutes } from '../../src/api/client/well_known.ts';
import { Deactivation } from '../../src/homeserver/deactivation.ts';
import { Devices } from '../../src/homeserver/devices.ts';
import { Filters } from '../../src/homeserver/filters.ts';
import { Moderation } from '../../src/homeserver/moderation.ts';
import { Profiles } from '../../src/homeserver/profiles.ts';
import { PushRules } from '../../src/homeserver/push/push_rules.ts';
import { type AccountServiceOptions, accountService } from '../homeserver/account_service.ts';
import { noWarnings } from '../homeserver/no_warnings.ts';

interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown>;
}

/** An app with every route of accounts, and how a client calls it. */
async function server(options: AccountServiceOptions = {}, publicBaseUrl: string | null = null) {
  const { accounts, database, clock } = accountService(options);
  const app: FastifyInstance = createApp({
    clock,
    authenticate: (token) => accounts.sessions.authenticate(token),
  });
  onTestFinished(() => app.close());
  const profiles = new Profiles({ database, clock, log: noWarnings });
  registerRoutes(app, { accounts });
  loginRoutes(app, { accounts });
  logoutRoutes(app, { accounts });
  const deactivation = new Deactivation({
    log: { warn: () => {} },
    database,
    clock,
    leave: async () => undefined,
  });
  accountRoutes(app, { accounts, deactivation });
  deviceRoutes(app, { accounts, devices: new Devices({ database }) });
  const remoteProfiles = { profile: async () => ({}) };
  profileRoutes(app, { profiles, remoteProfiles, serverName: accounts.serverName });
  filterRoutes(app, { filters: new Filters({ database }) });
  const notifier = { published: () => undefined };
  const recipients = { changed: () => undefined };
  pushRuleRoutes(app, { pushRules: new PushRules({ database, notifier, recipients }) });
  capabilityRoutes(app, { moderation: new Moderation({ database, serverName: accounts.serverName }) });
  wellKnownRoutes(app, { publicBaseUrl, server: null, support_page: null, contacts: [] });
  await app.ready();

  const call = async (
    method: 'GET' | 'POST' | 'PUT' | 'DELETE',
    path: string,
    { token, body }: { token?: string | undefined; body?: object } = {},
  ): Promise<Answer> => {
    const request: InjectOptions = {
      method,
      url: path.startsWith('/') ? path : `/_matrix/client/v3/${path}`,
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
    };
    if (body !== undefined) request.payload = body;
    const response = await app.inject(request);
    return { status: response.statusCode, body: response.json() };
  };
  const register = async (username: string): Promise<string> => {
    const auth = { type: 'm.login.dummy' };
    const { body } = await call('POST', 'register', { body: { username, password: 'secret', auth } });
    return body.access_token as string;
  };
  return { call, register, accounts };
}

const password = (user: string, secret: string) => ({
  type: 'm.login.password',
  identifier: { type: 'm.id.user', user },
  password: secret,
});

describe('a stranger who tries many names from one address', () => {
  test.each([
    ['login', (i: number) => password(`user${i}`, ''), 403],
    ['register', (i: number) => ({ username: `not valid ${i}`, password: '' }), 400],
    ['account/password', () => ({ new_password: 'x' }), 401],
  ] as const)('is held to a rate by %s, and only there', async (path, body, status) => {
    const { call, register } = await server();
    const token = await register('alice');
    const statuses: number[] = [];
    for (let i = 0; i < 101; i++) statuses.push((await call('POST', path, { token, body: body(i) })).status);
    expect(statuses.slice(0, 99)).toEqual(Array(99).fill(status));
    expect(statuses.at(-1)).toBe(429);
    expect((await call('GET', 'account/whoami', { token })).status).toBe(200);
  });
});

describe('a new user', () => {
  test('registers in two requests and is who it says', async () => {
    const { call } = await server();
    const request = {
      username: 'alice',
      password: 'secret',
      device_id: 'PHONE',
      initial_device_display_name: 'My phone',
    };
    const first = await call('POST', 'register', { body: request });
    expect(first).toEqual({
      status: 401,
      body: { flows: [{ stages: ['m.login.dummy'] }], params: {}, session: expect.any(String) },
    });
    const auth = { type: 'm.login.dummy', session: first.body.session };
    const second = await call('POST', 'register', { body: { ...request, auth } });
    expect(second).toEqual({
      status: 200,
      body: { user_id: '@alice:a.example', device_id: 'PHONE', access_token: expect.any(String) },
    });
    const token = second.body.access_token as string;
    expect((await call('GET', 'account/whoami', { token })).body).toEqual({
      user_id: '@alice:a.example',
      device_id: 'PHONE',
      is_guest: false,
    });
    expect((await call('GET', 'devices', { token })).body).toEqual({
      devices: [
        {
          device_id: 'PHONE',
          display_name: 'My phone',
          last_seen_ip: '127.0.0.1',
          last_seen_ts: expect.any(Number),
        },
      ],
    });
  });

  test('gets no token with inhibit_login', async () => {
    const { call } = await server();
    const body = {
      username: 'alice',
      password: 'secret',
      inhibit_login: true,
      auth: { type: 'm.login.dummy' },
    };
    expect(await call('POST', 'register', { body })).toEqual({
      status: 200,
      body: { user_id: '@alice:a.example' },
    });
  });

  test('asks whether a name is free', async () => {
    const { call, register } = await server();
    await register('alice');
    expect(await call('GET', 'register/available?username=bob')).toEqual({
      status: 200,
      body: { available: true },
    });
    expect(await call('GET', 'register/available?username=alice')).toMatchObject({
      status: 400,
      body: { errcode: 'M_USER_IN_USE' },
    });
    expect(await call('GET', 'register/available?username=A%20B')).toMatchObject({
      body: { errcode: 'M_INVALID_USERNAME' },
    });
    expect(await call('GET', 'register/available')).toMatchObject({
      status: 400,
      body: { errcode: 'M_MISSING_PARAM' },
    });
  });

  test('asks whether a registration token is valid', async () => {
    const path = '/_matrix/client/v1/register/m.login.registration_token/validity';
    const { call, accounts } = await server({ registration: 'token' });
    const token = await accounts.registration.issueToken({ usesLeft: 1, expires: null });
    expect((await call('GET', `${path}?token=${token}`)).body).toEqual({ valid: true });
    expect((await call('GET', `${path}?token=guess`)).body).toEqual({ valid: false });
    const closed = await server({ registration: 'closed' });
    expect(await closed.call('GET', `${path}?token=x`)).toMatchObject({
      status: 403,
      body: { errcode: 'M_FORBIDDEN' },
    });
  });

  test.each([
    ['?kind=guest', {}, 403, 'M_FORBIDDEN'],
    ['', { username: 7 }, 400, 'M_BAD_JSON'],
    ['', { auth: 'm.login.dummy' }, 400, 'M_BAD_JSON'],
    ['', { auth: { type: 'm.login.dummy' } }, 400, 'M_MISSING_PARAM'],
  ])('is refused with register%s %j', async (query, body, status, errcode) => {
    const { call } = await server();
    expect(await call('POST', `register${query}`, { body })).toMatchObject({ status, body: { errcode } });
  });
});

describe('login', () => {
  test('is offered with a password, and with a token that another device has got', async () => {
    const { call } = await server();
    expect((await call('GET', 'login')).body).toEqual({
      flows: [{ type: 'm.login.password' }, { type: 'm.login.token', get_login_token: true }],
    });
  });

  test('takes the identifier, and the key that it replaced', async () => {
    const { call, register } = await server();
    await register('alice');
    for (const body of [
      password('alice', 'secret'),
      { type: 'm.login.password', user: '@alice:a.example', password: 'secret' },
    ]) {
      expect(await call('POST', 'login', { body })).toEqual({
        status: 200,
        body: {
          user_id: '@alice:a.example',
          device_id: expect.any(String),
          access_token: expect.any(String),
        },
      });
    }
  });

  test.each([
    [password('alice', 'wrong'), 403, 'M_FORBIDDEN'],
    [{ ...password('alice', 'secret'), identifier: { type: 'm.id.thirdparty' } }, 403, 'M_FORBIDDEN'],
    [{ type: 'm.login.token', token: 'x' }, 403, 'M_FORBIDDEN'],
    [{ type: 'm.login.token' }, 400, 'M_MISSING_PARAM'],
    [{ type: 'm.login.sso' }, 400, 'M_UNKNOWN'],
    [{ type: 'm.login.password', medium: 'email', address: 'a@b', password: 'x' }, 403, 'M_FORBIDDEN'],
    [{ type: 'm.login.password', user: 'alice' }, 400, 'M_MISSING_PARAM'],
    [{ type: 'm.login.password', password: 'secret' }, 400, 'M_MISSING_PARAM'],
    [{}, 400, 'M_BAD_JSON'],
  ])('refuses %j', async (body, status, errcode) => {
    const { call, register } = await server();
    await register('alice');
    expect(await call('POST', 'login', { body })).toMatchObject({ status, body: { errcode } });
  });

  test('ends with logout, which needs no body', async () => {
    const { call, register } = await server();
    const token = await register('alice');
    expect(await call('POST', 'logout', { token })).toEqual({ status: 200, body: {} });
    expect(await call('GET', 'account/whoami', { token })).toMatchObject({
      status: 401,
      body: { errcode: 'M_UNKNOWN_TOKEN', soft_logout: false },
    });
    expect(await call('POST', 'logout')).toMatchObject({ status: 401, body: { errcode: 'M_MISSING_TOKEN' } });
    const second = (await call('POST', 'login', { body: password('alice', 'secret') })).body
      .access_token as string;
    expect(await call('POST', 'logout/all', { token: second, body: {} })).toEqual({ status: 200, body: {} });
    expect((await call('GET', 'account/whoami', { token: second })).status).toBe(401);
  });

  test('takes a new password after it was set', async () => {
    const { call, register } = await server();
    const token = await register('alice');
    const body = { new_password: 'better' };
    expect((await call('POST', 'account/password', { token, body })).status).toBe(401);
    const auth = password('alice', 'secret');
    expect(await call('POST', 'account/password', { token, body: { ...body, auth } })).toEqual({
      status: 200,
      body: {},
    });
    expect((await call('POST', 'login', { body: password('alice', 'secret') })).status).toBe(403);
    expect((await call('POST', 'login', { body: password('alice', 'better') })).status).toBe(200);
  });
});

describe('devices', () => {
  test('can be read, named and deleted with the password', async () => {
    const { call, register } = await server();
    const token = await register('alice');
    const other = (
      await call('POST', 'login', { body: { ...password('alice', 'secret'), device_id: 'a/b' } })
    ).body;
    const path = 'devices/a%2Fb';
    expect(await call('PUT', path, { token, body: { display_name: 'Tablet' } })).toEqual({
      status: 200,
      body: {},
    });
    expect((await call('GET', path, { token })).body).toEqual({
      device_id: 'a/b',
      display_name: 'Tablet',
      last_seen_ip: '127.0.0.1',
      last_seen_ts: expect.any(Number),
    });
    expect(await call('DELETE', path, { token })).toMatchObject({
      status: 401,
      body: { flows: expect.any(Array) },
    });
    const wrong = await call('DELETE', path, { token, body: { auth: password('alice', 'wrong') } });
    expect(wrong).toMatchObject({ status: 401, body: { errcode: 'M_FORBIDDEN', flows: expect.any(Array) } });
    expect((await call('GET', 'account/whoami', { token: other.access_token as string })).status).toBe(200);
    expect((await call('DELETE', path, { token, body: { auth: password('alice', 'secret') } })).status).toBe(
      200,
    );
    expect((await call('GET', 'account/whoami', { token: other.access_token as string })).status).toBe(401);
    expect(await call('GET', path, { token })).toMatchObject({
      status: 404,
      body: { errcode: 'M_NOT_FOUND' },
    });
    expect((await call('PUT', path, { token, body: { display_name: 'x' } })).status).toBe(404);
  });

  test('can be deleted several at once, and only the own ones', async () => {
    const { call, register } = await server();
    const token = await register('alice');
    const bob = await register('bob');
    const bobs = (await call('GET', 'account/whoami', { token: bob })).body.device_id;
    const own = (await call('GET', 'account/whoami', { token })).body.device_id;
    const body = { devices: [own, bobs], auth: password('alice', 'secret') };
    expect((await call('POST', 'delete_devices', { token, body })).status).toBe(200);
    expect((await call('GET', 'account/whoami', { token })).status).toBe(401);
    expect((await call('GET', 'account/whoami', { token: bob })).status).toBe(200);
  });
});

describe('profiles', () => {
  test('are set by their owner and read by anybody', async () => {
    const { call, register } = await server();
    const token = await register('alice');
    const path = `profile/${encodeURIComponent('@alice:a.example')}`;
    expect(await call('GET', path)).toEqual({ status: 200, body: {} });
    expect(
      (await call('PUT', `${path}/displayname`, { token, body: { displayname: 'Alice' } })).body,
    ).toEqual({});
    expect(
      (await call('PUT', `${path}/avatar_url`, { token, body: { avatar_url: 'mxc://a.example/x' } })).status,
    ).toBe(200);
    expect((await call('GET', path)).body).toEqual({ displayname: 'Alice', avatar_url: 'mxc://a.example/x' });
    expect((await call('GET', `${path}/displayname`)).body).toEqual({ displayname: 'Alice' });
    expect((await call('DELETE', `${path}/displayname`, { token })).status).toBe(200);
    expect(await call('GET', `${path}/displayname`)).toMatchObject({
      status: 404,
      body: { errcode: 'M_NOT_FOUND' },
    });
  });

  test.each([
    ['PUT', '@bob:a.example/displayname', { displayname: 'x' }, 403, 'M_FORBIDDEN'],
    ['PUT', '@alice:a.example/displayname', {}, 400, 'M_MISSING_PARAM'],
    ['PUT', '@alice:a.example/displayname', { displayname: null }, 400, 'M_BAD_JSON'],
    ['GET', '@nobody:a.example', undefined, 404, 'M_NOT_FOUND'],
    ['GET', 'alice', undefined, 400, 'M_INVALID_PARAM'],
  ] as const)('%s profile/%s %j is refused', async (method, path, body, status, errcode) => {
    const { call, register } = await server();
    const token = await register('alice');
    const answer = await call(method, `profile/${path}`, { token, ...(body === undefined ? {} : { body }) });
    expect(answer).toMatchObject({ status, body: { errcode } });
  });
});

describe('what a client asks first', () => {
  test('where the server is, where that is configured', async () => {
    const configured = await server({}, 'https://matrix.a.example');
    expect((await configured.call('GET', '/.well-known/matrix/client')).body).toEqual({
      'm.homeserver': { base_url: 'https://matrix.a.example' },
    });
    const plain = await server();
    expect(await plain.call('GET', '/.well-known/matrix/client')).toMatchObject({
      status: 404,
      body: { errcode: 'M_NOT_FOUND' },
    });
  });

  test('capabilities', async () => {
    const { call, register } = await server();
    const token = await register('alice');
    expect((await call('GET', 'capabilities', { token })).body).toMatchObject({
      capabilities: {
        'm.room_versions': { default: '12', available: { '12': 'stable' } },
        'm.get_login_token': { enabled: true },
      },
    });
    expect((await call('GET', 'capabilities')).status).toBe(401);
  });

  test('push rules, whole and one by one', async () => {
    const { call, register } = await server();
    const token = await register('alice');
    const all = (await call('GET', 'pushrules/', { token })).body as {
      global: { override: { rule_id: string }[] };
    };
    expect(all.global.override[0]).toMatchObject({ rule_id: '.m.rule.master', enabled: false });
    expect((await call('GET', 'pushrules/global/', { token })).body).toEqual(all.global);
    expect((await call('GET', 'pushrules/global/override/.m.rule.master', { token })).body).toEqual(
      all.global.override[0],
    );
    expect((await call('GET', 'pushrules/global/underride/.m.rule.call/enabled', { token })).body).toEqual({
      enabled: true,
    });
    expect((await call('GET', 'pushrules/global/underride/.m.rule.message/actions', { token })).body).toEqual(
      {
        actions: ['notify'],
      },
    );
    for (const path of ['override/.m.rule.call', 'other/.m.rule.call']) {
      expect(await call('GET', `pushrules/global/${path}`, { token })).toMatchObject({
        status: 404,
        body: { errcode: 'M_NOT_FOUND' },
      });
    }
  });

  test('its filter, which it has uploaded', async () => {
    const { call, register } = await server();
    const token = await register('alice');
    const path = 'user/@alice:a.example/filter';
    const body = { room: { timeline: { limit: 20 }, state: { lazy_load_members: true } } };
    const id = (await call('POST', path, { token, body })).body.filter_id as string;
    expect((await call('GET', `${path}/${id}`, { token })).body).toEqual(body);
    expect(await call('GET', `${path}/404`, { token })).toMatchObject({
      status: 404,
      body: { errcode: 'M_NOT_FOUND' },
    });
    const bad = { room: { timeline: { limit: '20' } } };
    expect(await call('POST', path, { token, body: bad })).toMatchObject({
      status: 400,
      body: { errcode: 'M_BAD_JSON' },
    });
    const bob = await register('bob');
    expect(await call('GET', `${path}/${id}`, { token: bob })).toMatchObject({
      status: 403,
      body: { errcode: 'M_FORBIDDEN' },
    });
  });
});
