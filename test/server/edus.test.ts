import { afterEach, expect, it } from 'vitest';
import type { JsonObject, JsonValue } from '../../src/matrix/json.ts';
import { Pair } from '../../src/mesh/pair.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;

let pair: Pair;

afterEach(() => pair.close());

interface User {
  readonly id: string;
  ask(method: 'GET' | 'PUT' | 'POST', path: string, body?: JsonObject): Promise<JsonObject>;
}

async function user(side: 'alpha' | 'bravo', name: string): Promise<User> {
  const ask = async (method: 'GET' | 'PUT' | 'POST', path: string, body?: JsonObject, token?: string) => {
    const { app } = pair.server(side);
    const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const url = `/_matrix/client/v3${path}`;
    const answer = await pair.until(app.inject({ method, url, headers, ...(body && { payload: body }) }));
    expect(answer.statusCode, answer.body).toBe(200);
    return answer.json() as JsonObject;
  };
  const auth = { type: 'm.login.dummy' };
  const made = await ask('POST', '/register', { username: name, password: 'a long password 1', auth });
  const token = String(made.access_token);
  return { id: String(made.user_id), ask: (method, path, body) => ask(method, path, body, token) };
}

/** What a user is told of a room besides events, by type. */
async function ephemeral({ ask }: User, room: string): Promise<Record<string, JsonValue>> {
  const { rooms } = await ask('GET', '/sync');
  const joined = ((rooms as JsonObject).join as Record<string, { ephemeral: { events: JsonObject[] } }>)[
    room
  ];
  return Object.fromEntries(joined!.ephemeral.events.map(({ type, content }) => [String(type), content!]));
}

/** Alice on alpha and bob on bravo in a room, in which bob has said something. */
async function inOneRoom() {
  const [alice, bob] = [await user('alpha', 'alice'), await user('bravo', 'bob')];
  const invite = { preset: 'private_chat', invite: [bob.id] };
  const room = String((await alice.ask('POST', '/createRoom', invite)).room_id);
  const path = `/rooms/${encodeURIComponent(room)}`;
  await bob.ask('POST', `/join/${encodeURIComponent(room)}`, {});
  const text = { msgtype: 'm.text', body: 'hello' };
  const event = String((await bob.ask('PUT', `${path}/send/m.room.message/1`, text)).event_id);
  await pair.pass(5 * MINUTE);
  return { alice, bob, room, path, event };
}

it('two whole servers tell each other who types and what was read, through a pipe', async () => {
  pair = await Pair.start({ rate: 1_000_000, latency: 20, loss: 0.1, seed: 1 });
  const { alice, bob, room, path, event } = await inOneRoom();
  await alice.ask('PUT', `${path}/typing/${encodeURIComponent(alice.id)}`, { typing: true, timeout: 30_000 });
  await alice.ask('POST', `${path}/receipt/m.read/${encodeURIComponent(event)}`, {});
  await pair.pass(5 * SECOND);
  const told = await ephemeral(bob, room);
  expect(told['m.typing']).toEqual({ user_ids: [alice.id] });
  expect(told['m.receipt']).toEqual({ [event]: { 'm.read': { [alice.id]: { ts: expect.any(Number) } } } });
  // Who starts again does not type any more; other servers see that by themselves.
  await pair.stop('alpha');
  await pair.start('alpha');
  await pair.pass(MINUTE);
  expect((await ephemeral(bob, room))['m.typing'] ?? { user_ids: [] }).toEqual({ user_ids: [] });
});

it('over a slow link receipts arrive, and nobody is told who types', async () => {
  pair = await Pair.start({ rate: 100, latency: 1_000, loss: 0, seed: 1 });
  const { alice, bob, room, path, event } = await inOneRoom();
  await alice.ask('PUT', `${path}/typing/${encodeURIComponent(alice.id)}`, { typing: true, timeout: 90_000 });
  await alice.ask('POST', `${path}/receipt/m.read/${encodeURIComponent(event)}`, {});
  await pair.pass(50 * SECOND);
  expect(await ephemeral(bob, room)).toEqual({});
  await pair.stop('alpha');
  await pair.start('alpha');
  await pair.pass(10 * MINUTE);
  const told = await ephemeral(bob, room);
  expect(told['m.typing']).toBeUndefined();
  expect(told['m.receipt']).toMatchObject({ [event]: { 'm.read': { [alice.id]: {} } } });
});
