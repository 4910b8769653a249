import { expect } from 'vitest';
import type { JsonObject } from '../../src/matrix/json.ts';
import { type Door, doorsOf, type User } from './coverage/doors.ts';

const { eachDoor } = doorsOf(import.meta.url);

interface Chat {
  readonly alice: User;
  readonly bob: User;
  readonly room: string;
  readonly events: string[];
  /** Of an event in the thread of the first one. */
  readonly inThread: string;
}

/** Two users in a room with three messages, and a thread of the first. */
async function chat(door: Door): Promise<Chat> {
  const [alice, bob] = [await door.user('alice'), await door.user('bob')];
  const { body } = await alice.ask('POST', '/createRoom', { preset: 'public_chat' });
  const room = encodeURIComponent(String(body.room_id));
  await bob.ask('POST', `/join/${room}`, {});
  const say = async (content: JsonObject, txn: string): Promise<string> => {
    const path = `/rooms/${room}/send/m.room.message/${txn}`;
    return String(
      (await alice.ask('PUT', path, { msgtype: 'm.text', body: 'hello', ...content })).body.event_id,
    );
  };
  const events = [await say({}, 'a'), await say({}, 'b'), await say({}, 'c')];
  const inThread = await say({ 'm.relates_to': { rel_type: 'm.thread', event_id: events[0]! } }, 'd');
  return { alice, bob, room, events, inThread };
}

/** What /sync tells somebody of the one room that they are in. */
async function toldOf(user: User): Promise<{ ephemeral: JsonObject[]; data: JsonObject[] }> {
  const { body } = await user.ask('GET', '/sync');
  const [section] = Object.values((body.rooms as JsonObject).join as JsonObject) as JsonObject[];
  const eventsOf = (key: string): JsonObject[] => (section![key] as { events: JsonObject[] }).events;
  return { ephemeral: eventsOf('ephemeral'), data: eventsOf('account_data') };
}

const receiptsIn = (told: readonly JsonObject[]): readonly JsonObject[] =>
  told.filter(({ type }) => type === 'm.receipt').map(({ content }) => content as JsonObject);

const at = (event: string): string => encodeURIComponent(event);

eachDoor('a receipt is told to everybody, a private one to its user alone', async (door) => {
  const { alice, bob, room, events } = await chat(door);
  const sent = await bob.ask('POST', `/rooms/${room}/receipt/m.read/${at(events[0]!)}`, {});
  expect(sent).toMatchObject({ status: 200, body: {} });
  await bob.ask('POST', `/rooms/${room}/receipt/m.read.private/${at(events[1]!)}`, {});
  const read = { [events[0]!]: { 'm.read': { [bob.id]: { ts: expect.any(Number) } } } };
  expect(receiptsIn((await toldOf(alice)).ephemeral)).toEqual([read]);
  expect(receiptsIn((await toldOf(bob)).ephemeral)).toEqual([
    { ...read, [events[1]!]: { 'm.read.private': { [bob.id]: { ts: expect.any(Number) } } } },
  ]);
});

eachDoor('a receipt goes forward only, in each thread by itself', async (door) => {
  const { alice, bob, room, events, inThread } = await chat(door);
  const mark = (event: string, body: JsonObject) =>
    bob.ask('POST', `/rooms/${room}/receipt/m.read/${at(event)}`, body);
  for (const [event, body] of [
    [events[1]!, {}],
    [events[0]!, {}],
    [events[1]!, { thread_id: 'main' }],
    [inThread, { thread_id: events[0]! }],
  ] as const)
    expect((await mark(event, body)).status).toBe(200);
  const ts = expect.any(Number);
  expect(receiptsIn((await toldOf(alice)).ephemeral)).toEqual([
    {
      [events[1]!]: { 'm.read': { [bob.id]: { ts } } },
      [inThread]: { 'm.read': { [bob.id]: { ts, thread_id: events[0] } } },
    },
    { [events[1]!]: { 'm.read': { [bob.id]: { ts, thread_id: 'main' } } } },
  ]);
});

eachDoor('a receipt of the wrong thread, room or type is refused', async (door) => {
  const { bob, room, events, inThread } = await chat(door);
  const outsider = await door.user('outsider');
  for (const [who, path, body, status, errcode] of [
    [bob, `m.read/${at(events[1]!)}`, { thread_id: '' }, 400, 'M_INVALID_PARAM'],
    [bob, `m.read/${at(events[1]!)}`, { thread_id: 7 }, 400, 'M_INVALID_PARAM'],
    [bob, `m.read/${at(events[1]!)}`, { thread_id: events[0]! }, 400, 'M_INVALID_PARAM'],
    [bob, `m.read/${at(inThread)}`, { thread_id: 'main' }, 400, 'M_INVALID_PARAM'],
    [bob, `m.fully_read/${at(events[1]!)}`, { thread_id: 'main' }, 400, 'M_INVALID_PARAM'],
    [bob, `m.seen/${at(events[1]!)}`, {}, 400, 'M_INVALID_PARAM'],
    [bob, 'm.read/noevent', {}, 400, 'M_INVALID_PARAM'],
    [bob, 'm.read/$unknown', {}, 404, 'M_NOT_FOUND'],
    [outsider, `m.read/${at(events[1]!)}`, {}, 403, 'M_FORBIDDEN'],
  ] as const) {
    const answer = await who.ask('POST', `/rooms/${room}/receipt/${path}`, body);
    expect([path, answer.status, answer.body.errcode]).toEqual([path, status, errcode]);
  }
});

