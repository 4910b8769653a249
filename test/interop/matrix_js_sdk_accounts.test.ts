import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type AuthDict, createClient, type MatrixClient, Method } from 'matrix-js-sdk';
import { InteractiveAuth } from 'matrix-js-sdk/lib/interactive-auth.js';
import type { Logger } from 'matrix-js-sdk/lib/logger.js';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { completeConfig } from '../../src/server/config.ts';
import { openServer, type RunningServer } from '../../src/server/open.ts';

/*
 * Accounts as the client library that Element is built on goes through them, with its own machine for user-interactive
 * authentication. One after another: each case goes on with what the one before has left.
 */

/** The library logs every request. */
const quiet: Logger = {
  trace: () => undefined,
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  getChild: () => quiet,
};

const PASSWORD = 'a long enough password';
const TERMS = {
  privacy_policy: {
    version: '1.0',
    documents: { en: { name: 'Privacy policy', url: 'https://a.example/privacy.html' } },
  },
};

let folder: string;
let server: RunningServer;
let baseUrl: string;
let alice: MatrixClient;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ravine-js-sdk-accounts-'));
  const config = {
    server_name: 'alpha.test',
    data: join(folder, 'alpha'),
    log: { level: 'silent' },
    coap: { enabled: false },
    http: { listen: [{ host: '127.0.0.1', port: 0 }] },
    registration: { mode: 'token', terms: TERMS },
  };
  server = await openServer(completeConfig(config, folder));
  baseUrl = `http://127.0.0.1:${server.http[0]!.port}`;
});

