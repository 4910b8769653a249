import { expect, test } from 'vitest';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { doorsOf } from '../coverage/doors.ts';
import { esc, failure, newRoom, say, textsIn } from './room_user.ts';

const { eachDoor, door } = doorsOf(import.meta.url);

const visibility = (setting: string): JsonObject => ({
  type: 'm.room.history_visibility',
  content: { history_visibility: setting },
});

eachDoor('a room that everybody may read is looked into without joining', async (each) => {
  const alice = await each.user('alice');
  const bob = await each.user('bob');
  const room = await newRoom(alice, { name: 'Open', initial_state: [visibility('world_readable')] });
  const event = await say(alice, room, 'one');
  const { status, body } = await bob.ask('GET', `/rooms/${esc(room)}/initialSync?limit=2`);
  expect(status).toBe(200);
  expect(body).toMatchObject({ room_id: room, visibility: 'private', account_data: [] });
  expect(body.membership).toBeUndefined();
  const messages = body.messages as JsonObject;
  expect(messages.chunk).toHaveLength(2);
  expect(textsIn(messages.chunk)).toEqual(['one']);
  const types = (body.state as JsonObject[]).map(({ type }) => type);
  expect(types).toEqual(expect.arrayContaining(['m.room.create', 'm.room.name', 'm.room.member']));

  const path = `/events?room_id=${esc(room)}&from=${messages.end}`;
  const poll = bob.begin('GET', `${path}&timeout=60000`);
  await each.pass(1_000);
  await say(alice, room, 'two');
  const { body: told } = await each.until(poll);
  expect(told).toMatchObject({ start: messages.end });
  expect(textsIn(told.chunk)).toEqual(['two']);
  const quiet = await bob.ask('GET', `/events?room_id=${esc(room)}&from=${told.end}&timeout=1000`);
  expect(quiet).toMatchObject({ status: 200, body: { start: told.end, end: told.end, chunk: [] } });
  const older = await bob.ask('GET', `/rooms/${esc(room)}/messages?dir=b&from=${messages.start}&limit=1`);
  expect(older.status).toBe(200);
  for (const read of [
    `/rooms/${esc(room)}/state`,
    `/rooms/${esc(room)}/members`,
    `/rooms/${esc(room)}/aliases`,
  ]) {
    expect((await bob.ask('GET', read)).status, read).toBe(200);
  }
  expect((await bob.ask('GET', `/events/${esc(event)}`)).body).toMatchObject({
    event_id: event,
    room_id: room,
  });

  const closed = await newRoom(alice);
  const secret = await say(alice, closed, 'secret');
  expect(failure(await bob.ask('GET', `/rooms/${esc(closed)}/initialSync`))).toEqual([403, 'M_FORBIDDEN']);
  expect(failure(await bob.ask('GET', `/events?room_id=${esc(closed)}`))).toEqual([403, 'M_FORBIDDEN']);
  expect(failure(await bob.ask('GET', `/events/${esc(secret)}`))).toEqual([404, 'M_NOT_FOUND']);
  expect(failure(await bob.ask('GET', `/events/${esc('$none')}`))).toEqual([404, 'M_NOT_FOUND']);
  expect(failure(await bob.ask('GET', '/events'))).toEqual([400, 'M_MISSING_PARAM']);
  expect(failure(await bob.ask('GET', `/events?room_id=${esc(room)}&from=x`))).toEqual([
    400,
    'M_INVALID_PARAM',
  ]);
  for (const at of [`/rooms/${esc(room)}/initialSync`, path, `/events/${esc(event)}`]) {
    expect((await each.stranger().ask('GET', at)).status).toBe(401);
  }
});

test('of a room that was open for a time only that time is read from outside', async () => {
  const alice = await door('HTTPS, JSON').user('alice');
  const bob = await door('HTTPS, JSON').user('bob');
  const room = await newRoom(alice, { initial_state: [visibility('shared')] });
  const set = (setting: string) =>
    alice.ask('PUT', `/rooms/${esc(room)}/state/m.room.history_visibility`, { history_visibility: setting });
  await say(alice, room, 'before');
  await set('world_readable');
  await say(alice, room, 'open');
  const read = () => bob.ask('GET', `/rooms/${esc(room)}/messages?dir=f&limit=100`);
  expect(textsIn((await read()).body.chunk)).toEqual(['open']);
  await set('shared');
  expect(failure(await read())).toEqual([403, 'M_FORBIDDEN']);
  expect(failure(await bob.ask('GET', `/rooms/${esc(room)}/state`))).toEqual([403, 'M_FORBIDDEN']);
});

eachDoor('rooms are summarised for those who may know of them', async (each) => {
  const alice = await each.user('alice');
  const bob = await each.user('bob');
  const summary = (of: typeof alice, room: string) =>
    of.ask('GET', `/_matrix/client/v1/room_summary/${esc(room)}?via=a.example`);
  const open = await newRoom(alice, {
    preset: 'public_chat',
    room_alias_name: alice.localpart,
    name: 'Open',
    topic: 'Old form',
    creation_content: { type: 'm.space' },
    initial_state: [
      { type: 'm.room.avatar', content: { url: 'mxc://home.example/a' } },
      { type: 'm.room.encryption', content: { algorithm: 'm.megolm.v1.aes-sha2' } },
    ],
  });
  const told = {
    room_id: open,
    name: 'Open',
    topic: 'Old form',
    avatar_url: 'mxc://home.example/a',
    canonical_alias: `#${alice.localpart}:home.example`,
    num_joined_members: 1,
    world_readable: false,
    guest_can_join: false,
    join_rule: 'public',
    room_type: 'm.space',
    room_version: '12',
    encryption: 'm.megolm.v1.aes-sha2',
  };
  expect(await summary(alice, open)).toMatchObject({ status: 200, body: { ...told, membership: 'join' } });
  expect((await summary(bob, `#${alice.localpart}:home.example`)).body).toEqual(told);
  const closed = await newRoom(alice, { name: 'Closed' });
  expect(failure(await summary(bob, closed))).toEqual([404, 'M_NOT_FOUND']);
  await alice.ask('POST', `/rooms/${esc(closed)}/invite`, { user_id: bob.id });
  expect((await summary(bob, closed)).body).toMatchObject({ name: 'Closed', membership: 'invite' });
  await bob.ask('POST', `/rooms/${esc(closed)}/leave`, {});
  expect(failure(await summary(bob, closed))).toEqual([404, 'M_NOT_FOUND']);
  const allow = [{ type: 'm.room_membership', room_id: open }];
  const restricted = await newRoom(alice, {
    initial_state: [{ type: 'm.room.join_rules', content: { join_rule: 'restricted', allow } }],
  });
  expect(failure(await summary(bob, restricted))).toEqual([404, 'M_NOT_FOUND']);
  await bob.ask('POST', `/join/${esc(open)}`, {});
  expect((await summary(bob, restricted)).body).toMatchObject({
    allowed_room_ids: [open],
    join_rule: 'restricted',
  });
  expect(failure(await summary(bob, '!none:home.example'))).toEqual([404, 'M_NOT_FOUND']);
  expect(failure(await summary(bob, 'tea'))).toEqual([400, 'M_INVALID_PARAM']);
  const path = `/_matrix/client/v1/room_summary/${esc(open)}`;
  expect((await each.stranger().ask('GET', path)).status).toBe(401);
});
