import { expect } from 'vitest';
import { ALL_LAYERS } from '../../../src/exchange/layers.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { type Answer, type Door, doorsOf, SERVER, type User } from '../coverage/doors.ts';
import { PEER } from '../coverage/peer.ts';

/*
 * Another server, away.example, asks this one through each door: with a signature for each request, and through a pipe
 * without one. It has no copy of any room, so that what it makes of templates is made here by hand.
 */

const { eachDoor } = doorsOf(import.meta.url, {}, { ...ALL_LAYERS, forms: false });

const FEDERATION = '/_matrix/federation';
const encoded = encodeURIComponent;
const failure = ({ status, body }: Answer) => [status, body.errcode];

async function roomOf(alice: User, options: object): Promise<string> {
  const { status, body } = await alice.ask('POST', '/createRoom', { room_version: '11', ...options });
  expect(status).toBe(200);
  return String(body.room_id);
}

eachDoor('says what it is, and which keys it has', async (door) => {
  const peer = door.peer();
  const version = await peer.ask('GET', `${FEDERATION}/v1/version`);
  expect([version.status, version.body]).toEqual([
    200,
    { server: { name: 'Ravine', version: expect.any(String) } },
  ]);
  const keys = await peer.ask('GET', '/_matrix/key/v2/server');
  expect([keys.status, keys.body.server_name]).toEqual([200, SERVER]);
});

eachDoor(
  'tells keys as a notary: its own too, signed, and nothing of a server that it does not reach',
  async (door) => {
    const peer = door.peer();
    const one = await peer.ask('GET', `/_matrix/key/v2/query/${SERVER}`);
    const wanted = { server_keys: { [SERVER]: {}, 'nowhere.example': {} } };
    const batch = await peer.ask('POST', '/_matrix/key/v2/query', wanted);
    for (const { status, body } of [one, batch])
      expect([status, body]).toEqual([
        200,
        {
          server_keys: [
            expect.objectContaining({
              server_name: SERVER,
              signatures: { [SERVER]: expect.objectContaining({}) },
            }),
          ],
        },
      ]);
  },
);

eachDoor('tells of a user who is here', async (door) => {
  const alice = await door.user('alice');
  await alice.ask('PUT', `/profile/${encoded(alice.id)}/displayname`, { displayname: 'Alice' });
  const { status, body } = await door
    .peer()
    .ask('GET', `${FEDERATION}/v1/query/profile?user_id=${encoded(alice.id)}`);
  expect([status, body]).toEqual([200, { displayname: 'Alice' }]);
  const gone = await door
    .peer()
    .ask('GET', `${FEDERATION}/v1/query/profile?user_id=${encoded(`@nobody:${SERVER}`)}`);
  expect([gone.status, gone.body.errcode]).toEqual([404, 'M_NOT_FOUND']);
});

