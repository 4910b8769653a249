import { expect } from 'vitest';
import { ALL_LAYERS } from '../../../src/exchange/layers.ts';
import type { KeyId, ServerName } from '../../../src/matrix/ids.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { signingKey, signJson } from '../../../src/matrix/signing.ts';
import { type Door, doorsOf, SERVER, type User } from '../coverage/doors.ts';
import { PEER } from '../coverage/peer.ts';
import { esc, failure, newRoom, say } from '../rooms/room_user.ts';

/* Another server, away.example, reads rooms, asks which there are, and invites; through each door. */

const { eachDoor } = doorsOf(import.meta.url, {}, { ...ALL_LAYERS, forms: false });

const V1 = '/_matrix/federation/v1';
type PeerOfDoor = ReturnType<Door['peer']>;

const state = (type: string, content: JsonObject): JsonObject => ({ type, state_key: '', content });
const visibility = (setting: string): JsonObject =>
  state('m.room.history_visibility', { history_visibility: setting });

/** A user of away.example comes into a room of version 11. */
async function join(peer: PeerOfDoor, room: string, user: string): Promise<void> {
  const made = await peer.ask('GET', `${V1}/make_join/${esc(room)}/${esc(user)}?ver=11`);
  expect(made.status, JSON.stringify(made.body)).toBe(200);
  const { id, pdu } = peer.sign(made.body.event as JsonObject, '11');
  const path = `/_matrix/federation/v2/send_join/${esc(room)}/${esc(id)}`;
  expect((await peer.ask('PUT', path, pdu)).status).toBe(200);
}

const roomOf = (alice: User, options: JsonObject = {}): Promise<string> =>
  newRoom(alice, { room_version: '11', preset: 'public_chat', ...options });

eachDoor('reads the past of a room that it is in, as far as its users may', async (door) => {
  const alice = await door.user('alice');
  const peer = door.peer();
  const zoe = `@zoe-of-${alice.localpart}:${PEER}`;
  const room = await roomOf(alice, { initial_state: [visibility('joined')] });
  const hidden = await say(alice, room, 'hidden');
  const backfill = (from: string, limit = 10) =>
    peer.ask('GET', `${V1}/backfill/${esc(room)}?v=${esc(from)}&limit=${limit}`);
  const closest = (dir: string, ts = door.time.clock.wall()) =>
    peer.ask('GET', `${V1}/timestamp_to_event/${esc(room)}?ts=${ts}&dir=${dir}`);

  expect(failure(await backfill(hidden))).toEqual([403, 'M_FORBIDDEN']);
  expect(failure(await closest('b'))).toEqual([403, 'M_FORBIDDEN']);
  for (const path of [
    `state/${esc(room)}?event_id=${esc(hidden)}`,
    `state_ids/${esc(room)}?event_id=${esc(hidden)}`,
  ])
    expect(failure(await peer.ask('GET', `${V1}/${path}`)), path).toEqual([403, 'M_FORBIDDEN']);
  for (const path of [`event/${esc(hidden)}`, `event_auth/${esc(room)}/${esc(hidden)}`])
    expect(failure(await peer.ask('GET', `${V1}/${path}`)), path).toEqual([404, 'M_NOT_FOUND']);
  await door.pass(1_000);
  await join(peer, room, zoe);
  await door.pass(1_000);
  const seen = await say(alice, room, 'seen');

  const { status, body } = await backfill(seen, 3);
  expect([status, body.origin]).toEqual([200, SERVER]);
  expect(
    (body.pdus as JsonObject[]).map(({ type, content }) => [type, (content as JsonObject).body]),
  ).toEqual([
    ['m.room.message', 'seen'],
    ['m.room.member', undefined],
    ['m.room.message', undefined],
  ]);
  const { body: alone } = await peer.ask('GET', `${V1}/event/${esc(hidden)}`);
  expect(alone.pdus).toMatchObject([{ type: 'm.room.message', content: {} }]);
  expect(JSON.stringify(alone)).not.toContain('hidden');
  expect(failure(await backfill('x'))).toEqual([400, 'M_INVALID_PARAM']);
  expect(failure(await peer.ask('GET', `${V1}/backfill/${esc(room)}?limit=1`))).toEqual([
    400,
    'M_MISSING_PARAM',
  ]);
  expect(failure(await peer.ask('GET', `${V1}/backfill/${esc(room)}?v=${esc(seen)}`))).toEqual([
    400,
    'M_MISSING_PARAM',
  ]);

  expect(await closest('b')).toMatchObject({ status: 200, body: { event_id: seen } });
  // What was said is not for it; what came before is, being of the room's state.
  const [, , said] = body.pdus as [unknown, unknown, { origin_server_ts: number }];
  const before = await closest('b', said.origin_server_ts);
  expect([before.status, before.body.event_id === hidden]).toEqual([200, false]);
  expect(failure(await closest('f', door.time.clock.wall() + 60_000))).toEqual([404, 'M_NOT_FOUND']);
  expect(failure(await closest('x'))).toEqual([400, 'M_INVALID_PARAM']);
});

