import { expect } from 'vitest';
import { doorsOf, PASSWORD } from './coverage/doors.ts';

const { eachDoor } = doorsOf(import.meta.url);

const byPassword = (user: string, password = PASSWORD) => ({
  type: 'm.login.password',
  identifier: { type: 'm.id.user', user },
  password,
});

eachDoor('login is offered and taken by name and by user id', async (door) => {
  const alice = await door.user();
  const nobody = door.stranger();
  expect((await nobody.ask('GET', '/login')).body).toEqual({
    flows: [{ type: 'm.login.password' }, { type: 'm.login.token', get_login_token: true }],
  });
  expect(await nobody.ask('POST', '/login', byPassword(alice.localpart))).toMatchObject({
    status: 200,
    body: { user_id: alice.id },
  });
});

eachDoor('without a shared secret nobody makes accounts as tools do', async (door) => {
  expect(await door.stranger().ask('GET', '/_synapse/admin/v1/register')).toMatchObject({
    status: 404,
    body: { errcode: 'M_UNRECOGNIZED' },
  });
});

eachDoor('login refuses', async (door) => {
  const alice = await door.user();
  const nobody = door.stranger();
  for (const [body, status, errcode] of [
    [byPassword(alice.id, 'wrong'), 403, 'M_FORBIDDEN'],
    [byPassword('@nobody:home.example'), 403, 'M_FORBIDDEN'],
    [{ ...byPassword(alice.id), identifier: { type: 'm.id.thirdparty' } }, 403, 'M_FORBIDDEN'],
    [{ type: 'm.login.token', token: 'guess' }, 403, 'M_FORBIDDEN'],
    [{ type: 'm.login.application_service' }, 400, 'M_UNKNOWN'],
    [{ type: 'm.login.password', password: PASSWORD }, 400, 'M_MISSING_PARAM'],
    [{}, 400, 'M_BAD_JSON'],
  ] as const)
    expect(await nobody.ask('POST', '/login', body)).toMatchObject({ status, body: { errcode } });
});

eachDoor('a login token logs one more device in, once and within two minutes', async (door) => {
  const alice = await door.user();
  const path = '/_matrix/client/v1/login/get_token';
  const nobody = door.stranger();
  expect(await nobody.ask('POST', path, {})).toMatchObject({ status: 401 });
  const asked = await alice.ask('POST', path, {});
  expect(asked).toMatchObject({ status: 401, body: { flows: [{ stages: ['m.login.password'] }] } });
  const auth = { ...byPassword(alice.id), session: asked.body.session as string };
  const { status, body } = await alice.ask('POST', path, { auth });
  expect([status, body.expires_in_ms]).toEqual([200, 120_000]);
  // "Servers MUST always re-prompt the user."
  expect((await alice.ask('POST', path, { auth: { session: auth.session } })).status).toBe(401);

  const login = { type: 'm.login.token', token: body.login_token as string };
  expect(await nobody.ask('POST', '/login', login)).toMatchObject({
    status: 200,
    body: { user_id: alice.id },
  });
  expect(await nobody.ask('POST', '/login', login)).toMatchObject({
    status: 403,
    body: { errcode: 'M_FORBIDDEN' },
  });
  const second = (await alice.ask('POST', path, { auth: byPassword(alice.id) })).body.login_token as string;
  await door.pass(120_000);
  expect((await nobody.ask('POST', '/login', { ...login, token: second })).status).toBe(403);
});

eachDoor('tokens are refreshed, and the old ones are good until a new one has been used', async (door) => {
  const alice = await door.user();
  const nobody = door.stranger();
  // Over HTTP, whatever the door is: a device that its pipe proves has no tokens.
  const login = await door.server.app.inject({
    method: 'POST',
    url: '/_matrix/client/v3/login',
    payload: { ...byPassword(alice.id), refresh_token: true },
  });
  const first = login.json<Record<string, string | number>>();
  expect(first).toMatchObject({ expires_in_ms: 3_600_000, refresh_token: expect.any(String) });
  const refresh = (token: unknown) => nobody.ask('POST', '/refresh', { refresh_token: token as string });
  const whoami = async (token: unknown): Promise<number> => {
    const headers = { authorization: `Bearer ${String(token)}` };
    const url = '/_matrix/client/v3/account/whoami';
    return (await door.until(door.server.app.inject({ url, headers }))).statusCode;
  };

  const lost = await refresh(first.refresh_token);
  expect(lost).toMatchObject({ status: 200, body: { expires_in_ms: 3_600_000 } });
  // The answer did not arrive: the client goes on as before, and asks again.
  expect(await whoami(first.access_token)).toBe(200);
  const second = (await refresh(first.refresh_token)).body;
  expect(await whoami(lost.body.access_token)).toBe(401);
  expect(await whoami(second.access_token)).toBe(200);
  // From its first use on.
  expect(await whoami(first.access_token)).toBe(401);
  expect(await refresh(first.refresh_token)).toMatchObject({
    status: 401,
    body: { errcode: 'M_UNKNOWN_TOKEN', soft_logout: false },
  });

  await door.pass(3_600_000);
  const late = await door.until(
    door.server.app.inject({
      url: '/_matrix/client/v3/account/whoami',
      headers: { authorization: `Bearer ${String(second.access_token)}` },
    }),
  );
  expect([late.statusCode, late.json()]).toEqual([
    401,
    { errcode: 'M_UNKNOWN_TOKEN', error: expect.any(String), soft_logout: true },
  ]);
  const third = (await refresh(second.refresh_token)).body;
  // The use of the refresh token is one as well.
  const fourth = (await refresh(third.refresh_token)).body;
  expect((await refresh(second.refresh_token)).status).toBe(401);
  expect(await whoami(fourth.access_token)).toBe(200);
  expect(await refresh('guess')).toMatchObject({ status: 401, body: { errcode: 'M_UNKNOWN_TOKEN' } });
  expect(await nobody.ask('POST', '/refresh', {})).toMatchObject({ status: 400 });
});

eachDoor('logout ends one session, logout of all every one', async (door) => {
  const alice = await door.user();
  const phone = await door.again(alice, 'PHONE');
  const tablet = await door.again(alice, 'TABLET');
  expect(await phone.ask('POST', '/logout')).toMatchObject({ status: 200, body: {} });
  expect(await phone.ask('GET', '/account/whoami')).toMatchObject({
    status: 401,
    body: { errcode: 'M_UNKNOWN_TOKEN', soft_logout: false },
  });
  expect((await tablet.ask('GET', '/account/whoami')).status).toBe(200);
  expect(await tablet.ask('POST', '/logout/all', {})).toMatchObject({ status: 200, body: {} });
  expect((await tablet.ask('GET', '/account/whoami')).status).toBe(401);
  expect((await alice.ask('GET', '/account/whoami')).status).toBe(401);
  const nobody = door.stranger();
  expect((await nobody.ask('POST', '/logout')).status).toBe(401);
  expect((await nobody.ask('POST', '/logout/all')).status).toBe(401);
});