eachDoor('tells which room an alias is', async (door) => {
  const alice = await door.user('alice');
  const room = await roomOf(alice, { room_alias_name: alice.localpart });
  const query = (alias: string) =>
    door.peer().ask('GET', `${FEDERATION}/v1/query/directory?room_alias=${encoded(`#${alias}:${SERVER}`)}`);
  const found = await query(alice.localpart);
  expect([found.status, found.body]).toEqual([200, { room_id: room, servers: [SERVER] }]);
  const unknown = await query('nowhere');
  expect([unknown.status, unknown.body.errcode]).toEqual([404, 'M_NOT_FOUND']);
});

eachDoor('nobody who is no server is answered', async (door) => {
  const refused = await door
    .stranger()
    .ask('GET', `${FEDERATION}/v1/query/profile?user_id=${encoded(`@a:${SERVER}`)}`);
  expect([refused.status, refused.body.errcode]).toEqual([401, 'M_UNAUTHORIZED']);
});

type Template = { readonly auth_events: string[] } & JsonObject;

/** Asks for a template, signs it, and sends it back: a join, a leave, a knock. */
async function handshake(peer: ReturnType<Door['peer']>, kind: string, room: string, user: string) {
  const made = await peer.ask(
    'GET',
    `${FEDERATION}/v1/make_${kind}/${encoded(room)}/${encoded(user)}${kind === 'leave' ? '' : '?ver=11'}`,
  );
  expect([kind, made.status, made.body.room_version]).toEqual([kind, 200, '11']);
  const template = made.body.event as Template;
  const { id, pdu } = peer.sign(template, '11');
  const version = kind === 'knock' ? 'v1' : 'v2';
  const path = `${FEDERATION}/${version}/send_${kind}/${encoded(room)}/${encoded(id)}`;
  return { template, id, sent: await peer.ask('PUT', path, pdu) };
}

eachDoor('joins a room, reads it, writes in it and leaves', async (door) => {
  const alice = await door.user('alice');
  const room = await roomOf(alice, { preset: 'public_chat' });
  const zoe = `@zoe-of-${alice.localpart}:${PEER}`;
  const peer = door.peer();
  const joined = await handshake(peer, 'join', room, zoe);
  expect(joined.sent.status).toBe(200);
  expect(JSON.stringify(joined.sent.body.state)).toContain('m.room.create');

  const said = await alice.ask('PUT', `/rooms/${encoded(room)}/send/m.room.message/1`, { body: 'hello' });
  const id = String(said.body.event_id);
  const event = await peer.ask('GET', `${FEDERATION}/v1/event/${encoded(id)}`);
  expect(event.body.pdus).toMatchObject([{ type: 'm.room.message', content: { body: 'hello' } }]);
  const at = `${encoded(room)}?event_id=${encoded(id)}`;
  const states = await peer.ask('GET', `${FEDERATION}/v1/state/${at}`);
  const ids = await peer.ask('GET', `${FEDERATION}/v1/state_ids/${at}`);
  expect([states.status, ids.status]).toEqual([200, 200]);
  expect((ids.body.pdu_ids as string[]).length).toBe((states.body.pdus as unknown[]).length);
  const chain = await peer.ask('GET', `${FEDERATION}/v1/event_auth/${encoded(room)}/${encoded(id)}`);
  expect((chain.body.auth_chain as unknown[]).length).toBeGreaterThan(2);
  const missing = await peer.ask('POST', `${FEDERATION}/v1/get_missing_events/${encoded(room)}`, {
    ...{ earliest_events: [], latest_events: [id], limit: 10 },
  });
  expect((missing.body.events as unknown[]).length).toBeGreaterThan(0);

  const [{ depth }] = event.body.pdus as [{ depth: number }];
  const leave = await peer.ask('GET', `${FEDERATION}/v1/make_leave/${encoded(room)}/${encoded(zoe)}`);
  const { pdu } = peer.sign(
    {
      ...{ type: 'm.room.message', room_id: room, sender: zoe, content: { body: 'hello from away' } },
      ...{ prev_events: [id], depth: depth + 1 },
      // What lets her leave lets her speak.
      auth_events: (leave.body.event as Template).auth_events,
    },
    '11',
  );
  const transaction = { origin: PEER, origin_server_ts: 1, pdus: [pdu] };
  const sent = await peer.ask('PUT', `${FEDERATION}/v1/send/${alice.localpart}`, transaction);
  expect([sent.status, JSON.stringify(sent.body)]).toEqual([200, expect.not.stringContaining('error')]);
  await door.pass(1_000);
  const read = await alice.ask('GET', `/rooms/${encoded(room)}/messages?dir=b&limit=5`);
  expect(JSON.stringify(read.body)).toContain('hello from away');

  const left = await handshake(peer, 'leave', room, zoe);
  expect(left.sent).toMatchObject({ status: 200, body: {} });
});

eachDoor('knocks, and is refused where nobody may', async (door) => {
  const alice = await door.user('alice');
  const rule = (join_rule: string) => [{ type: 'm.room.join_rules', state_key: '', content: { join_rule } }];
  const open = await roomOf(alice, { initial_state: rule('knock') });
  const closed = await roomOf(alice, { initial_state: rule('invite') });
  const peer = door.peer();
  const zoe = encoded(`@zoe:${PEER}`);
  const refused = await peer.ask('GET', `${FEDERATION}/v1/make_knock/${encoded(closed)}/${zoe}?ver=11`);
  expect([refused.status, refused.body.errcode]).toEqual([403, 'M_FORBIDDEN']);
  const knocked = await handshake(peer, 'knock', open, `@zoe:${PEER}`);
  expect([knocked.sent.status, Array.isArray(knocked.sent.body.knock_room_state)]).toEqual([200, true]);
});

/** Invites as zoe to a room that is not here. */
function inviteFrom(peer: ReturnType<Door['peer']>, invited: User): Promise<Answer> {
  const zoe = `@zoe:${PEER}`;
  const room = `!elsewhere-${invited.localpart}:${PEER}`;
  const create = {
    ...{ type: 'm.room.create', room_id: room, sender: zoe, state_key: '' },
    ...{ content: { room_version: '11' }, prev_events: [], auth_events: [], depth: 1 },
  };
  const { id, pdu: event } = peer.sign(
    {
      ...{ type: 'm.room.member', room_id: room, sender: zoe, state_key: invited.id },
      ...{ content: { membership: 'invite' }, prev_events: ['$a'], auth_events: ['$b'], depth: 5 },
    },
    '11',
  );
  return peer.ask('PUT', `${FEDERATION}/v2/invite/${encoded(room)}/${encoded(id)}`, {
    ...{ room_version: '11', event },
    invite_room_state: [peer.sign(create, '11').pdu],
  });
}

eachDoor('invites a user who is here to a room that is elsewhere', async (door) => {
  const alice = await door.user('alice');
  const invited = await inviteFrom(door.peer(), alice);
  expect(invited.status, JSON.stringify(invited.body)).toBe(200);
  const signatures = (invited.body.event as { signatures: object }).signatures;
  expect(Object.keys(signatures).sort()).toEqual([PEER, SERVER].sort());

  const bob = await door.user('bob');
  const path = `/user/${encoded(bob.id)}/account_data/m.invite_permission_config`;
  expect((await bob.ask('PUT', path, { default_action: 'block' })).status).toBe(200);
  expect(failure(await inviteFrom(door.peer(), bob))).toEqual([403, 'M_INVITE_BLOCKED']);
});

eachDoor('is told why a room cannot be joined by it', async (door) => {
  const alice = await door.user('alice');
  const peer = door.peer();
  const zoe = `@zoe-of-${alice.localpart}:${PEER}`;
  const make = async (kind: string, room: string, versions = '?ver=11') =>
    failure(
      await peer.ask('GET', `${FEDERATION}/v1/make_${kind}/${encoded(room)}/${encoded(zoe)}${versions}`),
    );
  const rules = (join_rule: string, ...allowed: string[]) => [
    {
      ...{ type: 'm.room.join_rules', state_key: '' },
      content: { join_rule, allow: allowed.map((room_id) => ({ type: 'm.room_membership', room_id })) },
    },
  ];
  const open = await roomOf(alice, { preset: 'public_chat' });
  expect(await make('join', open, '?ver=9&ver=10')).toEqual([400, 'M_INCOMPATIBLE_ROOM_VERSION']);
  const knocking = await roomOf(alice, { initial_state: rules('knock') });
  expect(await make('knock', knocking, '')).toEqual([400, 'M_INCOMPATIBLE_ROOM_VERSION']);
  const unknown = await roomOf(alice, { initial_state: rules('restricted', `!unknown:${PEER}`) });
  expect(await make('join', unknown)).toEqual([400, 'M_UNABLE_TO_AUTHORISE_JOIN']);
  expect((await handshake(peer, 'join', open, zoe)).sent.status).toBe(200);
  const mighty = await roomOf(alice, {
    initial_state: rules('restricted', open),
    power_level_content_override: { invite: 101 },
  });
  expect(await make('join', mighty)).toEqual([400, 'M_UNABLE_TO_GRANT_JOIN']);
  expect(await make('join', `!nowhere:${SERVER}`)).toEqual([404, 'M_NOT_FOUND']);
});

eachDoor('is refused what is another event than it says', async (door) => {
  const alice = await door.user('alice');
  const room = await roomOf(alice, { preset: 'public_chat' });
  const peer = door.peer();
  const zoe = `@zoe:${PEER}`;
  const join = await handshake(peer, 'join', room, zoe);
  const { id, pdu } = peer.sign({ ...join.template, content: { membership: 'ban' } }, '11');
  for (const path of ['v2/send_join', 'v2/send_leave', 'v1/send_knock'])
    expect([
      path,
      ...failure(await peer.ask('PUT', `${FEDERATION}/${path}/${encoded(room)}/${encoded(id)}`, pdu)),
    ]).toEqual([path, 400, 'M_INVALID_PARAM']);
  const invite = async (body: object) =>
    failure(await peer.ask('PUT', `${FEDERATION}/v2/invite/${encoded(room)}/${encoded(id)}`, body));
  expect(await invite({ room_version: '11', event: pdu, invite_room_state: [] })).toEqual([
    400,
    'M_INVALID_PARAM',
  ]);
  expect(await invite({ room_version: 'x', event: pdu })).toEqual([400, 'M_INCOMPATIBLE_ROOM_VERSION']);
});
