import { expect, test } from 'vitest';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { doorsOf } from '../coverage/doors.ts';
import { esc, failure, newRoom, say, stateOf, textsIn } from './room_user.ts';

const { eachDoor, door } = doorsOf(import.meta.url, { limits: { sends: { burst: 30, interval_ms: 1_000 } } });

eachDoor('events are sent once for each transaction of a device, and redacted', async (each) => {
  const alice = await each.user('alice');
  const phone = await each.again(alice, 'PHONE');
  const bob = await each.user('bob');
  const room = await newRoom(alice, { preset: 'public_chat' });
  const send = (user: typeof alice, txn: string, content: object = { body: 'hi' }) =>
    user.ask('PUT', `/rooms/${esc(room)}/send/m.room.message/${txn}`, content);
  const first = await send(alice, '1');
  expect(first).toMatchObject({ status: 200, body: { event_id: expect.stringMatching(/^\$/) } });
  expect((await send(alice, '1', { body: 'other' })).body).toEqual(first.body);
  expect((await send(phone, '1')).body).not.toEqual(first.body);
  const id = first.body.event_id as string;
  const event = `/rooms/${esc(room)}/event/${esc(id)}`;
  const unsigned = async (user: typeof alice) => (await user.ask('GET', event)).body.unsigned;
  expect(await unsigned(alice)).toMatchObject({ transaction_id: '1' });
  expect(await unsigned(phone)).not.toHaveProperty('transaction_id');
  expect(failure(await send(bob, '1'))).toEqual([403, 'M_FORBIDDEN']);
  expect(failure(await send(alice, '2', []))).toEqual([400, 'M_BAD_JSON']);
  expect(failure(await send(alice, '2', { body: 'x'.repeat(66_000) }))).toEqual([413, 'M_TOO_LARGE']);

  const redact = (user: typeof alice, txn: string) =>
    user.ask('PUT', `/rooms/${esc(room)}/redact/${esc(id)}/${txn}`, { reason: 'typo' });
  expect(failure(await redact(bob, 'r'))).toEqual([403, 'M_FORBIDDEN']);
  const redaction = await redact(alice, 'r');
  expect(redaction.status).toBe(200);
  expect((await redact(alice, 'r')).body).toEqual(redaction.body);
  expect((await alice.ask('GET', event)).body).toMatchObject({
    content: {},
    unsigned: { redacted_because: { event_id: redaction.body.event_id, content: { reason: 'typo' } } },
  });
  expect(failure(await bob.ask('GET', event))).toEqual([404, 'M_NOT_FOUND']);
  for (const path of [`/rooms/${esc(room)}/send/m.x/1`, `/rooms/${esc(room)}/redact/${esc(id)}/1`]) {
    expect((await each.stranger().ask('PUT', path, {})).status).toBe(401);
  }
  expect((await each.stranger().ask('GET', event)).status).toBe(401);
});

test('who sends too much is told how long to wait, and what was sent before is answered all the same', async () => {
  const alice = await door('HTTPS, JSON').user('alice');
  const room = await newRoom(alice);
  const send = (n: number) => alice.ask('PUT', `/rooms/${esc(room)}/send/m.x/${n}`, {});
  const answers = [];
  for (let n = 0; n < 31; n++) answers.push(await send(n));
  const last = answers.at(-1)!;
  expect(last).toMatchObject({
    status: 429,
    body: { errcode: 'M_LIMIT_EXCEEDED', retry_after_ms: expect.any(Number) },
    headers: { 'retry-after': '1' },
  });
  expect(answers.slice(0, 30).every(({ status }) => status === 200)).toBe(true);
  expect((await send(0)).body).toEqual(answers[0]!.body);
  const set = () => alice.ask('PUT', `/rooms/${esc(room)}/state/m.x`, {});
  expect(failure(await set())).toEqual([429, 'M_LIMIT_EXCEEDED']);
  await door('HTTPS, JSON').pass(1_000);
  expect((await set()).status).toBe(200);
});

