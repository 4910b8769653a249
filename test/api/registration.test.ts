import { createHmac } from 'node:crypto';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createApp } from '../../src/api/app.ts';
import { registerRoutes } from '../../src/api/client/register.ts';
import { sharedSecretRoutes } from '../../src/api/client/shared_secret_register.ts';
import { seededRandom } from '../../src/base/random.ts';
import { SharedSecret } from '../../src/homeserver/shared_secret.ts';
import type { UserId } from '../../src/matrix/ids.ts';
import { findAccount } from '../../src/storage/accounts.ts';
import { type AccountServiceOptions, accountService } from '../homeserver/account_service.ts';
import { doorsOf, PASSWORD } from './coverage/doors.ts';

const TERMS = {
  privacy_policy: {
    version: '1.2',
    documents: {
      en: { name: 'Privacy policy', url: 'https://a.example/privacy.en.html' },
      fr: { name: 'Confidentialité', url: 'https://a.example/privacy.fr.html' },
    },
  },
};
const TERMS_PARAMS = {
  'm.login.terms': {
    policies: {
      privacy_policy: {
        version: '1.2',
        en: { name: 'Privacy policy', url: 'https://a.example/privacy.en.html' },
        fr: { name: 'Confidentialité', url: 'https://a.example/privacy.fr.html' },
      },
    },
  },
};

const SHARED_SECRET = 'of the configuration';
const { eachDoor } = doorsOf(import.meta.url, {
  registration: { mode: 'open', terms: TERMS, shared_secret: SHARED_SECRET },
});
let names = 0;
const newName = (): string => `registered-${names++}`;

eachDoor('an account is made once its terms are accepted', async (door) => {
  const nobody = door.stranger();
  const username = newName();
  const request = { username, password: PASSWORD, initial_device_display_name: 'Phone' };
  expect(await nobody.ask('GET', `/register/available?username=${username}`)).toMatchObject({
    status: 200,
    body: { available: true },
  });
  const first = await nobody.ask('POST', '/register', request);
  expect(first).toMatchObject({
    status: 401,
    body: { flows: [{ stages: ['m.login.terms'] }], params: TERMS_PARAMS },
  });
  const { session } = first.body;
  // Another stage than the next, or none, gets nobody further.
  for (const auth of [{ session }, { session, type: 'm.login.dummy' }])
    expect(await nobody.ask('POST', '/register', { ...request, auth })).toMatchObject({
      status: 401,
      body: { session },
    });
  const auth = { session, type: 'm.login.terms' };
  const made = await nobody.ask('POST', '/register', { ...request, auth });
  expect(made).toMatchObject({ status: 200, body: { user_id: `@${username}:home.example` } });
  expect(await nobody.ask('GET', `/register/available?username=${username}`)).toMatchObject({
    status: 400,
    body: { errcode: 'M_USER_IN_USE' },
  });
});

eachDoor('a name that cannot be one is refused before any proof', async (door) => {
  const nobody = door.stranger();
  for (const path of ['/register', '/register?kind=user'])
    expect(await nobody.ask('POST', path, { username: 'A B' })).toMatchObject({
      status: 400,
      body: { errcode: 'M_INVALID_USERNAME' },
    });
  expect(await nobody.ask('POST', '/register?kind=guest', {})).toMatchObject({
    status: 403,
    body: { errcode: 'M_FORBIDDEN' },
  });
  expect(await nobody.ask('POST', '/register?kind=robot', {})).toMatchObject({
    status: 400,
    body: { errcode: 'M_INVALID_PARAM' },
  });
});

eachDoor('whether a registration token is valid', async (door) => {
  const path = '/_matrix/client/v1/register/m.login.registration_token/validity';
  const token = await door.server.accounts.registration.issueToken({ usesLeft: 1, expires: null });
  const nobody = door.stranger();
  expect(await nobody.ask('GET', `${path}?token=${token}`)).toMatchObject({
    status: 200,
    body: { valid: true },
  });
  expect((await nobody.ask('GET', `${path}?token=guess`)).body).toEqual({ valid: false });
  expect(await nobody.ask('GET', path)).toMatchObject({ status: 400, body: { errcode: 'M_MISSING_PARAM' } });
});