eachDoor('markers are set together, and the fully read one is account data', async (door) => {
  const { bob, room, events } = await chat(door);
  const answer = await bob.ask('POST', `/rooms/${room}/read_markers`, {
    'm.fully_read': events[0]!,
    'm.read': events[1]!,
    'm.read.private': events[2]!,
  });
  expect(answer).toMatchObject({ status: 200, body: {} });
  const { ephemeral, data } = await toldOf(bob);
  expect(data).toEqual([{ type: 'm.fully_read', content: { event_id: events[0] } }]);
  expect(Object.keys(receiptsIn(ephemeral)[0]!)).toEqual([events[1], events[2]]);
  await bob.ask('POST', `/rooms/${room}/receipt/m.fully_read/${at(events[2]!)}`, {});
  await bob.ask('POST', `/rooms/${room}/read_markers`, { 'm.fully_read': events[1]! });
  const path = `/user/${encodeURIComponent(bob.id)}/rooms/${room}/account_data/m.fully_read`;
  expect((await bob.ask('GET', path)).body).toEqual({ event_id: events[2] });
  for (const [body, status] of [
    [{ 'm.fully_read': '$unknown' }, 404],
    [{ 'm.read': 7 }, 400],
  ] as const)
    expect((await bob.ask('POST', `/rooms/${room}/read_markers`, body)).status).toBe(status);
});

eachDoor('who types is told, until they send, stop, or have been quiet for too long', async (door) => {
  const { alice, bob, room } = await chat(door);
  const type = (user: User, body: JsonObject) =>
    user.ask('PUT', `/rooms/${room}/typing/${encodeURIComponent(user.id)}`, body);
  const typing = async (): Promise<unknown> =>
    (await toldOf(alice)).ephemeral.find((event) => event.type === 'm.typing')?.content;
  expect(await type(bob, { typing: true, timeout: 60_000 })).toMatchObject({ status: 200, body: {} });
  expect(await typing()).toEqual({ user_ids: [bob.id] });
  await door.pass(61_000);
  expect(await typing()).toBeUndefined();

  await type(bob, { typing: true, timeout: 60_000 });
  await type(bob, { typing: false });
  expect(await typing()).toBeUndefined();

  await type(bob, { typing: true, timeout: 60_000 });
  await bob.ask('PUT', `/rooms/${room}/send/m.room.message/typed`, { msgtype: 'm.text', body: 'done' });
  expect(await typing()).toBeUndefined();
});

eachDoor('nobody says of another that they type, or types where they are not', async (door) => {
  const { alice, bob, room } = await chat(door);
  const outsider = await door.user('outsider');
  for (const [who, whom, body, status, errcode] of [
    [bob, alice, { typing: true }, 403, 'M_FORBIDDEN'],
    [outsider, outsider, { typing: true }, 403, 'M_FORBIDDEN'],
    [bob, bob, {}, 400, 'M_BAD_JSON'],
    [bob, bob, { typing: 'yes' }, 400, 'M_BAD_JSON'],
  ] as const) {
    const answer = await who.ask('PUT', `/rooms/${room}/typing/${encodeURIComponent(whom.id)}`, body);
    expect([answer.status, answer.body.errcode]).toEqual([status, errcode]);
  }
});

eachDoor('who marks or types without end is slowed down', async (door) => {
  if (door.name !== 'HTTPS, JSON') return;
  const { bob, room, events } = await chat(door);
  let answer = await bob.ask('POST', `/rooms/${room}/receipt/m.read/${at(events[0]!)}`, {});
  for (let i = 0; i < 200 && answer.status === 200; i++)
    answer = await bob.ask('POST', `/rooms/${room}/receipt/m.read/${at(events[0]!)}`, {});
  expect(answer).toMatchObject({ status: 429, body: { errcode: 'M_LIMIT_EXCEEDED' } });
  expect(answer.body.retry_after_ms).toBeGreaterThan(0);
  const path = `/rooms/${room}/typing/${encodeURIComponent(bob.id)}`;
  answer = await bob.ask('PUT', path, { typing: true });
  for (let i = 0; i < 200 && answer.status === 200; i++)
    answer = await bob.ask('PUT', path, { typing: true });
  expect(answer).toMatchObject({ status: 429, body: { errcode: 'M_LIMIT_EXCEEDED' } });
});
