import { expect, test } from 'vitest';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { doorsOf, type User } from '../coverage/doors.ts';
import { esc, failure, newRoom, stateOf } from './room_user.ts';

const { eachDoor, door } = doorsOf(import.meta.url);

const knockable = { initial_state: [{ type: 'm.room.join_rules', content: { join_rule: 'knock' } }] };
const rooms = (user: User, room: string, action: string, body: JsonObject = {}) =>
  user.ask('POST', `/rooms/${esc(room)}/${action}`, body);

eachDoor('users come, go and are put out, with reasons', async (each) => {
  const alice = await each.user('alice');
  const bob = await each.user('bob');
  const room = await newRoom(alice);
  const of = async () => stateOf(alice, room, 'm.room.member', bob.id);
  expect(failure(await rooms(bob, room, 'join'))).toEqual([403, 'M_FORBIDDEN']);
  expect(await rooms(alice, room, 'invite', { user_id: bob.id, reason: 'tea' })).toMatchObject({
    status: 200,
  });
  expect(await of()).toMatchObject({ membership: 'invite', reason: 'tea' });
  expect((await rooms(bob, room, 'join', { reason: 'thirst' })).body).toEqual({ room_id: room });
  expect(await of()).toMatchObject({ membership: 'join', reason: 'thirst' });
  expect((await bob.ask('GET', '/joined_rooms')).body).toEqual({ joined_rooms: [room] });
  expect(failure(await rooms(bob, room, 'kick', { user_id: alice.id }))).toEqual([403, 'M_FORBIDDEN']);
  expect(failure(await rooms(bob, room, 'ban', { user_id: alice.id }))).toEqual([403, 'M_FORBIDDEN']);
  expect((await rooms(alice, room, 'kick', { user_id: bob.id, reason: 'late' })).status).toBe(200);
  expect(await of()).toMatchObject({ membership: 'leave', reason: 'late' });
  expect(failure(await rooms(alice, room, 'kick', { user_id: bob.id }))).toEqual([403, 'M_FORBIDDEN']);
  expect(failure(await rooms(alice, room, 'unban', { user_id: bob.id }))).toEqual([403, 'M_BAD_STATE']);
  expect((await rooms(alice, room, 'ban', { user_id: bob.id, reason: 'again' })).status).toBe(200);
  expect(await of()).toMatchObject({ membership: 'ban', reason: 'again' });
  expect(failure(await rooms(bob, room, 'join'))).toEqual([403, 'M_FORBIDDEN']);
  expect(failure(await rooms(alice, room, 'invite', { user_id: bob.id }))).toEqual([403, 'M_FORBIDDEN']);
  expect((await rooms(alice, room, 'unban', { user_id: bob.id, reason: 'peace' })).status).toBe(200);
  expect(await of()).toMatchObject({ membership: 'leave', reason: 'peace' });
  expect(failure(await rooms(alice, room, 'forget'))).toEqual([400, 'M_UNKNOWN']);
  expect((await rooms(bob, room, 'forget')).body).toEqual({});
  expect(failure(await bob.ask('GET', `/rooms/${esc(room)}/messages?dir=b`))).toEqual([403, 'M_FORBIDDEN']);
  expect((await rooms(alice, room, 'leave', { reason: 'dark' })).body).toEqual({});
  expect((await alice.ask('GET', '/joined_rooms')).body).toEqual({ joined_rooms: [] });
  for (const action of ['join', 'leave', 'forget', 'invite', 'kick', 'ban', 'unban']) {
    const body = { user_id: bob.id };
    const path = `/rooms/${esc(room)}/${action}`;
    expect((await each.stranger().ask('POST', path, body)).status, action).toBe(401);
  }
});

eachDoor('a room is joined by its id or its alias', async (each) => {
  const alice = await each.user('alice');
  const bob = await each.user('bob');
  const room = await newRoom(alice, { preset: 'public_chat', room_alias_name: alice.localpart });
  const alias = `#${alice.localpart}:home.example`;
  const joined = { status: 200, body: { room_id: room } };
  expect(await bob.ask('POST', `/join/${esc(alias)}`, { reason: 'hello' })).toMatchObject(joined);
  // Whoever is in the room already stays so.
  expect(await bob.ask('POST', `/join/${esc(room)}?via=a.example&server_name=b.example`, {})).toMatchObject(
    joined,
  );
  expect(failure(await bob.ask('POST', `/join/${esc('#none:home.example')}`, {}))).toEqual([
    404,
    'M_NOT_FOUND',
  ]);
  expect(failure(await bob.ask('POST', '/join/tea', {}))).toEqual([400, 'M_INVALID_PARAM']);
  expect(failure(await bob.ask('POST', `/join/${esc('!none:home.example')}`, {}))).toEqual([
    404,
    'M_NOT_FOUND',
  ]);
  const signed = { third_party_signed: { sender: alice.id, mxid: bob.id, token: 't', signatures: {} } };
  expect(failure(await bob.ask('POST', `/join/${esc(room)}`, signed))).toEqual([403, 'M_FORBIDDEN']);
  expect(failure(await rooms(bob, room, 'join', signed))).toEqual([403, 'M_FORBIDDEN']);
  const address = { id_server: 'i.example', medium: 'email', address: 'a@b', id_access_token: 'x' };
  expect(failure(await rooms(alice, room, 'invite', address))).toEqual([403, 'M_FORBIDDEN']);
});

