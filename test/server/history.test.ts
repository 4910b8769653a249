import { afterEach, expect, it } from 'vitest';
import type { JsonObject } from '../../src/matrix/json.ts';
import { Pair } from '../../src/mesh/pair.ts';

/* Two whole servers on a slow link that loses datagrams: what there is of a room besides what is sent. */

const MINUTE = 60_000;
const RATE = 1_200;

let pair: Pair;

afterEach(() => pair.close());

type Ask = (
  method: 'GET' | 'PUT' | 'POST',
  path: string,
  body?: JsonObject,
) => Promise<{ readonly status: number; readonly body: JsonObject }>;

async function user(side: 'alpha' | 'bravo', name: string): Promise<Ask> {
  const ask = async (method: 'GET' | 'PUT' | 'POST', path: string, body?: JsonObject, token?: string) => {
    const { app } = pair.server(side);
    const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const url = path.startsWith('/_') ? path : `/_matrix/client/v3${path}`;
    const answer = await pair.until(app.inject({ method, url, headers, ...(body && { payload: body }) }));
    return { status: answer.statusCode, body: answer.json() as JsonObject };
  };
  const auth = { type: 'm.login.dummy' };
  const made = await ask('POST', '/register', { username: name, password: 'a long password 1', auth });
  return (method, path, body) => ask(method, path, body, String(made.body.access_token));
}

/** Every event of a room from now back, as a client comes by them. */
async function past(ask: Ask, room: string): Promise<string[]> {
  const ids: string[] = [];
  let from = '';
  for (let page = 0; page < 100; page++) {
    const { status, body } = await ask(
      'GET',
      `/rooms/${encodeURIComponent(room)}/messages?dir=b&limit=10${from}`,
    );
    expect(status, JSON.stringify(body)).toBe(200);
    ids.push(...(body.chunk as JsonObject[]).map((event) => String(event.event_id)));
    if (body.end === undefined) return ids;
    from = `&from=${encodeURIComponent(String(body.end))}`;
  }
  throw new Error('there is no end to it');
}

it('the past of a room comes whole through a slow pipe, in small pieces', async () => {
  let bytes = 0;
  const observe = ({ wire }: { readonly wire: number }): void => {
    bytes += wire;
  };
  pair = await Pair.start({ rate: RATE, latency: 300, loss: 0.05, seed: 3, observe });
  const [alice, bob] = [await user('alpha', 'alice'), await user('bravo', 'bob')];
  const made = await alice('POST', '/createRoom', { preset: 'public_chat', room_alias_name: 'tea' });
  const room = String(made.body.room_id);
  const path = `/rooms/${encodeURIComponent(room)}`;
  for (let i = 0; i < 45; i++)
    await alice('PUT', `${path}/send/m.room.message/${i}`, { msgtype: 'm.text', body: `on page ${i}` });
  expect((await bob('POST', `/join/${encodeURIComponent('#tea:alpha.example')}`, {})).status).toBe(200);
  await pair.pass(10 * MINUTE);
  bytes = 0;
  const before = pair.clock.monotonic();
  expect(await past(bob, room)).toEqual(await past(alice, room));
  const seconds = (pair.clock.monotonic() - before) / 1_000;
  expect({ seconds: seconds < 60, bytes: bytes < 12_000 }, `${seconds} s, ${bytes} bytes`).toEqual({
    seconds: true,
    bytes: true,
  });
});

it('the rooms of a space, the room directory and the list of servers that a room denies hold through a pipe', async () => {
  pair = await Pair.start({ rate: 1_000_000, latency: 20, loss: 0, seed: 4 });
  const [alice, bob] = [await user('alpha', 'alice'), await user('bravo', 'bob')];
  const create = async (options: JsonObject): Promise<string> =>
    String((await alice('POST', '/createRoom', { preset: 'public_chat', ...options })).body.room_id);
  const tea = await create({ name: 'Tea', visibility: 'public' });
  const space = await create({
    name: 'Space',
    creation_content: { type: 'm.space' },
    room_alias_name: 'space',
  });
  const put = (room: string, type: string, key: string, content: JsonObject) =>
    alice('PUT', `/rooms/${encodeURIComponent(room)}/state/${type}/${encodeURIComponent(key)}`, content);
  await put(space, 'm.space.child', tea, { via: ['alpha.example'] });

  const list = await bob('POST', '/publicRooms?server=alpha.example', {
    filter: { generic_search_term: 'tea' },
  });
  expect(list.body.chunk).toMatchObject([{ room_id: tea, name: 'Tea' }]);
  const summary = `/_matrix/client/v1/room_summary/${encodeURIComponent(tea)}`;
  expect((await bob('GET', `${summary}?via=alpha.example`)).body).toMatchObject({ name: 'Tea' });
  const mine = await bob('POST', '/createRoom', { creation_content: { type: 'm.space' } });
  const own = encodeURIComponent(String(mine.body.room_id));
  await bob('PUT', `/rooms/${own}/state/m.space.child/${encodeURIComponent(space)}`, {
    via: ['alpha.example'],
  });
  const { body } = await bob('GET', `/_matrix/client/v1/rooms/${own}/hierarchy`);
  expect((body.rooms as JsonObject[]).map(({ name }) => name)).toEqual([undefined, 'Space', 'Tea']);

  await put(tea, 'm.room.server_acl', '', { allow: ['*'], deny: ['bravo.example'] });
  const join = await bob('POST', `/join/${encodeURIComponent(tea)}?via=alpha.example`, {});
  expect([join.status, join.body.errcode]).toEqual([403, 'M_FORBIDDEN']);
});
