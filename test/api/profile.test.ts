import { expect } from 'vitest';
import type { JsonObject } from '../../src/matrix/json.ts';
import { doorsOf, type User } from './coverage/doors.ts';

const { eachDoor } = doorsOf(import.meta.url);

const profileOf = ({ id }: User): string => `/profile/${encodeURIComponent(id)}`;

eachDoor('a profile has any field, which everybody reads', async (door) => {
  const user = await door.user();
  const fields: JsonObject = {
    displayname: 'Ann',
    avatar_url: 'mxc://home.example/abc',
    'm.tz': 'Europe/London',
    'org.example.job': { title: 'Captain', since: [2026, null] },
  };
  for (const [name, value] of Object.entries(fields)) {
    const path = `${profileOf(user)}/${name}`;
    expect(await user.ask('PUT', path, { [name]: value })).toMatchObject({ status: 200, body: {} });
    expect((await door.stranger().ask('GET', path)).body).toEqual({ [name]: value });
  }
  expect((await door.stranger().ask('GET', profileOf(user))).body).toEqual(fields);
  for (const name of ['displayname', 'org.example.job']) {
    expect((await user.ask('DELETE', `${profileOf(user)}/${name}`)).status).toBe(200);
    expect(await user.ask('GET', `${profileOf(user)}/${name}`)).toMatchObject({
      ...{ status: 404, body: { errcode: 'M_NOT_FOUND' } },
    });
  }
  expect(Object.keys((await user.ask('GET', profileOf(user))).body).sort()).toEqual(['avatar_url', 'm.tz']);
});

eachDoor('rooms show the name and the avatar behind the change', async (door) => {
  const user = await door.user();
  const { body } = await user.ask('POST', '/createRoom', {});
  await user.ask('PUT', `${profileOf(user)}/displayname`, { displayname: 'Ann' });
  await door.pass(1_000);
  const member = `/rooms/${encodeURIComponent(String(body.room_id))}/state/m.room.member/${encodeURIComponent(user.id)}`;
  expect((await user.ask('GET', member)).body).toMatchObject({ membership: 'join', displayname: 'Ann' });
});

eachDoor('what cannot be set is refused', async (door) => {
  const [user, other] = [await door.user(), await door.user()];
  const own = profileOf(user);
  for (const [path, body, status, errcode] of [
    [`${profileOf(other)}/displayname`, { displayname: 'x' }, 403, 'M_FORBIDDEN'],
    [`${own}/displayname`, {}, 400, 'M_MISSING_PARAM'],
    [`${own}/displayname`, { displayname: 7 }, 400, 'M_BAD_JSON'],
    [`${own}/displayname`, [], 400, 'M_BAD_JSON'],
    [`${own}/displayname`, { displayname: 'x'.repeat(257) }, 400, 'M_PROFILE_TOO_LARGE'],
    [`${own}/avatar_url`, { avatar_url: 'https://home.example/me.png' }, 400, 'M_INVALID_PARAM'],
    [`${own}/m.tz`, { 'm.tz': 1 }, 400, 'M_BAD_JSON'],
    [`${own}/Job`, { Job: 'x' }, 400, 'M_INVALID_PARAM'],
    [`${own}/${'a.'.repeat(128)}b`, { [`${'a.'.repeat(128)}b`]: 1 }, 400, 'M_KEY_TOO_LARGE'],
  ] as const) {
    const answer = await user.ask('PUT', path, body as JsonObject);
    expect([path, answer.status, answer.body.errcode]).toEqual([path, status, errcode]);
  }
  for (const [path, status, errcode] of [
    [`${profileOf(other)}/displayname`, 403, 'M_FORBIDDEN'],
    [`${own}/Job`, 400, 'M_INVALID_PARAM'],
  ] as const) {
    const answer = await user.ask('DELETE', path);
    expect([answer.status, answer.body.errcode]).toEqual([status, errcode]);
  }
  for (const path of ['/profile/%40nobody%3Ahome.example', '/profile/%40nobody%3Ahome.example/displayname'])
    expect(await user.ask('GET', path)).toMatchObject({ status: 404, body: { errcode: 'M_NOT_FOUND' } });
  if (!door.name.startsWith('HTTPS')) return;
  for (const name of ['org.example.a', 'org.example.b']) {
    const answer = await user.ask('PUT', `${own}/${name}`, { [name]: 'x'.repeat(40_000) });
    if (name.endsWith('a')) expect(answer.status).toBe(200);
    else expect(answer).toMatchObject({ status: 400, body: { errcode: 'M_PROFILE_TOO_LARGE' } });
  }
  expect((await user.ask('GET', `${own}/org.example.b`)).status).toBe(404);
});

eachDoor('who changes their profile without end is slowed down', async (door) => {
  if (door.name !== 'HTTPS, JSON') return;
  const user = await door.user();
  let answer = await user.ask('PUT', `${profileOf(user)}/m.tz`, { 'm.tz': 'UTC' });
  for (let i = 0; i < 60 && answer.status === 200; i++)
    answer = await user.ask('PUT', `${profileOf(user)}/m.tz`, { 'm.tz': `UTC${i}` });
  expect(answer).toMatchObject({ status: 429, body: { errcode: 'M_LIMIT_EXCEEDED' } });
});