eachDoor('a knock is seen, answered and taken back', async (each) => {
  const alice = await each.user('alice');
  const bob = await each.user('bob');
  const room = await newRoom(alice, { ...knockable, room_alias_name: alice.localpart });
  const knock = (at: string, body: JsonObject = {}) => bob.ask('POST', `/knock/${esc(at)}`, body);
  expect(await knock(room, { reason: 'please' })).toMatchObject({ status: 200, body: { room_id: room } });
  const member = await stateOf(alice, room, 'm.room.member', bob.id);
  expect(member).toMatchObject({ membership: 'knock', reason: 'please' });
  expect(await knock(`#${alice.localpart}:home.example`)).toMatchObject({ status: 200 });
  expect((await bob.ask('GET', '/sync')).body).toMatchObject({
    rooms: { knock: { [room]: expect.anything() } },
  });
  expect((await rooms(bob, room, 'leave')).status).toBe(200);
  expect(await stateOf(alice, room, 'm.room.member', bob.id)).toMatchObject({ membership: 'leave' });
  await knock(room);
  expect((await rooms(alice, room, 'invite', { user_id: bob.id })).status).toBe(200);
  expect((await rooms(bob, room, 'join')).status).toBe(200);
  expect(failure(await knock(room))).toEqual([403, 'M_FORBIDDEN']);
  expect(failure(await knock('#none:home.example'))).toEqual([404, 'M_NOT_FOUND']);
  expect(failure(await knock('!none:home.example'))).toEqual([404, 'M_NOT_FOUND']);
  const path = `/knock/${esc(room)}`;
  expect((await each.stranger().ask('POST', path, {})).status).toBe(401);
});

test('nobody knocks where the room or its version has no knocking, nor who was banned', async () => {
  const alice = await door('HTTPS, JSON').user('alice');
  const bob = await door('HTTPS, JSON').user('bob');
  const closed = await newRoom(alice);
  const old = await newRoom(alice, { ...knockable, room_version: '6' });
  const banned = await newRoom(alice, knockable);
  await rooms(alice, banned, 'ban', { user_id: bob.id });
  for (const room of [closed, old, banned]) {
    expect(failure(await bob.ask('POST', `/knock/${esc(room)}`, {}))).toEqual([403, 'M_FORBIDDEN']);
  }
});

eachDoor('who takes no invites gets none', async (each) => {
  const alice = await each.user('alice');
  const bob = await each.user('bob');
  const room = await newRoom(alice);
  const config = `/user/${esc(bob.id)}/account_data/m.invite_permission_config`;
  await bob.ask('PUT', config, { default_action: 'block' });
  expect(failure(await rooms(alice, room, 'invite', { user_id: bob.id }))).toEqual([403, 'M_INVITE_BLOCKED']);
  const member = `/rooms/${esc(room)}/state/m.room.member/${esc(bob.id)}`;
  expect(failure(await alice.ask('PUT', member, { membership: 'invite' }))).toEqual([
    403,
    'M_INVITE_BLOCKED',
  ]);
  expect(failure(await alice.ask('POST', '/createRoom', { invite: [bob.id] }))).toEqual([
    403,
    'M_INVITE_BLOCKED',
  ]);
  await bob.ask('PUT', config, {});
  expect((await rooms(alice, room, 'invite', { user_id: bob.id })).status).toBe(200);
});

test('membership requests have to be well formed', async () => {
  const alice = await door('HTTPS, JSON').user('alice');
  const room = await newRoom(alice);
  for (const action of ['invite', 'kick', 'ban', 'unban']) {
    expect(failure(await rooms(alice, room, action))).toEqual([400, 'M_BAD_JSON']);
    expect(failure(await rooms(alice, room, action, { user_id: 'bob' }))).toEqual([400, 'M_INVALID_PARAM']);
  }
  expect(failure(await rooms(alice, room, 'invite', { user_id: '@nobody:home.example' }))).toEqual([
    404,
    'M_NOT_FOUND',
  ]);
});
