import { expect } from 'vitest';
import { type Door, doorsOf, PASSWORD, type User } from './coverage/doors.ts';

const { eachDoor } = doorsOf(import.meta.url);

const proof = (user: User, password = PASSWORD) => ({
  type: 'm.login.password',
  identifier: { type: 'm.id.user', user: user.id },
  password,
});

/** What a login with a password is answered. */
const logIn = async (door: Door, user: User, password: string) => {
  const { status, body } = await door.stranger().ask('POST', '/login', proof(user, password));
  return [status, body.errcode];
};

eachDoor('a password is changed by whoever knows the old one', async (door) => {
  const alice = await door.user();
  const phone = await door.again(alice, 'PHONE');
  const set = (who: User, body: object) =>
    who.ask('POST', '/account/password', body as Record<string, never>);
  const asked = await set(alice, { new_password: 'better' });
  expect(asked).toMatchObject({ status: 401, body: { flows: [{ stages: ['m.login.password'] }] } });
  expect(await set(alice, { new_password: 'better', auth: proof(alice, 'wrong') })).toMatchObject({
    status: 401,
    body: { errcode: 'M_FORBIDDEN' },
  });
  const identifier = { type: 'm.id.thirdparty', medium: 'email', address: 'a@b.example' };
  expect(await set(alice, { new_password: 'better', auth: { ...proof(alice), identifier } })).toMatchObject({
    status: 403,
    body: { errcode: 'M_FORBIDDEN' },
  });
  expect(await set(alice, { new_password: '', auth: proof(alice) })).toMatchObject({
    status: 400,
    body: { errcode: 'M_INVALID_PARAM' },
  });
  const keeping = { new_password: 'better', logout_devices: false, auth: proof(alice) };
  expect(await set(alice, keeping)).toMatchObject({ status: 200, body: {} });
  expect((await phone.ask('GET', '/account/whoami')).status).toBe(200);
  expect(await set(alice, { new_password: 'best', auth: proof(alice, 'better') })).toMatchObject({
    status: 200,
  });
  expect((await phone.ask('GET', '/account/whoami')).status).toBe(401);
  expect(await logIn(door, alice, 'better')).toEqual([403, 'M_FORBIDDEN']);
  expect(await logIn(door, alice, 'best')).toEqual([200, undefined]);
  expect((await door.stranger().ask('POST', '/account/password', { new_password: 'x' })).status).toBe(401);
});

eachDoor('a deactivated account is gone, its name and its rooms too', async (door) => {
  const [alice, bob] = [await door.user('alice'), await door.user('bob')];
  const make = async (who: User): Promise<string> =>
    (await who.ask('POST', '/createRoom', { preset: 'public_chat' })).body.room_id as string;
  const [joined, invited] = [await make(bob), await make(bob)];
  await alice.ask('POST', `/join/${encodeURIComponent(joined)}`, {});
  await bob.ask('POST', `/rooms/${encodeURIComponent(invited)}/invite`, { user_id: alice.id });
  const phone = await door.again(alice, 'PHONE');

  expect(await alice.ask('POST', '/account/deactivate', {})).toMatchObject({
    status: 401,
    body: { flows: [{ stages: ['m.login.password'] }] },
  });
  expect(await alice.ask('POST', '/account/deactivate', { auth: proof(alice) })).toMatchObject({
    status: 200,
    body: { id_server_unbind_result: 'success' },
  });
  await door.pass(1_000);
  for (const device of [alice, phone])
    expect(await device.ask('GET', '/account/whoami')).toMatchObject({
      status: 401,
      body: { errcode: 'M_UNKNOWN_TOKEN' },
    });
  expect(await logIn(door, alice, PASSWORD)).toEqual([403, 'M_FORBIDDEN']);
  const name = alice.localpart;
  expect((await door.stranger().ask('GET', `/register/available?username=${name}`)).body.errcode).toBe(
    'M_USER_IN_USE',
  );
  for (const room of [joined, invited]) {
    const path = `/rooms/${encodeURIComponent(room)}/state/m.room.member/${encodeURIComponent(alice.id)}`;
    expect((await bob.ask('GET', path)).body).toMatchObject({ membership: 'leave' });
    expect(
      await bob.ask('POST', `/rooms/${encodeURIComponent(room)}/invite`, { user_id: alice.id }),
    ).toMatchObject({ status: 404 });
  }
});

