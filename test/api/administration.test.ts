import { expect } from 'vitest';
import { type Door, doorsOf, PASSWORD, SERVER, type User } from './coverage/doors.ts';

const { eachDoor } = doorsOf(import.meta.url);

let admins = 0;

/** A new administrator, logged in through the door. */
async function administrator(door: Door): Promise<User> {
  const localpart = `admin-${admins++}`;
  await door.until(door.server.accounts.create(localpart, PASSWORD, { admin: true }));
  const id = `@${localpart}:${SERVER}`;
  return door.again({ id, localpart } as User);
}

const path = (kind: 'lock' | 'suspend', user: string): string =>
  `/_matrix/client/v1/admin/${kind}/${encodeURIComponent(user)}`;

for (const [kind, key] of [
  ['lock', 'locked'],
  ['suspend', 'suspended'],
] as const)
  eachDoor(`administrators ${kind} accounts, and nobody else does`, async (door) => {
    const [root, other] = [await administrator(door), await administrator(door)];
    const [alice, bob] = [await door.user('alice'), await door.user('bob')];
    expect(await root.ask('GET', path(kind, alice.id))).toMatchObject({
      status: 200,
      body: { [key]: false },
    });
    for (const value of [true, true, false]) {
      expect(await root.ask('PUT', path(kind, alice.id), { [key]: value })).toMatchObject({
        status: 200,
        body: { [key]: value },
      });
      expect((await root.ask('GET', path(kind, alice.id))).body).toEqual({ [key]: value });
    }
    const auth = {
      type: 'm.login.password',
      identifier: { type: 'm.id.user', user: bob.id },
      password: PASSWORD,
    };
    const carol = await door.user('carol');
    await bob.ask('POST', '/account/deactivate', { auth });
    const body = { [key]: true };
    for (const [who, user, status, errcode] of [
      // Authorisation comes first: an unknown user is not told from a known one.
      [carol, alice.id, 403, 'M_FORBIDDEN'],
      [carol, '@nobody:home.example', 403, 'M_FORBIDDEN'],
      [carol, '@x:b.example', 403, 'M_FORBIDDEN'],
      [root, other.id, 403, 'M_FORBIDDEN'],
      [root, root.id, 403, 'M_FORBIDDEN'],
      [root, '@nobody:home.example', 404, 'M_NOT_FOUND'],
      [root, bob.id, 404, 'M_NOT_FOUND'],
      [root, '@x:b.example', 400, 'M_INVALID_PARAM'],
    ] as const)
      for (const answer of [
        await who.ask('GET', path(kind, user)),
        await who.ask('PUT', path(kind, user), body),
      ])
        expect([user, answer.status, answer.body.errcode]).toEqual([user, status, errcode]);
    expect((await root.ask('PUT', path(kind, alice.id), {})).status).toBe(400);
    expect((await door.stranger().ask('GET', path(kind, alice.id))).status).toBe(401);
  });

eachDoor('a locked account can be logged out of, and nothing else', async (door) => {
  const [root, alice] = [await administrator(door), await door.user()];
  const phone = await door.again(alice, 'PHONE');
  await root.ask('PUT', path('lock', alice.id), { locked: true });
  const locked = { status: 401, body: { errcode: 'M_USER_LOCKED', soft_logout: true } };
  expect(await alice.ask('GET', '/account/whoami')).toMatchObject(locked);
  expect(await alice.ask('GET', '/sync')).toMatchObject(locked);
  const login = { type: 'm.login.password', identifier: { type: 'm.id.user', user: alice.id } };
  expect(await door.stranger().ask('POST', '/login', { ...login, password: PASSWORD })).toMatchObject(locked);
  // Whoever does not know the password learns nothing of it.
  expect(await door.stranger().ask('POST', '/login', { ...login, password: 'wrong' })).toMatchObject({
    status: 403,
    body: { errcode: 'M_FORBIDDEN' },
  });
  expect(await phone.ask('POST', '/logout')).toMatchObject({ status: 200 });
  await root.ask('PUT', path('lock', alice.id), { locked: false });
  // "This ensures that users can retain their sessions."
  expect((await alice.ask('GET', '/account/whoami')).status).toBe(200);
  expect((await phone.ask('GET', '/account/whoami')).status).toBe(401);
});

eachDoor('a lock ends a long poll under way', async (door) => {
  const [root, alice] = [await administrator(door), await door.user()];
  const { next_batch: since } = (await alice.ask('GET', '/sync')).body;
  const poll = alice.begin('GET', `/sync?since=${String(since)}&timeout=30000`);
  await root.ask('PUT', path('lock', alice.id), { locked: true });
  expect(await door.until(poll)).toMatchObject({ status: 401, body: { errcode: 'M_USER_LOCKED' } });
});

