import { expect, test } from 'vitest';
import type { JsonObject } from '../../src/matrix/json.ts';
import { doorsOf, PASSWORD, type User } from './coverage/doors.ts';
import { esc, failure, newRoom } from './rooms/room_user.ts';

const { eachDoor, door } = doorsOf(import.meta.url);

async function find(user: User, term: string, limit?: number): Promise<{ ids: unknown[]; limited: unknown }> {
  const asked = limit === undefined ? { search_term: term } : { search_term: term, limit };
  const { status, body } = await user.ask('POST', '/user_directory/search', asked);
  expect(status, JSON.stringify(body)).toBe(200);
  return { ids: (body.results as JsonObject[]).map(({ user_id }) => user_id), limited: body.limited };
}

eachDoor('people are found by their id and by their name, the closest first', async (each) => {
  const alice = await each.user('alice');
  const named = async (localpart: string, displayname: string): Promise<User> => {
    const user = await each.user(localpart);
    await user.ask('PUT', `/profile/${esc(user.id)}/displayname`, { displayname });
    return user;
  };
  const tag = alice.localpart.replace(/\W/g, '');
  const whole = await named('x', `Zoë ${tag}`);
  const word = await named('y', `Dr Zoë ${tag}`);
  const part = await named('z', `Enzoë ${tag}`);
  expect(await find(alice, `ZOE ${tag}`)).toEqual({ ids: [whole.id, word.id, part.id], limited: false });
  expect(await find(alice, `zoë ${tag}`, 2)).toEqual({ ids: [whole.id, word.id], limited: true });
  expect((await find(alice, whole.id)).ids).toEqual([whole.id]);
  expect((await find(whole, alice.localpart)).ids).toContain(alice.id);
  expect((await find(alice, alice.id)).ids).toEqual([]);
  expect((await find(alice, '')).ids).toEqual([]);
  const search = '/user_directory/search';
  expect(failure(await alice.ask('POST', search, { search_term: 1 }))).toEqual([400, 'M_BAD_JSON']);
  expect((await each.stranger().ask('POST', search, { search_term: 'a' })).status).toBe(401);
});

eachDoor('the rooms that two share are told', async (each) => {
  const alice = await each.user('alice');
  const bob = await each.user('bob');
  const shared = await newRoom(alice, { preset: 'public_chat' });
  await newRoom(alice, { preset: 'public_chat' });
  const left = await newRoom(alice, { preset: 'public_chat' });
  for (const room of [shared, left]) await bob.ask('POST', `/rooms/${esc(room)}/join`, {});
  await bob.ask('POST', `/rooms/${esc(left)}/leave`, {});
  const path = '/_matrix/client/v1/mutual_rooms';
  const asked = await alice.ask('GET', `${path}?user_id=${esc(bob.id)}`);
  expect(asked).toMatchObject({ status: 200, body: { joined: [shared], count: 1 } });
  expect(asked.body).not.toHaveProperty('next_batch');
  for (const query of ['', '?user_id=x', `?user_id=${esc(alice.id)}`, `?user_id=${esc(bob.id)}&from=x`])
    expect(failure(await alice.ask('GET', `${path}${query}`))).toEqual([400, 'M_INVALID_PARAM']);
  expect((await each.stranger().ask('GET', path)).status).toBe(401);
});

test('somebody whose account is closed is not found', async () => {
  const http = door('HTTPS, JSON');
  const alice = await http.user('alice');
  const gone = await http.user('skarvgone');
  expect((await find(alice, 'skarvgone')).ids).toEqual([gone.id]);
  const auth = {
    type: 'm.login.password',
    identifier: { type: 'm.id.user', user: gone.id },
    password: PASSWORD,
  };
  expect((await gone.ask('POST', '/account/deactivate', { auth })).status).toBe(200);
  expect((await find(alice, 'skarvgone')).ids).toEqual([]);
});