eachDoor('state is set and read, as content and as an event', async (each) => {
  const alice = await each.user('alice');
  const bob = await each.user('bob');
  const room = await newRoom(alice);
  const path = `/rooms/${esc(room)}/state`;
  const set = await alice.ask('PUT', `${path}/m.room.name/`, { name: 'Tea' });
  expect(set.status).toBe(200);
  // What is so already is not sent again.
  expect((await alice.ask('PUT', `${path}/m.room.name`, { name: 'Tea' })).body).toEqual(set.body);
  expect((await alice.ask('PUT', `${path}/x/${esc('a/b')}`, { n: 1 })).status).toBe(200);
  expect((await alice.ask('GET', `${path}/m.room.name`)).body).toEqual({ name: 'Tea' });
  expect((await alice.ask('GET', `${path}/x/${esc('a/b')}?format=event`)).body).toMatchObject({
    ...{ type: 'x', state_key: 'a/b', content: { n: 1 }, room_id: room, sender: alice.id },
    event_id: expect.any(String),
  });
  const all = (await alice.ask('GET', path)).body as unknown as JsonObject[];
  expect(all.map(({ type }) => type)).toEqual(expect.arrayContaining(['m.room.create', 'm.room.name', 'x']));
  expect(failure(await alice.ask('GET', `${path}/none`))).toEqual([404, 'M_NOT_FOUND']);
  expect(failure(await alice.ask('GET', `${path}/x/${esc('a/b')}?format=x`))).toEqual([
    400,
    'M_INVALID_PARAM',
  ]);
  expect(failure(await bob.ask('GET', path))).toEqual([403, 'M_FORBIDDEN']);
  expect(failure(await bob.ask('GET', `${path}/m.room.name/`))).toEqual([403, 'M_FORBIDDEN']);
  expect(failure(await bob.ask('PUT', `${path}/m.room.name/`, {}))).toEqual([403, 'M_FORBIDDEN']);
  expect(failure(await alice.ask('PUT', `${path}/x/${esc(bob.id)}`, {}))).toEqual([403, 'M_FORBIDDEN']);
  for (const [method, at] of [
    ['GET', path],
    ['GET', `${path}/x/`],
    ['PUT', `${path}/x/`],
  ] as const) {
    expect((await each.stranger().ask(method, at, method === 'PUT' ? {} : undefined)).status).toBe(401);
  }
});

eachDoor('history is paged, filtered, and looked at around an event', async (each) => {
  const alice = await each.user('alice');
  const bob = await each.user('bob');
  const room = await newRoom(alice, { preset: 'public_chat' });
  await bob.ask('POST', `/join/${esc(room)}`, {});
  const ids: string[] = [];
  for (const text of ['1', '2', '3', '4', '5']) ids.push(await say(text === '3' ? bob : alice, room, text));
  const messages = async (query: string) =>
    (await alice.ask('GET', `/rooms/${esc(room)}/messages?${query}`)).body;
  const filter = (given: JsonObject) => `filter=${esc(JSON.stringify(given))}`;
  const newest = await messages('dir=b&limit=2');
  expect(textsIn(newest.chunk)).toEqual(['5', '4']);
  const older = await messages(`dir=b&limit=2&from=${newest.end}`);
  expect(textsIn(older.chunk)).toEqual(['3', '2']);
  expect(older.start).toBe(newest.end);
  expect(textsIn((await messages(`dir=f&from=${older.end}&to=${newest.end}`)).chunk)).toEqual(['2', '3']);
  const whole = await messages(`dir=f&limit=100&${filter({ types: ['m.room.message'] })}`);
  expect(textsIn(whole.chunk)).toEqual(['1', '2', '3', '4', '5']);
  expect(whole.end).toBeUndefined();
  const lazy = await messages(`dir=b&limit=3&${filter({ lazy_load_members: true, senders: [bob.id] })}`);
  expect((lazy.state as JsonObject[]).map(({ state_key: key }) => key)).toEqual([bob.id]);

  const around = `/rooms/${esc(room)}/context/${esc(ids[2]!)}`;
  const { body: context } = await alice.ask('GET', `${around}?limit=2`);
  expect(textsIn([context.event])).toEqual(['3']);
  expect([textsIn(context.events_before), textsIn(context.events_after)]).toEqual([['2'], ['4']]);
  expect((context.state as JsonObject[]).map(({ type }) => type)).toContain('m.room.create');
  expect(textsIn((await messages(`dir=b&limit=1&from=${context.start}`)).chunk)).toEqual(['1']);
  expect(textsIn((await messages(`dir=f&limit=1&from=${context.end}`)).chunk)).toEqual(['5']);
  const none = (await alice.ask('GET', `${around}?limit=0`)).body;
  expect([none.events_before, none.events_after]).toEqual([[], []]);
  const lazily = (await alice.ask('GET', `${around}?limit=0&${filter({ lazy_load_members: true })}`)).body;
  const members = (lazily.state as JsonObject[]).filter(({ type }) => type === 'm.room.member');
  expect(members.map(({ state_key: key }) => key)).toEqual([bob.id]);

  const carol = await each.user('carol');
  expect(failure(await carol.ask('GET', `/rooms/${esc(room)}/messages?dir=b`))).toEqual([403, 'M_FORBIDDEN']);
  expect(failure(await carol.ask('GET', around))).toEqual([404, 'M_NOT_FOUND']);
  for (const [query, errcode] of [
    ['', 'M_MISSING_PARAM'],
    ['dir=x', 'M_INVALID_PARAM'],
    ['dir=b&from=x', 'M_INVALID_PARAM'],
    ['dir=b&from=s1_999999', 'M_INVALID_PARAM'],
    ['dir=b&limit=x', 'M_INVALID_PARAM'],
    ['dir=b&filter=x', 'M_INVALID_PARAM'],
  ]) {
    const answer = await alice.ask('GET', `/rooms/${esc(room)}/messages?${query}`);
    expect(failure(answer), query).toEqual([400, errcode]);
  }
  for (const path of [`/rooms/${esc(room)}/messages?dir=b`, around]) {
    expect((await each.stranger().ask('GET', path)).status).toBe(401);
  }
});