eachDoor('an account is deactivated by its password where there is no device any more', async (door) => {
  const alice = await door.user('alice');
  const locked = await door.user('locked');
  const end = async (auth?: object) =>
    door.stranger().ask('POST', '/account/deactivate', auth === undefined ? {} : { auth });
  const asked = await end();
  expect(asked).toMatchObject({ status: 401, body: { flows: [{ stages: ['m.login.password'] }] } });
  expect(asked.body.errcode).toBeUndefined();
  const { session } = asked.body;
  const refusedWith = async (auth: object) => {
    const { session: _, ...body } = (await end({ session, ...auth })).body;
    return body;
  };
  const wrong = await refusedWith(proof(alice, 'wrong'));
  expect(wrong).toMatchObject({ errcode: 'M_FORBIDDEN' });
  const nobody = { type: 'm.id.user', user: '@nobody:home.example' };
  expect(await refusedWith({ ...proof(alice), identifier: nobody })).toEqual(wrong);
  await door.until(door.server.accounts.create('root', PASSWORD, { admin: true }).catch(() => undefined));
  const root = await door.again({ localpart: 'root' } as User);
  const lock = `/_matrix/client/v1/admin/lock/${encodeURIComponent(locked.id)}`;
  expect((await root.ask('PUT', lock, { locked: true })).status).toBe(200);
  expect((await end(proof(locked))).body.errcode).toBe('M_USER_LOCKED');
  expect((await alice.ask('GET', '/account/whoami')).status).toBe(200);
  const unknown = await door.stranger('unknown').ask('POST', '/account/deactivate', { auth: proof(alice) });
  expect(unknown.body.errcode).toBe('M_UNKNOWN_TOKEN');
  expect(await end({ session, ...proof(alice) })).toMatchObject({ status: 200 });
  expect((await alice.ask('GET', '/account/whoami')).status).toBe(401);
  expect(await logIn(door, alice, PASSWORD)).toEqual([403, 'M_FORBIDDEN']);
});

eachDoor('what an erased user sent is redacted for those who came later', async (door) => {
  const [alice, bob, carol] = [await door.user('alice'), await door.user('bob'), await door.user('carol')];
  const created = await alice.ask('POST', '/createRoom', { preset: 'public_chat' });
  const room = encodeURIComponent(created.body.room_id as string);
  await bob.ask('POST', `/join/${room}`, {});
  const content = { msgtype: 'm.text', body: 'forget me' };
  const sent = await alice.ask('PUT', `/rooms/${room}/send/m.room.message/1`, content);
  await alice.ask('PUT', `/profile/${encodeURIComponent(alice.id)}/displayname`, { displayname: 'Alice' });
  await alice.ask('POST', '/account/deactivate', { auth: proof(alice), erase: true });
  await door.pass(1_000);
  await carol.ask('POST', `/join/${room}`, {});
  const read = async (who: User) => {
    const event = await who.ask(
      'GET',
      `/rooms/${room}/event/${encodeURIComponent(sent.body.event_id as string)}`,
    );
    const page = await who.ask('GET', `/rooms/${room}/messages?dir=b&limit=50`);
    type Sent = { event_id: string; content: unknown }[];
    // A pipe has a short form for this one.
    const answer = await who.ask('GET', '/sync');
    expect(answer).toMatchObject({ status: 200, body: { rooms: expect.anything() } });
    const sync = answer.body.rooms as {
      join: Record<string, { timeline: { events: Sent } }>;
    };
    const { events } = sync.join[created.body.room_id as string]!.timeline;
    return [event.body.content, ...[page.body.chunk as Sent, events].map(contentIn)];
    function contentIn(list: Sent): unknown {
      return list.find(({ event_id }) => event_id === sent.body.event_id)?.content;
    }
  };
  expect(await read(bob)).toEqual([content, content, content]);
  expect(await read(carol)).toEqual([{}, {}, {}]);
  expect((await bob.ask('GET', `/profile/${encodeURIComponent(alice.id)}`)).body).toEqual({});
});

