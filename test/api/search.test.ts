import { expect, test } from 'vitest';
import type { JsonObject } from '../../src/matrix/json.ts';
import { doorsOf, type User } from './coverage/doors.ts';
import { esc, failure, newRoom, say } from './rooms/room_user.ts';

const { eachDoor, door } = doorsOf(import.meta.url);

interface Found {
  readonly count: number;
  readonly next_batch?: string;
  readonly highlights: readonly string[];
  readonly results: readonly {
    readonly rank: number;
    readonly result: { readonly event_id: string; readonly content: JsonObject };
    readonly context?: JsonObject;
  }[];
  readonly groups?: Record<
    string,
    Record<string, { readonly order: number; readonly results: string[]; readonly next_batch?: string }>
  >;
  readonly state?: Record<string, JsonObject[]>;
}

async function search(user: User, term: string, rest: JsonObject = {}, from?: string): Promise<Found> {
  const query = from === undefined ? '' : `?next_batch=${from}`;
  const asked = { search_categories: { room_events: { search_term: term, ...rest } } };
  const { status, body } = await user.ask('POST', `/search${query}`, asked);
  expect(status, JSON.stringify(body)).toBe(200);
  return (body.search_categories as JsonObject).room_events as unknown as Found;
}

const texts = ({ results }: Found): unknown[] => results.map(({ result }) => result.content.body);

eachDoor('messages are found by their words, and only by those who may see them', async (each) => {
  const alice = await each.user('alice');
  const bob = await each.user('bob');
  const room = await newRoom(alice, { preset: 'private_chat', name: 'The harbour' });
  await say(alice, room, 'The ferry leaves at nine');
  await say(alice, room, 'No FERRY today, the café is open');
  await say(alice, room, 'Nothing');
  expect(texts(await search(alice, 'ferry', { order_by: 'recent' })).toSorted()).toEqual([
    'No FERRY today, the café is open',
    'The ferry leaves at nine',
  ]);
  expect(texts(await search(alice, 'cafe ferry'))).toEqual(['No FERRY today, the café is open']);
  expect(await search(alice, 'harbour', { keys: ['content.body'] })).toMatchObject({ count: 0, results: [] });
  expect(await search(alice, 'harbour', { keys: ['content.name'] })).toMatchObject({
    count: 1,
    highlights: ['harbour'],
    results: [{ result: { type: 'm.room.name', room_id: room } }],
  });
  expect(await search(bob, 'ferry')).toMatchObject({ count: 0, results: [] });
  const bad = { search_categories: { room_events: { search_term: 1 } } };
  expect(failure(await alice.ask('POST', '/search', bad))).toEqual([400, 'M_BAD_JSON']);
  const strange = { search_categories: { room_events: { search_term: 'x' } } };
  expect(failure(await alice.ask('POST', '/search?next_batch=x', strange))).toEqual([400, 'M_INVALID_PARAM']);
  expect((await each.stranger().ask('POST', '/search', strange)).status).toBe(401);
});

test('results come in pages and in groups, each once', async () => {
  const http = door('HTTPS, JSON');
  const alice = await http.user('alice');
  const rooms = [await newRoom(alice), await newRoom(alice)];
  const sent: string[] = [];
  for (let n = 0; n < 14; n++) {
    sent.unshift(`gannet ${n}`);
    await say(alice, rooms[n % 2]!, `gannet ${n}`);
    await http.pass(1_000);
  }
  for (const by of ['recent', 'rank']) {
    const found: unknown[] = [];
    const asked = { order_by: by, filter: { limit: 4 }, groupings: { group_by: [{ key: 'room_id' }] } };
    let page = await search(alice, 'gannet', asked);
    const first = page;
    for (let pages = 1; ; pages++) {
      expect(page.count).toBe(14);
      found.push(...texts(page));
      if (page.next_batch === undefined || pages > 6) break;
      page = await search(alice, 'gannet', asked, page.next_batch);
    }
    if (by === 'recent') expect(found).toEqual(sent);
    else expect(new Set(found)).toEqual(new Set(sent));
    expect(found).toHaveLength(14);
    const group = first.groups!.room_id![rooms[0]!]!;
    expect(group.results).toHaveLength(by === 'recent' ? 2 : group.results.length);
    const ofGroup: unknown[] = [...group.results];
    for (let from = group.next_batch; from !== undefined && ofGroup.length < 20; ) {
      const more = await search(alice, 'gannet', asked, from);
      ofGroup.push(...more.results.map(({ result }) => result.event_id));
      from = more.next_batch;
    }
    expect(new Set(ofGroup).size).toBe(7);
    expect(ofGroup).toHaveLength(7);
  }
});