eachDoor('an event is found by its time', async (each) => {
  const alice = await each.user('alice');
  const room = await newRoom(alice);
  const sent: { id: string; at: number }[] = [];
  for (const text of ['1', '2']) {
    await each.pass(10_000);
    const id = await say(alice, room, text);
    const { body } = await alice.ask('GET', `/rooms/${esc(room)}/event/${esc(id)}`);
    sent.push({ id, at: body.origin_server_ts as number });
  }
  const [one, two] = sent as [(typeof sent)[0], (typeof sent)[0]];
  const path = `/_matrix/client/v1/rooms/${esc(room)}/timestamp_to_event`;
  const at = (ts: number, dir: string) => alice.ask('GET', `${path}?ts=${ts}&dir=${dir}`);
  expect((await at(one.at + 1, 'f')).body).toEqual({ event_id: two.id, origin_server_ts: two.at });
  expect((await at(two.at - 1, 'b')).body).toEqual({ event_id: one.id, origin_server_ts: one.at });
  for (const dir of ['b', 'f']) expect((await at(one.at, dir)).body.event_id).toBe(one.id);
  expect(failure(await at(two.at + 1, 'f'))).toEqual([404, 'M_NOT_FOUND']);
  expect(failure(await at(0, 'b'))).toEqual([404, 'M_NOT_FOUND']);
  expect(failure(await at(0, 'x'))).toEqual([400, 'M_INVALID_PARAM']);
  expect(failure(await alice.ask('GET', `${path}?dir=b`))).toEqual([400, 'M_MISSING_PARAM']);
  const bob = await each.user('bob');
  expect(failure(await bob.ask('GET', `${path}?ts=0&dir=f`))).toEqual([403, 'M_FORBIDDEN']);
  // What came while somebody was not there is not found by its time either.
  await alice.ask('PUT', `/rooms/${esc(room)}/state/m.room.history_visibility/`, {
    history_visibility: 'joined',
  });
  await alice.ask('POST', `/rooms/${esc(room)}/invite`, { user_id: bob.id });
  await each.pass(1_000);
  const hidden = await say(alice, room, 'hidden');
  await each.pass(1_000);
  await bob.ask('POST', `/rooms/${esc(room)}/join`, {});
  const { origin_server_ts: time } = (await alice.ask('GET', `/rooms/${esc(room)}/event/${esc(hidden)}`))
    .body;
  const found = (await bob.ask('GET', `${path}?ts=${time}&dir=f`)).body.event_id;
  const joined = (await bob.ask('GET', `/rooms/${esc(room)}/state/m.room.member/${esc(bob.id)}?format=event`))
    .body;
  expect(found).toBe(joined.event_id);
  expect((await each.stranger().ask('GET', `${path}?ts=0&dir=f`)).status).toBe(401);
});