eachDoor('of email addresses and phone numbers there are none', async (door) => {
  const alice = await door.user();
  const nobody = door.stranger();
  const client_secret = 'monkeys_are_GREAT';
  const email = { client_secret, email: 'alice@a.example', send_attempt: 1 };
  const msisdn = { client_secret, country: 'GB', phone_number: '07700900001', send_attempt: 1 };
  const creds = { client_secret, sid: 'abc', id_server: 'id.example', id_access_token: 'x' };
  const address = { medium: 'email', address: 'alice@a.example' };
  expect((await alice.ask('GET', '/account/3pid')).body).toEqual({ threepids: [] });
  for (const removal of ['delete', 'unbind'])
    expect(await alice.ask('POST', `/account/3pid/${removal}`, address)).toMatchObject({
      status: 200,
      body: { id_server_unbind_result: 'no-support' },
    });
  expect(await alice.ask('POST', '/account/3pid/add', { client_secret, sid: 'abc' })).toMatchObject({
    status: 401,
    body: { flows: [{ stages: ['m.login.password'] }] },
  });
  for (const [who, path, body, status, errcode] of [
    [alice, 'account/3pid', { three_pid_creds: creds }, 403, 'M_THREEPID_AUTH_FAILED'],
    [
      alice,
      'account/3pid/add',
      { client_secret, sid: 'abc', auth: proof(alice) },
      400,
      'M_THREEPID_AUTH_FAILED',
    ],
    [alice, 'account/3pid/bind', creds, 400, 'M_SERVER_NOT_TRUSTED'],
    [alice, 'account/3pid/bind', {}, 400, 'M_BAD_JSON'],
    [alice, 'account/3pid/email/requestToken', email, 400, 'M_THREEPID_MEDIUM_NOT_SUPPORTED'],
    [alice, 'account/3pid/msisdn/requestToken', msisdn, 400, 'M_THREEPID_MEDIUM_NOT_SUPPORTED'],
    [nobody, 'account/password/email/requestToken', email, 400, 'M_THREEPID_NOT_FOUND'],
    [nobody, 'account/password/msisdn/requestToken', msisdn, 400, 'M_THREEPID_NOT_FOUND'],
    [nobody, 'register/email/requestToken', email, 403, 'M_THREEPID_DENIED'],
    [nobody, 'register/msisdn/requestToken', msisdn, 403, 'M_THREEPID_DENIED'],
    [nobody, 'register/email/requestToken', { ...email, client_secret: '!' }, 400, 'M_BAD_JSON'],
    [
      nobody,
      'register/email/requestToken',
      { ...email, id_server: 'id.example' },
      400,
      'M_SERVER_NOT_TRUSTED',
    ],
    [alice, 'account/3pid/email/requestToken', { ...email, email: 'alice' }, 400, 'M_INVALID_PARAM'],
    [alice, 'account/3pid/msisdn/requestToken', { ...msisdn, phone_number: 'x' }, 400, 'M_INVALID_PARAM'],
    [nobody, 'account/3pid', { three_pid_creds: creds }, 401, 'M_MISSING_TOKEN'],
  ] as const) {
    const answer = await who.ask('POST', `/${path}`, body);
    if (who === nobody && status === 401) expect([path, answer.status]).toEqual([path, 401]);
    else expect([path, answer.status, answer.body.errcode]).toEqual([path, status, errcode]);
  }
});
