import { expect } from 'vitest';
import { doorsOf, type User } from './coverage/doors.ts';

const { eachDoor, door: doorNamed } = doorsOf(import.meta.url);

const ROOM = encodeURIComponent('!somewhere:home.example');
const dataOf = ({ id }: User, type: string, room = ''): string =>
  `/user/${encodeURIComponent(id)}/${room && `rooms/${room}/`}account_data/${type}`;
const tagsOf = ({ id }: User, room = ROOM): string => `/user/${encodeURIComponent(id)}/rooms/${room}/tags`;

eachDoor('data is kept for a user, global and by room', async (door) => {
  const user = await door.user();
  for (const [room, content] of [
    ['', { theme: 'dark' }],
    [ROOM, { theme: 'light', nested: { list: [1, null, 'two'] } }],
  ] as const) {
    expect(await user.ask('GET', dataOf(user, 'x.settings', room))).toMatchObject({
      ...{ status: 404, body: { errcode: 'M_NOT_FOUND' } },
    });
    expect(await user.ask('PUT', dataOf(user, 'x.settings', room), content)).toMatchObject({
      ...{ status: 200, body: {} },
    });
    expect((await user.ask('GET', dataOf(user, 'x.settings', room))).body).toEqual(content);
  }
  await user.ask('PUT', dataOf(user, 'x.settings'), { theme: 'grey' });
  expect((await user.ask('GET', dataOf(user, 'x.settings'))).body).toEqual({ theme: 'grey' });
});

eachDoor("nobody sees or sets another user's data", async (door) => {
  const [user, other] = [await door.user(), await door.user()];
  for (const path of [dataOf(other, 'x.settings'), dataOf(other, 'x.settings', ROOM)]) {
    for (const method of ['GET', 'PUT'] as const) {
      const answer = await user.ask(method, path, method === 'PUT' ? {} : undefined);
      expect(answer).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } });
    }
  }
  for (const [method, path] of [
    ['GET', tagsOf(other)],
    ['PUT', `${tagsOf(other)}/u.a`],
    ['DELETE', `${tagsOf(other)}/u.a`],
  ] as const) {
    const answer = await user.ask(method, path, method === 'PUT' ? {} : undefined);
    expect(answer).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } });
  }
  const stranger = await door.stranger('unknown').ask('GET', dataOf(user, 'x.settings'));
  expect(stranger).toMatchObject({ status: 401, body: { errcode: 'M_UNKNOWN_TOKEN' } });
});

eachDoor('what the server manages itself is read, and not set', async (door) => {
  const user = await door.user();
  for (const type of ['m.fully_read', 'm.push_rules']) {
    for (const room of ['', ROOM]) {
      expect(await user.ask('PUT', dataOf(user, type, room), {})).toMatchObject({
        ...{ status: 405, body: { errcode: 'M_BAD_JSON' } },
      });
    }
  }
  const rules = await user.ask('GET', dataOf(user, 'm.push_rules'));
  expect(rules).toMatchObject({ status: 200, body: { global: { override: expect.any(Array) } } });
});

eachDoor('what is no object, or of no room, is refused', async (door) => {
  const user = await door.user();
  for (const room of ['', ROOM])
    expect(await user.ask('PUT', dataOf(user, 'x.list', room), [])).toMatchObject({
      ...{ status: 400, body: { errcode: 'M_BAD_JSON' } },
    });
  for (const method of ['GET', 'PUT'] as const) {
    const answer = await user.ask(method, dataOf(user, 'x', 'noroom'), method === 'PUT' ? {} : undefined);
    expect(answer).toMatchObject({ status: 400, body: { errcode: 'M_INVALID_PARAM' } });
  }
});

eachDoor('rooms have tags', async (door) => {
  const user = await door.user();
  expect((await user.ask('GET', tagsOf(user))).body).toEqual({ tags: {} });
  await user.ask('PUT', `${tagsOf(user)}/u.work`, { order: 0.25 });
  await user.ask('PUT', `${tagsOf(user)}/m.favourite`, {});
  expect((await user.ask('GET', tagsOf(user))).body).toEqual({
    tags: { 'u.work': { order: 0.25 }, 'm.favourite': {} },
  });
  expect((await user.ask('GET', dataOf(user, 'm.tag', ROOM))).body).toMatchObject({
    tags: { 'm.favourite': {} },
  });
  expect((await user.ask('DELETE', `${tagsOf(user)}/u.work`)).status).toBe(200);
  expect((await user.ask('DELETE', `${tagsOf(user)}/u.never`)).status).toBe(200);
  expect((await user.ask('GET', tagsOf(user))).body).toEqual({ tags: { 'm.favourite': {} } });
  for (const [path, body, errcode] of [
    [`${tagsOf(user)}/${'x'.repeat(256)}`, {}, 'M_INVALID_PARAM'],
    [`${tagsOf(user)}/u.a`, { order: 2 }, 'M_BAD_JSON'],
    [`${tagsOf(user, 'noroom')}/u.a`, {}, 'M_INVALID_PARAM'],
  ] as const)
    expect(await user.ask('PUT', path, body)).toMatchObject({ status: 400, body: { errcode } });
});

eachDoor('what changes is told by /sync, to all devices of the user', async (door) => {
  const user = await door.user();
  const since = String((await user.ask('GET', '/sync')).body.next_batch);
  await user.ask('PUT', dataOf(user, 'x.settings'), { theme: 'dark' });
  const { body } = await user.ask('GET', `/sync?since=${since}`);
  expect(body.account_data).toEqual({ events: [{ type: 'x.settings', content: { theme: 'dark' } }] });
  // Setting what is there already tells nobody anything.
  await user.ask('PUT', dataOf(user, 'x.settings'), { theme: 'dark' });
  const after = await user.ask('GET', `/sync?since=${String(body.next_batch)}`);
  expect(after.body.account_data).toEqual({ events: [] });
});

eachDoor('data has a greatest size', async (door) => {
  // A datagram link would take minutes of virtual time for it.
  if (!door.name.startsWith('HTTPS')) return;
  const user = await doorNamed(door.name).user();
  const answer = await user.ask('PUT', dataOf(user, 'x.large'), { text: 'x'.repeat(300_000) });
  expect(answer).toMatchObject({ status: 413, body: { errcode: 'M_TOO_LARGE' } });
});
