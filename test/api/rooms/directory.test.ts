import { expect, test } from 'vitest';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { doorsOf } from '../coverage/doors.ts';
import { esc, failure, newRoom, stateOf } from './room_user.ts';

const { eachDoor, door } = doorsOf(import.meta.url);

eachDoor('aliases are made, found and removed', async (each) => {
  const alice = await each.user('alice');
  const bob = await each.user('bob');
  const room = await newRoom(alice, { preset: 'public_chat' });
  const alias = `#café-${alice.localpart}:home.example`;
  const path = `/directory/room/${esc(alias)}`;
  const nobody = each.stranger();
  expect(failure(await nobody.ask('GET', path))).toEqual([404, 'M_NOT_FOUND']);
  expect(failure(await bob.ask('PUT', path, { room_id: room }))).toEqual([403, 'M_FORBIDDEN']);
  expect(await alice.ask('PUT', path, { room_id: room })).toMatchObject({ status: 200, body: {} });
  expect(failure(await alice.ask('PUT', path, { room_id: room }))).toEqual([409, 'M_UNKNOWN']);
  expect(await nobody.ask('GET', path)).toMatchObject({
    status: 200,
    body: { room_id: room, servers: ['home.example'] },
  });
  const list = `/rooms/${esc(room)}/aliases`;
  expect((await alice.ask('GET', list)).body).toEqual({ aliases: [alias] });
  expect(failure(await bob.ask('GET', list))).toEqual([403, 'M_FORBIDDEN']);
  await alice.ask('PUT', `/rooms/${esc(room)}/state/m.room.canonical_alias/`, {
    alias,
    alt_aliases: [alias],
  });
  expect(failure(await bob.ask('DELETE', path))).toEqual([403, 'M_FORBIDDEN']);
  expect(await alice.ask('DELETE', path)).toMatchObject({ status: 200, body: {} });
  expect(await stateOf(alice, room, 'm.room.canonical_alias')).toEqual({});
  expect(failure(await alice.ask('DELETE', path))).toEqual([404, 'M_NOT_FOUND']);
  for (const method of ['PUT', 'DELETE']) {
    const strange = `/directory/room/${esc('#tea:other.example')}`;
    expect(failure(await alice.ask(method, strange, { room_id: room }))).toEqual([400, 'M_INVALID_PARAM']);
    expect(failure(await alice.ask(method, '/directory/room/tea', { room_id: room }))).toEqual([
      400,
      'M_INVALID_PARAM',
    ]);
    expect((await nobody.ask(method, path, { room_id: room })).status).toBe(401);
  }
  expect(failure(await nobody.ask('GET', '/directory/room/tea'))).toEqual([400, 'M_INVALID_PARAM']);
  expect((await nobody.ask('GET', list)).status).toBe(401);
});

test('whoever made an alias may remove it, and whoever curates the room', async () => {
  const alice = await door('HTTPS, JSON').user('alice');
  const bob = await door('HTTPS, JSON').user('bob');
  const room = await newRoom(alice, { preset: 'public_chat' });
  await bob.ask('POST', `/join/${esc(room)}`, {});
  for (const remover of [alice, bob]) {
    const path = `/directory/room/${esc(`#${bob.localpart}:home.example`)}`;
    expect((await bob.ask('PUT', path, { room_id: room })).status).toBe(200);
    expect((await remover.ask('DELETE', path)).status).toBe(200);
  }
});

test('a canonical alias has to lead to the room, one that is there already need not', async () => {
  const alice = await door('HTTPS, JSON').user('alice');
  const room = await newRoom(alice, { room_alias_name: alice.localpart });
  const other = await newRoom(alice, { room_alias_name: `other-${alice.localpart}` });
  const [mine, theirs] = [`#${alice.localpart}:home.example`, `#other-${alice.localpart}:home.example`];
  const set = (content: JsonObject, where = room) =>
    alice.ask('PUT', `/rooms/${esc(where)}/state/m.room.canonical_alias`, content);
  expect(failure(await set({ alias: theirs }))).toEqual([400, 'M_BAD_ALIAS']);
  expect(failure(await set({ alias: mine, alt_aliases: [theirs] }))).toEqual([400, 'M_BAD_ALIAS']);
  expect(failure(await set({ alias: 'tea' }))).toEqual([400, 'M_INVALID_PARAM']);
  expect(failure(await set({ alt_aliases: [1] }))).toEqual([400, 'M_INVALID_PARAM']);
  expect(failure(await set({ alias: '#a:nowhere.example' }))).toEqual([400, 'M_BAD_ALIAS']);
  await alice.ask('DELETE', `/directory/room/${esc(theirs)}`);
  expect((await set({ alias: theirs }, other)).status).toBe(400);
  expect((await set({ alt_aliases: [mine] })).status).toBe(200);
  await alice.ask('PUT', `/directory/room/${esc(theirs)}`, { room_id: room });
  expect((await set({ alias: theirs, alt_aliases: [mine] })).status).toBe(200);
  await alice.ask('PUT', `/rooms/${esc(room)}/state/m.room.topic`, { topic: 'x' });
  expect((await set({ alias: mine, alt_aliases: [theirs] })).status).toBe(200);
});