eachDoor('a suspended user reads, redacts what is their own, and leaves', async (door) => {
  const [root, alice, bob] = [await administrator(door), await door.user('alice'), await door.user('bob')];
  const created = await bob.ask('POST', '/createRoom', {
    preset: 'public_chat',
    power_level_content_override: { users: { [alice.id]: 50 } },
  });
  const room = `/rooms/${encodeURIComponent(created.body.room_id as string)}`;
  const other = (await bob.ask('POST', '/createRoom', { preset: 'public_chat' })).body.room_id as string;
  await alice.ask('POST', `${room}/join`, {});
  const message = { msgtype: 'm.text', body: 'hello' };
  const send = async (who: User, txn: string) =>
    (await who.ask('PUT', `${room}/send/m.room.message/${txn}`, message)).body.event_id as string;
  const [own, second, foreign] = [await send(alice, '1'), await send(alice, '2'), await send(bob, '1')];
  await root.ask('PUT', path('suspend', alice.id), { suspended: true });

  const me = encodeURIComponent(alice.id);
  const refused: readonly (readonly [string, string, object])[] = [
    ['PUT', `${room}/send/m.room.message/3`, message],
    ['PUT', `${room}/state/m.room.topic/`, { topic: 'x' }],
    ['PUT', `${room}/redact/${encodeURIComponent(foreign)}/4`, {}],
    ['PUT', `${room}/send/m.room.redaction/5`, { redacts: foreign }],
    ['PUT', `${room}/send/m.room.redaction/6`, {}],
    ['POST', `${room}/invite`, { user_id: root.id }],
    ['POST', `${room}/kick`, { user_id: bob.id }],
    ['POST', `/join/${encodeURIComponent(other)}`, {}],
    ['POST', `/rooms/${encodeURIComponent(other)}/join`, {}],
    ['POST', `/knock/${encodeURIComponent(other)}`, {}],
    ['POST', '/createRoom', {}],
    ['PUT', `/profile/${me}/displayname`, { displayname: 'x' }],
    ['PUT', `/profile/${me}/avatar_url`, { avatar_url: 'mxc://a/b' }],
  ];
  for (const [method, where, body] of refused) {
    const answer = await alice.ask(method, where, body);
    expect([where, answer.status, answer.body.errcode]).toEqual([where, 403, 'M_USER_SUSPENDED']);
  }
  const allowed: readonly (readonly [string, string, object?])[] = [
    ['GET', '/sync'],
    ['GET', `${room}/messages?dir=b`],
    ['PUT', `${room}/redact/${encodeURIComponent(own)}/7`, {}],
    ['PUT', `${room}/send/m.room.redaction/8`, { redacts: second }],
    ['POST', `/user/${me}/filter`, {}],
    ['PUT', `/user/${me}/account_data/x`, {}],
    ['POST', `${room}/receipt/m.read/${encodeURIComponent(foreign)}`, {}],
    ['POST', `${room}/read_markers`, {}],
    ['PUT', `/devices/${alice.device}`, { display_name: 'Phone' }],
    ['POST', `${room}/leave`, {}],
    ['POST', `${room}/forget`, {}],
  ];
  for (const [method, where, body] of allowed)
    expect([where, (await alice.ask(method, where, body)).status]).toEqual([where, 200]);
  const phone = await door.again(alice, 'PHONE');
  expect(await phone.ask('POST', '/createRoom', {})).toMatchObject({ body: { errcode: 'M_USER_SUSPENDED' } });
  expect((await phone.ask('POST', '/logout')).status).toBe(200);
  await root.ask('PUT', path('suspend', alice.id), { suspended: false });
  expect((await alice.ask('POST', '/createRoom', {})).status).toBe(200);
});

eachDoor('users see where they are logged in, and administrators see it of everybody', async (door) => {
  const [root, alice, bob] = [await administrator(door), await door.user('alice'), await door.user('bob')];
  const whois = (who: User, user: string) => who.ask('GET', `/admin/whois/${encodeURIComponent(user)}`);
  const expected = {
    user_id: alice.id,
    devices: {
      [alice.device]: {
        sessions: [{ connections: [expect.objectContaining({ last_seen: expect.any(Number) })] }],
      },
    },
  };
  expect(await whois(alice, alice.id)).toMatchObject({ status: 200, body: expected });
  expect(await whois(root, alice.id)).toMatchObject({ status: 200, body: expected });
  expect(await whois(bob, alice.id)).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } });
  expect(await whois(bob, '@nobody:home.example')).toMatchObject({ status: 403 });
  expect(await whois(root, '@nobody:home.example')).toMatchObject({ status: 404 });
});

eachDoor('only administrators are told that they can lock and suspend', async (door) => {
  const [root, alice] = [await administrator(door), await door.user()];
  const capabilities = async (who: User) => (await who.ask('GET', '/capabilities')).body.capabilities;
  expect(await capabilities(root)).toMatchObject({ 'm.account_moderation': { lock: true, suspend: true } });
  expect(await capabilities(alice)).not.toHaveProperty(['m.account_moderation']);
});