eachDoor('is refused a room whose list of servers denies it', async (door) => {
  const alice = await door.user('alice');
  const peer = door.peer();
  const room = await roomOf(alice);
  await join(peer, room, `@zoe-of-${alice.localpart}:${PEER}`);
  const event = await say(alice, room, 'hello');
  const at = `${esc(room)}?event_id=${esc(event)}`;
  expect((await peer.ask('GET', `${V1}/state_ids/${at}`)).status).toBe(200);
  const acl = `/rooms/${esc(room)}/state/m.room.server_acl`;
  expect((await alice.ask('PUT', acl, { allow: ['*'], deny: [PEER] })).status).toBe(200);
  for (const path of [
    `state_ids/${at}`,
    `state/${at}`,
    `event_auth/${esc(room)}/${esc(event)}`,
    `backfill/${esc(room)}?v=${esc(event)}&limit=1`,
    `make_join/${esc(room)}/${esc(`@zoe:${PEER}`)}?ver=11`,
    `make_leave/${esc(room)}/${esc(`@zoe:${PEER}`)}`,
    `make_knock/${esc(room)}/${esc(`@zoe:${PEER}`)}?ver=11`,
    `timestamp_to_event/${esc(room)}?ts=0&dir=f`,
  ])
    expect(failure(await peer.ask('GET', `${V1}/${path}`)), path).toEqual([403, 'M_FORBIDDEN']);
  const missing = { earliest_events: [], latest_events: [event] };
  expect(failure(await peer.ask('POST', `${V1}/get_missing_events/${esc(room)}`, missing))).toEqual([
    403,
    'M_FORBIDDEN',
  ]);
  for (const path of ['v2/send_join', 'v2/send_leave', 'v1/send_knock', 'v1/invite'])
    expect(
      failure(await peer.ask('PUT', `/_matrix/federation/${path}/${esc(room)}/${esc('$x')}`, {})),
      path,
    ).toEqual([403, 'M_FORBIDDEN']);
});

eachDoor('pages through the room directory and searches it', async (door) => {
  const alice = await door.user('alice');
  const peer = door.peer();
  const name = `Tea with ${alice.localpart}`;
  const room = await newRoom(alice, { preset: 'public_chat', visibility: 'public', name });
  const { status, body } = await peer.ask('GET', `${V1}/publicRooms?limit=0`);
  expect(status).toBe(200);
  expect((body.chunk as JsonObject[]).map(({ room_id: id }) => id)).toContain(room);
  const filter = { generic_search_term: alice.localpart };
  const found = await peer.ask('POST', `${V1}/publicRooms`, { limit: 5, filter });
  expect(found.body).toMatchObject({ chunk: [{ room_id: room, name, num_joined_members: 1 }] });
  expect(failure(await peer.ask('GET', `${V1}/publicRooms?since=x`))).toEqual([400, 'M_INVALID_PARAM']);
  expect(failure(await peer.ask('POST', `${V1}/publicRooms`, { limit: 'x' }))).toEqual([400, 'M_BAD_JSON']);
});