test('a result is shown with what was said around it, by whom, and with the state of its room', async () => {
  const alice = await door('HTTPS, JSON').user('alice');
  await alice.ask('PUT', `/profile/${esc(alice.id)}/displayname`, { displayname: 'Alice' });
  const room = await newRoom(alice);
  for (const text of ['one', 'two', 'puffin', 'four', 'five']) await say(alice, room, text);
  const context = { before_limit: 1, after_limit: 2, include_profile: true };
  const { results, state } = await search(alice, 'puffin', { event_context: context, include_state: true });
  const around = results[0]!.context as { events_before: JsonObject[]; events_after: JsonObject[] };
  expect(around.events_before.map(({ content }) => (content as JsonObject).body)).toEqual(['two']);
  expect(around.events_after.map(({ content }) => (content as JsonObject).body)).toEqual(['four', 'five']);
  expect(around).toMatchObject({
    profile_info: { [alice.id]: { displayname: 'Alice' } },
    start: expect.any(String),
    end: expect.any(String),
  });
  expect(state![room]!.map(({ type }) => type)).toContain('m.room.create');
});

test('nothing is found of encrypted rooms, of what was taken back, of forgotten rooms, or from after somebody left', async () => {
  const alice = await door('HTTPS, JSON').user('alice');
  const bob = await door('HTTPS, JSON').user('bob');
  const room = await newRoom(alice, { preset: 'public_chat' });
  await bob.ask('POST', `/rooms/${esc(room)}/join`, {});
  const taken = await say(alice, room, 'skua one');
  await say(alice, room, 'skua two');
  await alice.ask('PUT', `/rooms/${esc(room)}/redact/${esc(taken)}/t`, {});
  await bob.ask('POST', `/rooms/${esc(room)}/leave`, {});
  await alice.ask('PUT', `/rooms/${esc(room)}/state/m.room.history_visibility`, {
    history_visibility: 'joined',
  });
  await say(alice, room, 'skua three');
  expect(texts(await search(alice, 'skua')).toSorted()).toEqual(['skua three', 'skua two']);
  expect(texts(await search(bob, 'skua'))).toEqual(['skua two']);
  await bob.ask('POST', `/rooms/${esc(room)}/forget`, {});
  expect(texts(await search(bob, 'skua'))).toEqual([]);
  await alice.ask('PUT', `/rooms/${esc(room)}/state/m.room.encryption`, {
    algorithm: 'm.megolm.v1.aes-sha2',
  });
  expect(texts(await search(alice, 'skua'))).toEqual([]);
});

test('words are found in scripts without spaces, and what looks like an operator is none', async () => {
  const alice = await door('HTTPS, JSON').user('alice');
  const room = await newRoom(alice);
  await say(alice, room, '明天早上有渡轮');
  await say(alice, room, 'say "AND" or NEAR(this) * -that ^');
  expect(texts(await search(alice, '渡轮'))).toEqual(['明天早上有渡轮']);
  expect(texts(await search(alice, '轮渡'))).toEqual([]);
  expect(texts(await search(alice, '"NEAR(" AND* that'))).toEqual(['say "AND" or NEAR(this) * -that ^']);
  for (const term of ['', '"', '* ^ -', '\u0000', ')'.repeat(2_000)])
    expect((await search(alice, term)).results).toEqual([]);
  expect(texts(await search(alice, 'that '.repeat(3_000)))).toHaveLength(1);
});