eachDoor('a shared secret of the configuration makes accounts without terms', async (door) => {
  const path = '/_synapse/admin/v1/register';
  const nobody = door.stranger();
  const { nonce } = (await nobody.ask('GET', path)).body as { nonce: string };
  const username = newName();
  const signed = [nonce, username, PASSWORD, 'notadmin'].join('\0');
  const mac = createHmac('sha1', SHARED_SECRET).update(signed).digest('hex');
  expect(await nobody.ask('POST', path, { nonce, username, password: PASSWORD, mac })).toMatchObject({
    status: 200,
    body: { user_id: `@${username}:home.example`, access_token: expect.any(String) },
  });
});

async function app(options: AccountServiceOptions = {}) {
  const service = accountService(options);
  const { clock, accounts } = service;
  const made = createApp({ clock, authenticate: (token) => accounts.sessions.authenticate(token) });
  onTestFinished(() => made.close());
  registerRoutes(made, { accounts });
  const sharedSecret = new SharedSecret({ secret: 'shared between tools', clock, random: seededRandom(7) });
  sharedSecretRoutes(made, { accounts, sharedSecret });
  await made.ready();
  const post = async (url: string, payload: object) => {
    const answer = await made.inject({ method: 'POST', url, payload });
    return { status: answer.statusCode, body: answer.json<Record<string, unknown>>() };
  };
  return {
    ...service,
    app: made,
    post,
    register: (body: object) => post('/_matrix/client/v3/register', body),
  };
}

describe('registration with a token and terms', () => {
  const open = async () => {
    const made = await app({ registration: { mode: 'token', terms: TERMS } });
    const token = await made.accounts.registration.issueToken({ usesLeft: 1, expires: null });
    const request = { username: 'alice', password: 'secret' };
    const { body } = await made.register(request);
    return { ...made, token, request, session: body.session as string };
  };

  test('takes both stages in order, and notes which version was accepted', async () => {
    const { register, database, token, request, session } = await open();
    const stages = ['m.login.registration_token', 'm.login.terms'];
    const terms = { type: 'm.login.terms', session };
    expect(await register({ ...request, auth: terms })).toMatchObject({ status: 401, body: { session } });
    const first = { type: 'm.login.registration_token', token, session };
    const halfway = await register({ ...request, auth: first });
    expect(halfway).toMatchObject({
      status: 401,
      body: { flows: [{ stages }], completed: ['m.login.registration_token'], session },
    });
    expect(halfway.body.errcode).toBeUndefined();
    // A stage that was completed is not judged again.
    const again = await register({ ...request, auth: { ...first, token: 'guess' } });
    expect(again.body).toEqual(halfway.body);
    expect(await register({ ...request, auth: terms })).toMatchObject({ status: 200 });
    expect(await database.all('SELECT user_id, policy, version FROM accepted_terms')).toEqual([
      { user_id: '@alice:a.example', policy: 'privacy_policy', version: '1.2' },
    ]);
    // The session is of one account.
    expect((await register({ username: 'bob', password: 'x', auth: terms })).status).toBe(401);
  });

  test('says why a token is not good, and lets the client try another', async () => {
    const { register, token, request, session } = await open();
    const auth = { type: 'm.login.registration_token', token: 'guess', session };
    expect(await register({ ...request, auth })).toMatchObject({
      status: 401,
      body: { errcode: 'M_FORBIDDEN', session },
    });
    expect(await register({ ...request, auth: { ...auth, token } })).toMatchObject({
      body: { completed: ['m.login.registration_token'] },
    });
  });

  test('ends where the token is used up by somebody else meanwhile', async () => {
    const { register, accounts, token, request, session } = await open();
    await register({ ...request, auth: { type: 'm.login.registration_token', token, session } });
    const other = (await register({ username: 'bob', password: 'x' })).body.session;
    for (const auth of [{ type: 'm.login.registration_token', token }, { type: 'm.login.terms' }])
      await register({ username: 'bob', password: 'x', auth: { ...auth, session: other } });
    expect(await accounts.localUserExists('@bob:a.example' as UserId)).toBe(true);
    expect(await register({ ...request, auth: { type: 'm.login.terms', session } })).toMatchObject({
      status: 403,
      body: { errcode: 'M_FORBIDDEN' },
    });
  });

  test('lets a client correct what was wrong after the proof', async () => {
    const { register, token, session } = await open();
    const bad = { username: 'alice', password: '' };
    await register({ ...bad, auth: { type: 'm.login.registration_token', token, session } });
    expect(await register({ ...bad, auth: { type: 'm.login.terms', session } })).toMatchObject({
      status: 400,
      body: { errcode: 'M_INVALID_PARAM' },
    });
    expect(await register({ ...bad, password: 'secret', auth: { session } })).toMatchObject({ status: 200 });
  });

  test('forgets a session after half an hour', async () => {
    const { register, clock, token, request, session } = await open();
    await register({ ...request, auth: { type: 'm.login.registration_token', token, session } });
    clock.advanceTo(30 * 60_000);
    const late = await register({ ...request, auth: { type: 'm.login.terms', session } });
    expect(late.body.completed).toBeUndefined();
    expect(late.body.session).not.toBe(session);
  });

  test('is refused with 403 where registration is closed', async () => {
    const { register } = await app({ registration: 'closed' });
    expect(await register({})).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } });
  });
});