eachDoor('is told the rooms of a space that it could look into or join', async (door) => {
  const alice = await door.user('alice');
  const peer = door.peer();
  const zoe = `@zoe-of-${alice.localpart}:${PEER}`;
  const space = await roomOf(alice, { creation_content: { type: 'm.space' }, name: 'Space' });
  const open = await roomOf(alice, { name: 'Open' });
  const closed = await newRoom(alice, { name: 'Closed' });
  const rules = (allowed: string): JsonObject =>
    state('m.room.join_rules', {
      join_rule: 'restricted',
      allow: [{ type: 'm.room_membership', room_id: allowed }],
    });
  const forMembers = await newRoom(alice, { room_version: '11', initial_state: [rules(space)] });
  const add = (child: string, content: JsonObject) =>
    alice.ask('PUT', `/rooms/${esc(space)}/state/m.space.child/${esc(child)}`, content);
  await add(open, { via: [SERVER], order: 'b', suggested: true });
  await add(closed, { via: [SERVER], order: 'a' });
  await add(forMembers, { via: [SERVER], order: 'c' });
  await add(`!elsewhere:${PEER}`, { via: [PEER] });
  await add(`!gone:${PEER}`, {});
  const ask = (query = '', of = space) => peer.ask('GET', `${V1}/hierarchy/${esc(of)}${query}`);
  const idsIn = (list: unknown, key = 'room_id') => (list as JsonObject[]).map((each) => each[key]);

  const { status, body } = await ask();
  expect([status, body.room]).toMatchObject([200, { room_id: space, name: 'Space', room_type: 'm.space' }]);
  expect(idsIn((body.room as JsonObject).children_state, 'state_key')).toEqual([
    ...[closed, open, forMembers, `!elsewhere:${PEER}`],
  ]);
  expect(idsIn(body.children)).toEqual([open]);
  expect(body.inaccessible_children).toEqual([closed, forMembers]);
  await join(peer, space, zoe);
  expect(idsIn((await ask()).body.children)).toEqual([open, forMembers]);
  const suggested = (await ask('?suggested_only=true')).body;
  expect([idsIn(suggested.children), suggested.inaccessible_children]).toEqual([[open], []]);
  await alice.ask('PUT', `/rooms/${esc(open)}/state/m.room.server_acl`, { allow: ['*'], deny: [PEER] });
  expect((await ask()).body.inaccessible_children).toEqual([closed, open]);

  expect(failure(await ask('', closed))).toEqual([404, 'M_NOT_FOUND']);
  expect(failure(await ask('', `!nowhere:${SERVER}`))).toEqual([404, 'M_NOT_FOUND']);
  expect(failure(await ask('?suggested_only=x'))).toEqual([400, 'M_INVALID_PARAM']);
});

eachDoor('invites as servers did that knew no room versions', async (door) => {
  const peer = door.peer();
  const zoe = `@zoe:${PEER}`;
  const invite = (user: User, membership = 'invite') => {
    const room = `!old-${user.localpart}:${PEER}`;
    const { pdu } = peer.sign(
      {
        ...{ type: 'm.room.member', room_id: room, sender: zoe, state_key: user.id, content: { membership } },
        ...{ event_id: `$1:${PEER}`, prev_events: [], auth_events: [], depth: 5 },
      },
      '1',
    );
    return peer.ask('PUT', `${V1}/invite/${esc(room)}/${esc(`$1:${PEER}`)}`, {
      ...pdu,
      unsigned: { invite_room_state: [{ ...state('m.room.name', { name: 'Old' }), sender: zoe }] },
    });
  };
  const alice = await door.user('alice');
  const { status, body } = await invite(alice);
  const [code, { event }] = body as unknown as [number, { event: { signatures: object } }];
  expect([status, code]).toEqual([200, 200]);
  expect(Object.keys(event.signatures).sort()).toEqual([PEER, SERVER].sort());
  expect(failure(await invite(alice, 'ban'))).toEqual([400, 'M_INVALID_PARAM']);
  const bob = await door.user('bob');
  const path = `/user/${esc(bob.id)}/account_data/m.invite_permission_config`;
  expect((await bob.ask('PUT', path, { default_action: 'block' })).status).toBe(200);
  expect(failure(await invite(bob))).toEqual([403, 'M_INVITE_BLOCKED']);
});

