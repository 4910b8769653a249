import { expect } from 'vitest';
import { doorsOf, PASSWORD } from './coverage/doors.ts';

const { eachDoor } = doorsOf(import.meta.url);

eachDoor('an OpenID token says who somebody is for an hour, and is good for nothing else', async (door) => {
  const [alice, bob] = [await door.user('alice'), await door.user('bob')];
  const path = (user: string): string => `/user/${encodeURIComponent(user)}/openid/request_token`;
  const { status, body } = await alice.ask('POST', path(alice.id), {});
  expect([status, body]).toEqual([
    200,
    {
      access_token: expect.any(String),
      token_type: 'Bearer',
      matrix_server_name: 'home.example',
      expires_in: 3600,
    },
  ]);
  const token = body.access_token as string;
  const userinfo = (given: string) =>
    door.stranger().ask('GET', `/_matrix/federation/v1/openid/userinfo?access_token=${given}`);
  expect(await userinfo(token)).toMatchObject({ status: 200, body: { sub: alice.id } });
  expect((await door.stranger(token).ask('GET', '/account/whoami')).status).toBe(401);
  expect(await bob.ask('POST', path(alice.id), {})).toMatchObject({
    status: 403,
    body: { errcode: 'M_FORBIDDEN' },
  });
  expect(await userinfo('guess')).toMatchObject({ status: 401, body: { errcode: 'M_UNKNOWN_TOKEN' } });
  expect((await door.stranger().ask('GET', '/_matrix/federation/v1/openid/userinfo')).status).toBe(401);
  expect((await door.stranger().ask('POST', path(alice.id), {})).status).toBe(401);

  const second = (await alice.ask('POST', path(alice.id), {})).body.access_token as string;
  await door.pass(3_600_000);
  expect(await userinfo(second)).toMatchObject({ status: 401, body: { errcode: 'M_UNKNOWN_TOKEN' } });
  const third = (await alice.ask('POST', path(alice.id), {})).body.access_token as string;
  const identifier = { type: 'm.id.user', user: alice.id };
  const auth = { type: 'm.login.password', identifier, password: PASSWORD };
  await alice.ask('POST', '/account/deactivate', { auth });
  expect((await userinfo(third)).status).toBe(401);
});
