import { expect, test } from 'vitest';
import { ROOM_VERSIONS } from '../../../src/matrix/room_version.ts';
import { doorsOf, SERVER } from '../coverage/doors.ts';
import { esc, failure, newRoom, stateOf, typesIn } from './room_user.ts';

const { eachDoor, door } = doorsOf(import.meta.url);

eachDoor('a room is made with its events in the order of the specification', async (each) => {
  const alice = await each.user('alice');
  const bob = await each.user('bob');
  const name = `pub-${each.name.length}-${alice.localpart}`;
  const room = await newRoom(alice, {
    preset: 'public_chat',
    visibility: 'public',
    room_alias_name: name,
    name: 'The Pub',
    topic: 'Happy hour',
    is_direct: true,
    invite: [bob.id, alice.id],
    creation_content: { 'm.federate': false, room_version: '1', creator: bob.id },
    initial_state: [
      { type: 'm.room.guest_access', content: { guest_access: 'can_join' } },
      { type: 'x.own', state_key: 'k', content: { a: 1 } },
    ],
    power_level_content_override: { invite: 50 },
  });
  expect(await typesIn(alice, room)).toEqual([
    'm.room.create',
    'm.room.member',
    'm.room.power_levels',
    'm.room.canonical_alias',
    'm.room.join_rules',
    'm.room.history_visibility',
    'm.room.guest_access',
    'x.own',
    'm.room.name',
    'm.room.topic',
    'm.room.member',
  ]);
  expect(await stateOf(alice, room, 'm.room.create')).toEqual({ 'm.federate': false, room_version: '12' });
  expect(await stateOf(alice, room, 'm.room.power_levels')).toMatchObject({
    invite: 50,
    users: {},
    events: { 'm.room.tombstone': 150 },
  });
  expect(await stateOf(alice, room, 'm.room.canonical_alias')).toEqual({ alias: `#${name}:${SERVER}` });
  expect(await stateOf(alice, room, 'm.room.topic')).toEqual({
    topic: 'Happy hour',
    'm.topic': { 'm.text': [{ mimetype: 'text/plain', body: 'Happy hour' }] },
  });
  expect(await stateOf(alice, room, 'm.room.member', bob.id)).toMatchObject({
    membership: 'invite',
    is_direct: true,
  });
  expect((await alice.ask('GET', `/directory/list/room/${esc(room)}`)).body).toEqual({
    visibility: 'public',
  });
  const taken = await alice.ask('POST', '/createRoom', { room_alias_name: name });
  expect(failure(taken)).toEqual([400, 'M_ROOM_IN_USE']);
  expect((await each.stranger().ask('POST', '/createRoom', {})).status).toBe(401);
});

test.each([
  [{ preset: 'chat' }, 400, 'M_BAD_JSON'],
  [{ room_version: '99' }, 400, 'M_UNSUPPORTED_ROOM_VERSION'],
  [{ room_alias_name: 'a:b' }, 400, 'M_INVALID_PARAM'],
  [{ room_alias_name: 'x'.repeat(255) }, 400, 'M_INVALID_PARAM'],
  [{ invite: ['alice'] }, 400, 'M_BAD_JSON'],
  [{ invite_3pid: [{ id_server: 'i', medium: 'email', address: 'a@b' }] }, 403, 'M_FORBIDDEN'],
  [{ power_level_content_override: { state_default: 'high' } }, 400, 'M_INVALID_ROOM_STATE'],
  [
    { room_version: '11', power_level_content_override: { users: {} }, name: 'No power for this' },
    400,
    'M_INVALID_ROOM_STATE',
  ],
  [{ initial_state: [{ type: 'm.room.create', content: {} }] }, 400, 'M_INVALID_ROOM_STATE'],
  [
    {
      initial_state: [
        { type: 'm.room.member', state_key: '@b:b.example', content: { membership: 'invite' } },
      ],
    },
    400,
    'M_INVALID_ROOM_STATE',
  ],
])('createRoom refuses %j', async (request, status, errcode) => {
  const alice = await door('HTTPS, JSON').user('alice');
  expect(failure(await alice.ask('POST', '/createRoom', request))).toEqual([status, errcode]);
  expect((await alice.ask('GET', '/joined_rooms')).body).toEqual({ joined_rooms: [] });
});

test.each([...ROOM_VERSIONS.keys()])(
  'a trusted private chat of version %s makes its invitees equals',
  async (version) => {
    const alice = await door('HTTPS, JSON').user('alice');
    const bob = await door('HTTPS, JSON').user('bob');
    const room = await newRoom(alice, {
      preset: 'trusted_private_chat',
      room_version: version,
      invite: [bob.id],
    });
    const create = await stateOf(alice, room, 'm.room.create');
    expect(create).toMatchObject({ room_version: version });
    const levels = await stateOf(alice, room, 'm.room.power_levels');
    if (version === '12') {
      expect(create).toMatchObject({ additional_creators: [bob.id] });
      expect(levels).toMatchObject({ users: {} });
    } else {
      expect(levels).toMatchObject({ users: { [alice.id]: 100, [bob.id]: 100 } });
    }
    await bob.ask('POST', `/rooms/${esc(room)}/join`, {});
    const power = await bob.ask('PUT', `/rooms/${esc(room)}/state/m.room.power_levels/`, {
      ...levels,
      ban: 60,
    });
    expect(power.status).toBe(200);
  },
);
