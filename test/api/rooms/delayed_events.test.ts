import { expect, test } from 'vitest';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { doorsOf, PASSWORD, type User } from '../coverage/doors.ts';
import { esc, failure, newRoom, stateOf, textsIn } from './room_user.ts';

const { eachDoor, door } = doorsOf(import.meta.url);

const PATH = '/_matrix/client/unstable/org.matrix.msc4140/delayed_events';
const text = (body: string): JsonObject => ({ msgtype: 'm.text', body });

async function later(user: User, room: string, body: string, delayMs: number, txn = body): Promise<string> {
  const path = `/rooms/${esc(room)}/send/m.room.message/${txn}?org.matrix.msc4140.delay=${delayMs}`;
  const answer = await user.ask('PUT', path, text(body));
  expect(answer.status, JSON.stringify(answer.body)).toBe(200);
  return answer.body.delay_id as string;
}

const act = (user: User, id: string, action: string) => user.ask('POST', `${PATH}/${id}/${action}`, {});
const said = async (user: User, room: string): Promise<unknown[]> =>
  textsIn((await user.ask('GET', `/rooms/${esc(room)}/messages?dir=f&limit=200`)).body.chunk);

eachDoor(
  'an event is sent when its time has come, unless it was cancelled or put off again',
  async (each) => {
    const alice = await each.user('alice');
    const room = await newRoom(alice);
    const one = await later(alice, room, 'one', 60_000);
    expect(await later(alice, room, 'one', 60_000)).toBe(one);
    const two = await later(alice, room, 'two', 50_000);
    const three = await later(alice, room, 'three', 70_000);
    const four = await later(alice, room, 'four', 3_600_000);
    expect((await alice.ask('GET', PATH)).body).toMatchObject({
      delayed_events: [two, one, three, four].map((delay_id) => ({ delay_id, room_id: room })),
    });
    await each.pass(40_000);
    expect(await said(alice, room)).toEqual([]);
    expect(await act(alice, two, 'cancel')).toMatchObject({ status: 200, body: {} });
    expect(await alice.ask('POST', `${PATH}/${three}`, { action: 'restart' })).toMatchObject({ status: 200 });
    await each.pass(10);
    expect(await act(alice, four, 'send')).toMatchObject({ status: 200 });
    await each.pass(40_000);
    expect(await said(alice, room)).toEqual(['four', 'one']);
    await each.pass(40_000);
    expect(await said(alice, room)).toEqual(['four', 'one', 'three']);

    expect((await alice.ask('GET', `${PATH}/${one}`)).body).toMatchObject({
      ...{ delay_id: one, room_id: room, type: 'm.room.message', content: text('one'), delay_ms: 60_000 },
      event_id: expect.stringMatching(/^\$/),
      finalised_ts: expect.any(Number),
    });
    const ended = (await alice.ask('GET', PATH)).body;
    expect(ended.delayed_events).toEqual([]);
    expect((ended.finalised as JsonObject[]).map(({ outcome, reason }) => [outcome, reason])).toEqual([
      ['send', 'delay'],
      ['send', 'delay'],
      ['send', 'action'],
      ['cancel', 'action'],
    ]);
    // What has ended so may be asked for again, and nothing else.
    expect((await act(alice, one, 'send')).status).toBe(200);
    expect((await act(alice, two, 'cancel')).status).toBe(200);
    for (const [id, action] of [
      [one, 'cancel'],
      [two, 'send'],
      [two, 'restart'],
    ] as const)
      expect(failure(await act(alice, id, action))).toEqual([409, 'M_UNKNOWN']);
    expect(await said(alice, room)).toHaveLength(3);
    const bob = await each.user('bob');
    expect(failure(await bob.ask('GET', `${PATH}/${one}`))).toEqual([404, 'M_NOT_FOUND']);
    expect(failure(await act(bob, four, 'cancel'))).toEqual([404, 'M_NOT_FOUND']);
    expect(failure(await act(alice, four, 'x'))).toEqual([404, 'M_UNRECOGNIZED']);
    expect((await each.stranger().ask('GET', PATH)).status).toBe(401);
  },
);

test('state is set later, and what could not be sent says why', async () => {
  const http = door('HTTPS, JSON');
  const alice = await http.user('alice');
  const bob = await http.user('bob');
  const room = await newRoom(alice, { preset: 'public_chat' });
  await bob.ask('POST', `/rooms/${esc(room)}/join`, {});
  const state = (user: User, type: string, delay: string) =>
    user.ask('PUT', `/rooms/${esc(room)}/state/${type}/k?org.matrix.msc4140.delay=${delay}`, { a: 1 });
  expect((await state(alice, 'm.x', '5000')).body).toEqual({ delay_id: expect.any(String) });
  const refused = (await state(bob, 'm.y', '6000')).body.delay_id as string;
  await http.pass(5_500);
  expect(await stateOf(alice, room, 'm.x', 'k')).toEqual({ a: 1 });
  expect(failure(await act(bob, refused, 'send'))).toEqual([403, 'M_FORBIDDEN']);
  await http.pass(5_500);
  expect((await bob.ask('GET', `${PATH}/${refused}`)).body).toMatchObject({
    error: { errcode: 'M_FORBIDDEN' },
    finalised_ts: expect.any(Number),
  });
  expect(failure(await state(alice, 'm.room.member', '5000'))).toEqual([403, 'M_FORBIDDEN']);
  expect(failure(await state(alice, 'm.x', '86400001'))).toEqual([403, 'M_FORBIDDEN']);
  for (const delay of ['0', '-1', 'x'])
    expect(failure(await state(alice, 'm.x', delay))).toEqual([400, 'M_INVALID_PARAM']);
});

test('only so many of a user wait', async () => {
  const http = door('HTTPS, JSON');
  const alice = await http.user('alice');
  const room = await newRoom(alice);
  for (let n = 0; n < 100; n++) await later(alice, room, `${n}`, 60_000 + n);
  const path = `/rooms/${esc(room)}/send/m.room.message/more?org.matrix.msc4140.delay=60000`;
  const more = await alice.ask('PUT', path, text('more'));
  expect(failure(more)).toEqual([429, 'M_LIMIT_EXCEEDED']);
  expect(more.body.retry_after_ms).toBeLessThanOrEqual(60_000);
  await http.pass(120_000);
  expect(await said(alice, room)).toHaveLength(100);
});

test('a closed account sends nothing more', async () => {
  const http = door('HTTPS, JSON');
  const alice = await http.user('alice');
  const bob = await http.user('bob');
  const room = await newRoom(alice, { preset: 'public_chat' });
  await bob.ask('POST', `/rooms/${esc(room)}/join`, {});
  await later(bob, room, 'beyond', 60_000);
  const auth = {
    ...{ type: 'm.login.password', password: PASSWORD },
    identifier: { type: 'm.id.user', user: bob.id },
  };
  expect((await bob.ask('POST', '/account/deactivate', { auth })).status).toBe(200);
  await http.pass(120_000);
  expect(await said(alice, room)).toEqual([]);
});