eachDoor('members are listed, now, at a point, and as of leaving', async (each) => {
  const alice = await each.user('alice');
  const bob = await each.user('bob');
  const carol = await each.user('carol');
  const room = await newRoom(alice, { preset: 'public_chat' });
  const members = async (user: typeof alice, query = '') =>
    ((await user.ask('GET', `/rooms/${esc(room)}/members${query}`)).body.chunk as JsonObject[])
      .map(({ state_key: key }) => key)
      .sort();
  const before = (await alice.ask('GET', '/sync')).body.next_batch;
  await bob.ask('POST', `/join/${esc(room)}`, {});
  expect(await members(alice)).toEqual([alice.id, bob.id].sort());
  expect(await members(alice, `?at=${before}`)).toEqual([alice.id]);
  await bob.ask('POST', `/rooms/${esc(room)}/leave`, {});
  await carol.ask('POST', `/join/${esc(room)}`, {});
  expect(await members(alice, '?membership=leave')).toEqual([bob.id]);
  expect(await members(alice, '?not_membership=leave')).toEqual([alice.id, carol.id].sort());
  expect(await members(alice, '?membership=leave&not_membership=leave')).toHaveLength(3);
  expect(await members(bob)).toEqual([alice.id, bob.id].sort());
  const joined = `/rooms/${esc(room)}/joined_members`;
  expect(Object.keys((await alice.ask('GET', joined)).body.joined as JsonObject).sort()).toEqual(
    [alice.id, carol.id].sort(),
  );
  expect(failure(await bob.ask('GET', joined))).toEqual([403, 'M_FORBIDDEN']);
  const dave = await each.user('dave');
  const path = `/rooms/${esc(room)}/members`;
  expect(failure(await dave.ask('GET', path))).toEqual([403, 'M_FORBIDDEN']);
  expect(failure(await alice.ask('GET', `${path}?membership=x`))).toEqual([400, 'M_INVALID_PARAM']);
  expect(failure(await alice.ask('GET', `${path}?at=x`))).toEqual([400, 'M_INVALID_PARAM']);
  for (const at of [path, joined]) expect((await each.stranger().ask('GET', at)).status).toBe(401);
});

test.each([
  // Said before Bob was invited, while he was, while he was in, and after he had left.
  ['joined', ['in']],
  ['invited', ['invited', 'in']],
  ['shared', ['before', 'invited', 'in']],
  ['world_readable', ['before', 'invited', 'in', 'after']],
])(
  'with history visibility %s somebody who has left reads %j, whatever way they ask',
  async (setting, seen) => {
    const alice = await door('HTTPS, JSON').user('alice');
    const bob = await door('HTTPS, JSON').user('bob');
    const history = { type: 'm.room.history_visibility', content: { history_visibility: setting } };
    const room = await newRoom(alice, { initial_state: [history] });
    const ids = new Map<string, string>();
    const tell = async (text: string) => ids.set(text, await say(alice, room, text));
    await tell('before');
    await alice.ask('POST', `/rooms/${esc(room)}/invite`, { user_id: bob.id });
    await tell('invited');
    await bob.ask('POST', `/rooms/${esc(room)}/join`, {});
    await tell('in');
    await bob.ask('POST', `/rooms/${esc(room)}/leave`, {});
    await alice.ask('PUT', `/rooms/${esc(room)}/state/m.room.name`, { name: 'Later' });
    await tell('after');
    // A point that Bob should not know.
    const { next_batch: now } = (await alice.ask('GET', '/sync')).body;
    for (const query of ['dir=f&limit=100', `dir=f&limit=100&to=${now}`]) {
      expect(textsIn((await bob.ask('GET', `/rooms/${esc(room)}/messages?${query}`)).body.chunk)).toEqual(
        seen,
      );
    }
    const back = (await bob.ask('GET', `/rooms/${esc(room)}/messages?dir=b&limit=100&from=${now}`)).body
      .chunk;
    expect(textsIn(back).reverse()).toEqual(seen);
    for (const [text, id] of ids) {
      for (const kind of ['event', 'context']) {
        const { status } = await bob.ask('GET', `/rooms/${esc(room)}/${kind}/${esc(id)}`);
        expect([text, kind, status]).toEqual([text, kind, seen.includes(text) ? 200 : 404]);
      }
    }
    const around = (await bob.ask('GET', `/rooms/${esc(room)}/context/${esc(ids.get('in')!)}?limit=50`)).body;
    const told = [...textsIn(around.events_before).reverse(), 'in', ...textsIn(around.events_after)];
    expect(told).toEqual(seen);
    // State is as of leaving.
    expect(await stateOf(bob, room, 'm.room.name')).toBeUndefined();
  },
);
