import { expect, test } from 'vitest';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { doorsOf } from '../coverage/doors.ts';
import { esc, failure, newRoom, say, stateOf } from './room_user.ts';

const { eachDoor, door } = doorsOf(import.meta.url);

eachDoor('a room is replaced by one of another version', async (each) => {
  const alice = await each.user('alice');
  const bob = await each.user('bob');
  const alias = `#${alice.localpart}:home.example`;
  const room = await newRoom(alice, {
    room_version: '10',
    preset: 'public_chat',
    visibility: 'public',
    room_alias_name: alice.localpart,
    name: 'Old',
    topic: 'Things',
    creation_content: { type: 'm.space', 'x.other': 1 },
    initial_state: [
      { type: 'm.room.encryption', content: { algorithm: 'm.megolm.v1.aes-sha2' } },
      { type: 'm.room.server_acl', content: { allow: ['*'] } },
      { type: 'm.room.avatar', content: { url: 'mxc://home.example/a' } },
      { type: 'm.space.child', state_key: '!kept:home.example', content: { via: ['home.example'] } },
      { type: 'm.space.child', state_key: '!gone:home.example', content: {} },
      { type: 'x.own', content: { a: 1 } },
    ],
    power_level_content_override: { ban: 70 },
  });
  await bob.ask('POST', `/join/${esc(room)}`, {});
  await say(alice, room, 'the end');
  const tags = (user: typeof bob, of: string) => `/user/${esc(user.id)}/rooms/${esc(of)}/tags`;
  await alice.ask('PUT', `${tags(alice, room)}/m.lowpriority`, {});
  await bob.ask('PUT', `${tags(bob, room)}/m.favourite`, { order: 0.5 });
  const path = `/rooms/${esc(room)}/upgrade`;
  expect(failure(await bob.ask('POST', path, { new_version: '12' }))).toEqual([403, 'M_FORBIDDEN']);
  expect(failure(await alice.ask('POST', path, { new_version: '99' }))).toEqual([
    400,
    'M_UNSUPPORTED_ROOM_VERSION',
  ]);
  expect(failure(await alice.ask('POST', path, {}))).toEqual([400, 'M_BAD_JSON']);
  expect((await each.stranger().ask('POST', path, { new_version: '12' })).status).toBe(401);

  const upgraded = await alice.ask('POST', path, { new_version: '12', additional_creators: [bob.id] });
  expect(upgraded).toMatchObject({ status: 200, body: { replacement_room: expect.stringMatching(/^!/) } });
  const replacement = upgraded.body.replacement_room as string;
  const next = (type: string, key?: string) => stateOf(alice, replacement, type, key);
  expect(await next('m.room.create')).toEqual({
    type: 'm.space',
    room_version: '12',
    additional_creators: [bob.id],
    predecessor: { room_id: room },
  });
  for (const type of ['name', 'topic', 'avatar', 'encryption', 'server_acl', 'join_rules', 'guest_access']) {
    expect(await next(`m.room.${type}`), type).toEqual(await stateOf(alice, room, `m.room.${type}`));
  }
  expect(await next('m.space.child', '!kept:home.example')).toEqual({ via: ['home.example'] });
  expect(await next('m.space.child', '!gone:home.example')).toBeUndefined();
  expect(await next('x.own')).toBeUndefined();
  expect(await next('m.room.power_levels')).toMatchObject({
    ban: 70,
    users: {},
    events: { 'm.room.tombstone': 150 },
  });
  expect(await next('m.room.canonical_alias')).toEqual({ alias });
  expect((await alice.ask('GET', `/directory/room/${esc(alias)}`)).body).toMatchObject({
    room_id: replacement,
  });
  const listed = async (id: string) =>
    (await alice.ask('GET', `/directory/list/room/${esc(id)}`)).body.visibility;
  expect([await listed(room), await listed(replacement)]).toEqual(['private', 'public']);

  expect(await stateOf(alice, room, 'm.room.tombstone')).toMatchObject({ replacement_room: replacement });
  expect(await stateOf(alice, room, 'm.room.canonical_alias')).toEqual({});
  expect(await stateOf(alice, room, 'm.room.power_levels')).toMatchObject({ events_default: 50, invite: 50 });
  const late = await bob.ask('PUT', `/rooms/${esc(room)}/send/m.room.message/late`, { body: 'late' });
  expect(failure(late)).toEqual([403, 'M_FORBIDDEN']);
  expect((await bob.ask('POST', `/join/${esc(alias)}`, {})).body).toEqual({ room_id: replacement });
  expect((await bob.ask('GET', tags(bob, replacement))).body).toEqual({
    tags: { 'm.favourite': { order: 0.5 } },
  });
  expect((await alice.ask('GET', tags(alice, replacement))).body).toEqual({ tags: { 'm.lowpriority': {} } });
  const impostor = await newRoom(bob, { creation_content: { predecessor: { room_id: room } } });
  await bob.ask('POST', `/rooms/${esc(impostor)}/invite`, { user_id: alice.id });
  await alice.ask('POST', `/rooms/${esc(impostor)}/join`, {});
  expect((await alice.ask('GET', tags(alice, impostor))).body).toEqual({ tags: {} });
});

test.each([
  ['1', '11'],
  ['5', '6'],
  ['9', '10'],
  ['11', '12'],
  ['12', '12'],
  ['12', '11'],
])('the levels of version %s are those of version %s after it', async (from, to) => {
  const alice = await door('HTTPS, JSON').user('alice');
  const bob = await door('HTTPS, JSON').user('bob');
  const carol = '@carol:home.example';
  const own: JsonObject = from === '12' ? {} : { [alice.id]: 100 };
  const levels = { users: { ...own, [bob.id]: 60, [carol]: 50 }, kick: from === '9' ? '55' : 55 };
  const events = { 'm.room.tombstone': 60, 'm.room.name': 90 };
  const room = await newRoom(alice, {
    room_version: from,
    preset: 'public_chat',
    name: 'Above the upgrading one',
    power_level_content_override: { ...levels, events },
  });
  await bob.ask('POST', `/join/${esc(room)}`, {});
  // Bob may upgrade, and has no power over the name.
  const { status, body } = await bob.ask('POST', `/rooms/${esc(room)}/upgrade`, { new_version: to });
  expect(status, JSON.stringify(body)).toBe(200);
  const replacement = body.replacement_room as string;
  expect(await stateOf(bob, replacement, 'm.room.name')).toEqual({ name: 'Above the upgrading one' });
  const taken = await stateOf(bob, replacement, 'm.room.power_levels');
  const { [bob.id]: _, ...others } = levels.users as JsonObject;
  const kept = from === '12' && to !== '12' ? { ...levels.users, [alice.id]: 100 } : levels.users;
  expect(taken).toMatchObject({
    kick: to === '11' || to === '12' || to === '10' ? 55 : levels.kick,
    users: to === '12' ? others : kept,
    events: { ...events, 'm.room.tombstone': to === '12' ? 150 : 60 },
  });
  const predecessor = (await stateOf(bob, replacement, 'm.room.create'))?.predecessor as JsonObject;
  expect(predecessor.room_id).toBe(room);
  expect(predecessor.event_id === undefined).toBe(to === '12');
});