test('a client that can refresh tokens gets one with the account', async () => {
  const { register } = await app();
  const auth = { type: 'm.login.dummy' };
  const body = { username: 'alice', password: 'secret', refresh_token: true, auth };
  expect((await register(body)).body).toEqual({
    user_id: '@alice:a.example',
    device_id: expect.any(String),
    access_token: expect.any(String),
    refresh_token: expect.any(String),
    expires_in_ms: 3_600_000,
  });
});

describe('registration by a shared secret', () => {
  const PATH = '/_synapse/admin/v1/register';
  const macOf = (secret: string, ...parts: string[]): string =>
    createHmac('sha1', secret).update(parts.join('\0')).digest('hex');

  async function open() {
    const made = await app({ registration: 'closed' });
    const nonce = async (): Promise<string> =>
      (await made.app.inject({ method: 'GET', url: PATH })).json<{ nonce: string }>().nonce;
    return { ...made, nonce };
  }

  test('makes accounts and administrators, whatever the mode', async () => {
    const { post, nonce, accounts, database } = await open();
    const [one, two] = [await nonce(), await nonce()];
    const alice = { nonce: one, username: 'alice', password: 'secret', admin: false };
    const mac = macOf('shared between tools', one, 'alice', 'secret', 'notadmin');
    expect(await post(PATH, { ...alice, mac })).toEqual({
      status: 200,
      body: {
        user_id: '@alice:a.example',
        home_server: 'a.example',
        device_id: expect.any(String),
        access_token: expect.any(String),
      },
    });
    const root = { nonce: two, username: 'root', password: 'x', admin: true, displayname: 'Root' };
    const user_type = 'bot';
    const signed = macOf('shared between tools', two, 'root', 'x', 'admin', user_type);
    expect((await post(PATH, { ...root, user_type, inhibit_login: true, mac: signed })).body).toEqual({
      user_id: '@root:a.example',
      home_server: 'a.example',
    });
    expect(await findAccount(database, '@root:a.example' as UserId)).toMatchObject({ admin: true });
    expect(await findAccount(database, '@alice:a.example' as UserId)).toMatchObject({ admin: false });
    expect(await accounts.login('alice', 'secret', {})).toMatchObject({ user: '@alice:a.example' });
  });

  test('takes each nonce once, for a minute, and from nobody else', async () => {
    const { post, nonce, clock } = await open();
    const ask = (used: string, secret = 'shared between tools', username = 'alice') => {
      const mac = macOf(secret, used, username, 'secret', 'notadmin');
      return post(PATH, { nonce: used, username, password: 'secret', mac });
    };
    const wrong = await nonce();
    expect(await ask(wrong, 'another secret')).toMatchObject({
      status: 403,
      body: { errcode: 'M_FORBIDDEN' },
    });
    expect(await ask(wrong)).toMatchObject({ status: 400, body: { errcode: 'M_INVALID_PARAM' } });
    expect(await ask('made up')).toMatchObject({ status: 400, body: { errcode: 'M_INVALID_PARAM' } });
    const late = await nonce();
    clock.advanceTo(60_000);
    expect((await ask(late)).status).toBe(400);
    expect((await ask(await nonce())).status).toBe(200);
    expect(await ask(await nonce())).toMatchObject({ status: 400, body: { errcode: 'M_USER_IN_USE' } });
    // What is signed is all of it.
    const other = await nonce();
    const mac = macOf('shared between tools', other, 'bob', 'secret', 'notadmin');
    const body = { nonce: other, username: 'bob', password: 'secret', admin: true, mac };
    expect((await post(PATH, body)).status).toBe(403);
  });
});
