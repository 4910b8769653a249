import { expect, test } from 'vitest';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { doorsOf, type User } from '../coverage/doors.ts';
import { esc, failure, newRoom } from './room_user.ts';

const { eachDoor, door } = doorsOf(import.meta.url);

const SPACE = { creation_content: { type: 'm.space' } };

const add = async (user: User, space: string, child: string, content: JsonObject = {}): Promise<void> => {
  const path = `/rooms/${esc(space)}/state/m.space.child/${esc(child)}`;
  expect((await user.ask('PUT', path, { via: ['home.example'], ...content })).status).toBe(200);
};

const ask = (user: User, room: string, query = '') =>
  user.ask('GET', `/_matrix/client/v1/rooms/${esc(room)}/hierarchy${query}`);

const idsIn = (body: JsonObject): unknown[] => (body.rooms as JsonObject[]).map(({ room_id: id }) => id);

/**
 *   space ─┬─ open                a cycle leads back from below
 *          ├─ below ─┬─ deep
 *          │         └─ space
 *          └─ secret
 */
async function family(alice: User) {
  const open = await newRoom(alice, { preset: 'public_chat', name: 'Open' });
  const deep = await newRoom(alice, { preset: 'public_chat', name: 'Deep' });
  const secret = await newRoom(alice, { name: 'Secret' });
  const below = await newRoom(alice, { preset: 'public_chat', ...SPACE });
  const space = await newRoom(alice, { preset: 'public_chat', name: 'Space', ...SPACE });
  await add(alice, space, open, { order: 'a', suggested: true });
  await add(alice, space, below, { order: 'b' });
  await add(alice, space, secret, { order: 'c' });
  await add(alice, below, deep, { order: 'a' });
  await add(alice, below, space, { order: 'b' });
  return { space, open, below, deep, secret };
}

eachDoor(
  'the rooms of a space are told page by page, each once, those below a space right behind it',
  async (each) => {
    const alice = await each.user('alice');
    const { space, open, below, deep, secret } = await family(alice);
    const { status, body } = await ask(alice, space);
    expect([status, idsIn(body), body.next_batch]).toEqual([
      200,
      [space, open, below, deep, secret],
      undefined,
    ]);
    const [root, first] = body.rooms as [JsonObject, JsonObject];
    expect(root).toMatchObject({
      name: 'Space',
      room_type: 'm.space',
      join_rule: 'public',
      num_joined_members: 1,
    });
    expect((root.children_state as JsonObject[])[0]).toEqual({
      ...{ type: 'm.space.child', state_key: open, sender: alice.id, origin_server_ts: expect.any(Number) },
      content: { via: ['home.example'], order: 'a', suggested: true },
    });
    expect(first.children_state).toEqual([]);
    expect(idsIn((await ask(alice, space, '?max_depth=1')).body)).toEqual([space, open, below, secret]);
    expect(idsIn((await ask(alice, space, '?max_depth=0')).body)).toEqual([space]);
    expect(idsIn((await ask(alice, space, '?suggested_only=true')).body)).toEqual([space, open]);

    const paged: unknown[] = [];
    let token: unknown;
    for (let page = 0; page < 9; page++) {
      const from = token === undefined ? '' : `&from=${esc(String(token))}`;
      const answer = await ask(alice, space, `?limit=2&max_depth=3${from}`);
      paged.push(...idsIn(answer.body));
      token = answer.body.next_batch;
      if (token === undefined) break;
      expect(failure(await ask(alice, space, `?from=${esc(String(token))}&max_depth=1`))).toEqual([
        400,
        'M_INVALID_PARAM',
      ]);
      expect(failure(await ask(alice, space, `?from=${esc(String(token))}&suggested_only=true`))).toEqual([
        400,
        'M_INVALID_PARAM',
      ]);
    }
    expect(paged).toEqual([space, open, below, deep, secret]);
    for (const query of ['?from=x', '?limit=0', '?limit=x', '?suggested_only=1'])
      expect(failure(await ask(alice, space, query)), query).toEqual([400, 'M_INVALID_PARAM']);

    const bob = await each.user('bob');
    expect(idsIn((await ask(bob, space)).body)).toEqual([space, open, below, deep]);
    expect(failure(await ask(bob, secret))).toEqual([403, 'M_FORBIDDEN']);
    expect(failure(await ask(bob, '!nowhere:home.example'))).toEqual([403, 'M_FORBIDDEN']);
    await alice.ask('POST', `/rooms/${esc(secret)}/invite`, { user_id: bob.id });
    expect(idsIn((await ask(bob, space)).body)).toContain(secret);
    await alice.ask('POST', `/rooms/${esc(space)}/ban`, { user_id: bob.id });
    expect(failure(await ask(bob, space))).toEqual([403, 'M_FORBIDDEN']);
  },
);

test('children without an order come by their age, and none that is malformed or was taken back', async () => {
  const each = door('HTTPS, JSON');
  const alice = await each.user('alice');
  const space = await newRoom(alice, SPACE);
  const rooms: string[] = [];
  for (let i = 0; i < 5; i++) rooms.push(await newRoom(alice));
  const [late, orderless, last, first, gone] = rooms as [string, string, string, string, string];
  await add(alice, space, orderless);
  await each.pass(1_000);
  await add(alice, space, late, { order: 7 });
  await add(alice, space, last, { order: 'first' });
  await add(alice, space, first, { order: ' ' });
  await add(alice, space, gone);
  await add(alice, space, gone, { via: 'home.example' });
  expect(idsIn((await ask(alice, space)).body)).toEqual([space, first, last, orderless, late]);
});