afterAll(async () => {
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** Has the library do a request that needs further proof. @returns the result, and the stages that it went through */
async function interactively<T>(
  client: MatrixClient,
  doRequest: (auth: AuthDict | null) => Promise<T>,
  proofs: Readonly<Record<string, object>>,
): Promise<{ readonly result: T; readonly stages: readonly string[] }> {
  const stages: string[] = [];
  const auth = new InteractiveAuth<T>({
    matrixClient: client,
    doRequest,
    stateUpdated: (stage) => {
      stages.push(stage);
      void auth.submitAuthDict({ ...proofs[stage], type: stage });
    },
    requestEmailToken: () => Promise.reject(new Error('no email address is asked for')),
  });
  return { result: await auth.attemptAuth(), stages };
}

const passwordProof = (user: string) => ({
  'm.login.password': { identifier: { type: 'm.id.user', user }, password: PASSWORD },
});

const clientOf = (login: { user_id: string; access_token: string; device_id: string }): MatrixClient =>
  createClient({
    ...{ baseUrl, logger: quiet, userId: login.user_id, deviceId: login.device_id },
    accessToken: login.access_token,
  });

const failure = (request: Promise<unknown>) =>
  request.then(
    () => undefined,
    (error: { httpStatus?: number; errcode?: string; data?: object }) => error,
  );

it('registers with a token and terms', async () => {
  const token = await server.homeserver.accounts.registration.issueToken({ usesLeft: 1, expires: null });
  const anonymous = createClient({ baseUrl, logger: quiet });
  expect(await anonymous.isUsernameAvailable('alice')).toBe(true);
  const { result, stages } = await interactively(
    anonymous,
    (auth) =>
      anonymous.registerRequest({
        ...{ username: 'alice', password: PASSWORD, refresh_token: true },
        ...(auth && { auth }),
      }),
    { 'm.login.registration_token': { token }, 'm.login.terms': {} },
  );
  expect(stages).toEqual(['m.login.registration_token', 'm.login.terms']);
  alice = clientOf(result as { user_id: string; access_token: string; device_id: string });
  expect(await alice.whoami()).toMatchObject({ user_id: '@alice:alpha.test' });
  expect(await anonymous.isUsernameAvailable('alice')).toBe(false);
});

it('logs in, and refreshes its token while it goes on', async () => {
  const anonymous = createClient({ baseUrl, logger: quiet });
  const login = await anonymous.loginRequest({
    type: 'm.login.password',
    ...passwordProof('alice')['m.login.password'],
    refresh_token: true,
  });
  expect(login.expires_in_ms).toBeGreaterThan(0);
  const refreshed = await anonymous.refreshToken(login.refresh_token!);
  const client = clientOf({ ...login, access_token: refreshed.access_token });
  expect(await client.whoami()).toMatchObject({ device_id: login.device_id });
  expect(await failure(clientOf(login).whoami())).toMatchObject({ errcode: 'M_UNKNOWN_TOKEN' });
  expect(await failure(anonymous.refreshToken(login.refresh_token!))).toMatchObject({
    httpStatus: 401,
    errcode: 'M_UNKNOWN_TOKEN',
  });
});

it('logs another device in with a token, and out again with the password', async () => {
  const { result } = await interactively(
    alice,
    (auth) => alice.requestLoginToken(auth ?? undefined),
    passwordProof('alice'),
  );
  const { login_token: token } = result as { login_token: string };
  const login = await createClient({ baseUrl, logger: quiet }).loginRequest({ type: 'm.login.token', token });
  const tablet = clientOf(login);
  await tablet.setDeviceDetails(login.device_id, { display_name: 'Tablet' });
  const { devices } = await alice.getDevices();
  expect(devices.find(({ device_id: id }) => id === login.device_id)).toMatchObject({
    display_name: 'Tablet',
    last_seen_ip: '127.0.0.1',
    last_seen_ts: expect.any(Number),
  });
  await interactively(
    alice,
    (auth) => alice.deleteMultipleDevices([login.device_id], auth ?? undefined),
    passwordProof('alice'),
  );
  expect(await failure(tablet.whoami())).toMatchObject({ errcode: 'M_UNKNOWN_TOKEN' });
});

it('is told what it can do, and who it is to others', async () => {
  expect(await alice.fetchCapabilities()).toMatchObject({
    'm.get_login_token': { enabled: true },
    'm.3pid_changes': { enabled: false },
  });
  expect(await alice.getThreePids()).toEqual({ threepids: [] });
  const openId = await alice.getOpenIdToken();
  const answer = await fetch(
    `${baseUrl}/_matrix/federation/v1/openid/userinfo?access_token=${openId.access_token}`,
  );
  expect(await answer.json()).toEqual({ sub: '@alice:alpha.test' });
});

it('is locked and suspended by an administrator, and goes on where that ends', async () => {
  await server.homeserver.accounts.create('root', PASSWORD, { admin: true });
  const anonymous = createClient({ baseUrl, logger: quiet });
  const root = clientOf(
    await anonymous.loginRequest({ type: 'm.login.password', ...passwordProof('root')['m.login.password'] }),
  );
  const restrict = (kind: 'lock' | 'suspend', body: object) =>
    root.http.authedRequest(Method.Put, `/admin/${kind}/@alice:alpha.test`, undefined, body, {
      prefix: '/_matrix/client/v1',
      priority: 'auto',
    });
  await restrict('lock', { locked: true });
  expect(await failure(alice.whoami())).toMatchObject({
    httpStatus: 401,
    errcode: 'M_USER_LOCKED',
    data: { soft_logout: true },
  });
  await restrict('lock', { locked: false });
  await restrict('suspend', { suspended: true });
  expect(await alice.whoami()).toMatchObject({ user_id: '@alice:alpha.test' });
  expect(await failure(alice.createRoom({}))).toMatchObject({ httpStatus: 403, errcode: 'M_USER_SUSPENDED' });
  await restrict('suspend', { suspended: false });
  expect(await alice.createRoom({})).toHaveProperty('room_id');
});

it('is deactivated, for ever', async () => {
  const { result } = await interactively(
    alice,
    (auth) => alice.deactivateAccount(auth ?? undefined, true),
    passwordProof('alice'),
  );
  expect(result).toEqual({ id_server_unbind_result: 'success' });
  expect(await failure(alice.whoami())).toMatchObject({ errcode: 'M_UNKNOWN_TOKEN' });
  const login = { type: 'm.login.password', ...passwordProof('alice')['m.login.password'] } as const;
  expect(await failure(createClient({ baseUrl, logger: quiet }).loginRequest(login))).toMatchObject({
    httpStatus: 403,
    errcode: 'M_FORBIDDEN',
  });
});