eachDoor('joins and leaves as servers did before, and keeps what it saw while it was there', async (door) => {
  const alice = await door.user('alice');
  const peer = door.peer();
  const zoe = `@zoe-of-${alice.localpart}:${PEER}`;
  const room = await roomOf(alice);
  const send = async (kind: string) => {
    const made = await peer.ask('GET', `${V1}/make_${kind}/${esc(room)}/${esc(zoe)}?ver=11`);
    const { id, pdu } = peer.sign(made.body.event as JsonObject, '11');
    return peer.ask('PUT', `${V1}/send_${kind}/${esc(room)}/${esc(id)}`, pdu);
  };
  const joined = await send('join');
  expect([joined.status, joined.body]).toEqual([
    200,
    [200, expect.objectContaining({ state: expect.anything() })],
  ]);
  const seen = await say(alice, room, 'seen');
  const left = await send('leave');
  expect([left.status, left.body]).toEqual([200, [200, {}]]);
  const unseen = await say(alice, room, 'unseen');
  expect((await peer.ask('GET', `${V1}/event/${esc(seen)}`)).status).toBe(200);
  expect((await peer.ask('GET', `${V1}/state_ids/${esc(room)}?event_id=${esc(seen)}`)).status).toBe(200);
  expect(failure(await peer.ask('GET', `${V1}/event/${esc(unseen)}`))).toEqual([404, 'M_NOT_FOUND']);
  expect(failure(await peer.ask('GET', `${V1}/state_ids/${esc(room)}?event_id=${esc(unseen)}`))).toEqual([
    403,
    'M_FORBIDDEN',
  ]);
  for (const from of [seen, unseen])
    expect(failure(await peer.ask('GET', `${V1}/backfill/${esc(room)}?v=${esc(from)}&limit=9`))).toEqual([
      403,
      'M_FORBIDDEN',
    ]);
});

eachDoor('has somebody invited who shows that the address is theirs', async (door) => {
  const alice = await door.user('alice');
  const bob = await door.user('bob');
  const peer = door.peer();
  const room = await newRoom(alice);
  const key = signingKey('ed25519:0' as KeyId, new Uint8Array(32).fill(7));
  const publicKey = Buffer.from(key.publicKey).toString('base64').replace(/=+$/, '');
  const keys = { display_name: 'B', key_validity_url: 'https://id.example/valid', public_key: publicKey };
  const set = await alice.ask('PUT', `/rooms/${esc(room)}/state/m.room.third_party_invite/token`, keys);
  expect(set.status, JSON.stringify(set.body)).toBe(200);
  const exchange = (change: JsonObject = {}, token = 'token') => {
    const signed = signJson({ mxid: bob.id, token }, 'id.example' as ServerName, key) as JsonObject;
    return peer.ask('PUT', `${V1}/exchange_third_party_invite/${esc(room)}`, {
      ...{ type: 'm.room.member', room_id: room, sender: alice.id, state_key: bob.id },
      content: { membership: 'invite', third_party_invite: { display_name: 'B', signed } },
      ...change,
    });
  };
  expect(failure(await exchange({}, 'another'))).toEqual([403, 'M_FORBIDDEN']);
  expect(failure(await exchange({ sender: bob.id }))).toEqual([403, 'M_FORBIDDEN']);
  expect(failure(await exchange({ state_key: alice.id }))).toEqual([400, 'M_INVALID_PARAM']);
  expect(failure(await exchange({ sender: `@zoe:${PEER}` }))).toEqual([400, 'M_INVALID_PARAM']);
  expect(failure(await exchange({ room_id: `!x:${PEER}` }))).toEqual([400, 'M_INVALID_PARAM']);
  expect(failure(await exchange({ content: { membership: 'join' } }))).toEqual([400, 'M_BAD_JSON']);
  const member = `/rooms/${esc(room)}/state/m.room.member/${esc(bob.id)}`;
  expect((await alice.ask('GET', member)).status).toBe(404);
  for (let time = 0; time < 2; time++) expect(await exchange()).toMatchObject({ status: 200, body: {} });
  expect((await alice.ask('GET', member)).body).toMatchObject({
    membership: 'invite',
    third_party_invite: { display_name: 'B', signed: { mxid: bob.id } },
  });
});