eachDoor('rooms are listed, searched and taken off the list', async (each) => {
  const alice = await each.user('alice');
  const bob = await each.user('bob');
  const tag = `tag${alice.localpart}`;
  const rooms: string[] = [];
  for (const name of ['Tea', 'Coffee']) {
    rooms.push(await newRoom(alice, { visibility: 'public', name: `${name} ${tag}`, topic: 'Hot' }));
  }
  const space = await newRoom(alice, {
    visibility: 'public',
    name: `All ${tag}`,
    creation_content: { type: 'm.space' },
  });
  await bob.ask('POST', `/join/${esc(rooms[1]!)}`, {});
  const found = async (filter: JsonObject, more: JsonObject = {}) =>
    (await alice.ask('POST', '/publicRooms', { ...more, filter: { generic_search_term: tag, ...filter } }))
      .body;
  const names = ({ chunk }: JsonObject) => (chunk as JsonObject[]).map(({ name }) => name);
  expect(names(await found({ room_types: [null] }))).toEqual([`Coffee ${tag}`, `Tea ${tag}`].sort());
  expect(names(await found({ room_types: ['m.space'] }))).toEqual([`All ${tag}`]);
  const [first] = (await found({ room_types: [null] })).chunk as JsonObject[];
  expect(first).toEqual({
    room_id: rooms[1],
    name: `Coffee ${tag}`,
    topic: 'Hot',
    join_rule: 'public',
    num_joined_members: 2,
    world_readable: false,
    guest_can_join: false,
  });
  const page = await found({}, { limit: 2 });
  expect(page).toMatchObject({ total_room_count_estimate: 3, next_batch: expect.any(String) });
  const rest = await found({}, { limit: 2, since: page.next_batch! });
  expect([...names(page), ...names(rest)].sort()).toEqual([`All ${tag}`, `Coffee ${tag}`, `Tea ${tag}`]);
  expect(rest.next_batch).toBeUndefined();
  expect(names(await found({}, { limit: 2, since: rest.prev_batch! }))).toEqual(names(page));
  const nobody = each.stranger();
  const all = await nobody.ask('GET', '/publicRooms?limit=500');
  expect((all.body.chunk as JsonObject[]).map(({ room_id: id }) => id)).toContain(space);
  expect(failure(await nobody.ask('GET', '/publicRooms?since=x'))).toEqual([400, 'M_INVALID_PARAM']);
  expect(failure(await nobody.ask('GET', '/publicRooms?server=b.example'))).toEqual([502, 'M_UNKNOWN']);
  expect(failure(await nobody.ask('GET', '/publicRooms?server=b%20c'))).toEqual([400, 'M_INVALID_PARAM']);
  expect((await nobody.ask('POST', '/publicRooms', {})).status).toBe(401);

  const listed = `/directory/list/room/${esc(space)}`;
  expect(failure(await bob.ask('PUT', listed, { visibility: 'private' }))).toEqual([403, 'M_FORBIDDEN']);
  expect((await nobody.ask('PUT', listed, {})).status).toBe(401);
  expect((await alice.ask('PUT', listed, { visibility: 'private' })).body).toEqual({});
  expect((await nobody.ask('GET', listed)).body).toEqual({ visibility: 'private' });
  expect(names(await found({ room_types: ['m.space'] }))).toEqual([]);
  expect((await alice.ask('PUT', listed, {})).status).toBe(200);
  expect((await nobody.ask('GET', listed)).body).toEqual({ visibility: 'public' });
  const unknown = `/directory/list/room/${esc('!none:home.example')}`;
  expect(failure(await nobody.ask('GET', unknown))).toEqual([404, 'M_NOT_FOUND']);
  expect(failure(await alice.ask('PUT', unknown, {}))).toEqual([404, 'M_NOT_FOUND']);
});
