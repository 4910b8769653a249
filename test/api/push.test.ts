import { expect } from 'vitest';
import type { JsonObject } from '../../src/matrix/json.ts';
import { type Answer, doorsOf, type User } from './coverage/doors.ts';

const { eachDoor } = doorsOf(import.meta.url);

const SOUND = { set_tweak: 'sound', value: 'default' };
const ruleAt = (kind: string, id: string, rest = ''): string =>
  `/pushrules/global/${kind}/${encodeURIComponent(id)}${rest}`;
const refused = (answer: Answer): unknown => [answer.status, answer.body.errcode];
const idsOf = async (user: User, kind: string): Promise<unknown[]> => {
  const rules = (await user.ask('GET', '/pushrules/global/')).body[kind] as JsonObject[];
  return rules.map(({ rule_id: id }) => id).filter((id) => !String(id).startsWith('.'));
};

eachDoor('rules are added, read, changed and deleted', async (door) => {
  const user = await door.user();
  const cake = { pattern: 'c?ke', actions: ['notify', SOUND] };
  expect(await user.ask('PUT', ruleAt('content', 'cake'), cake)).toMatchObject({ status: 200, body: {} });
  const stored = { rule_id: 'cake', default: false, enabled: true, ...cake };
  expect((await user.ask('GET', ruleAt('content', 'cake'))).body).toEqual(stored);
  expect(((await user.ask('GET', '/pushrules/')).body.global as JsonObject).content).toEqual([stored]);
  const data = await user.ask('GET', `/user/${encodeURIComponent(user.id)}/account_data/m.push_rules`);
  expect((data.body.global as JsonObject).content).toEqual([stored]);

  await user.ask('PUT', ruleAt('content', 'cake', '/enabled'), { enabled: false });
  expect((await user.ask('GET', ruleAt('content', 'cake', '/enabled'))).body).toEqual({ enabled: false });
  await user.ask('PUT', ruleAt('content', 'cake', '/actions'), { actions: ['dont_notify'] });
  expect((await user.ask('GET', ruleAt('content', 'cake', '/actions'))).body).toEqual({ actions: [] });
  // One that is changed stays enabled or not.
  await user.ask('PUT', ruleAt('content', 'cake'), { pattern: 'cake', actions: [] });
  expect((await user.ask('GET', ruleAt('content', 'cake'))).body).toMatchObject({
    pattern: 'cake',
    enabled: false,
  });

  const room = '!somewhere:home.example';
  for (const [kind, id, body] of [
    ['room', room, { actions: [] }],
    ['sender', '@spam:home.example', { actions: [] }],
    ['override', 'own', { conditions: [{ kind: 'org.unknown' }], actions: ['notify'] }],
    ['underride', 'own', { actions: ['notify'] }],
  ] as const) {
    expect((await user.ask('PUT', ruleAt(kind, id), body)).status).toBe(200);
    expect((await user.ask('GET', ruleAt(kind, id))).body).toMatchObject({
      rule_id: id,
      enabled: true,
      ...body,
    });
  }
  expect(await user.ask('DELETE', ruleAt('room', room))).toMatchObject({ status: 200, body: {} });
  expect(refused(await user.ask('GET', ruleAt('room', room)))).toEqual([404, 'M_NOT_FOUND']);
  expect(refused(await user.ask('DELETE', ruleAt('room', room)))).toEqual([404, 'M_NOT_FOUND']);
});

eachDoor('predefined rules can be switched off and given other actions, and nothing else', async (door) => {
  const [user, other] = [await door.user(), await door.user()];
  await user.ask('PUT', ruleAt('override', '.m.rule.master', '/enabled'), { enabled: true });
  await user.ask('PUT', ruleAt('underride', '.m.rule.message', '/actions'), { actions: ['notify', SOUND] });
  expect((await user.ask('GET', ruleAt('override', '.m.rule.master'))).body).toMatchObject({ enabled: true });
  expect((await user.ask('GET', ruleAt('underride', '.m.rule.message', '/actions'))).body).toEqual({
    actions: ['notify', SOUND],
  });
  expect((await other.ask('GET', ruleAt('override', '.m.rule.master'))).body).toMatchObject({
    enabled: false,
  });
  const path = ruleAt('override', '.m.rule.master');
  expect(refused(await user.ask('PUT', path, { actions: [] }))).toEqual([400, 'M_INVALID_PARAM']);
  expect(refused(await user.ask('DELETE', path))).toEqual([400, 'M_INVALID_PARAM']);
});

eachDoor('rules of a kind are ordered, the newest first where nothing else is said', async (door) => {
  const user = await door.user();
  const put = (id: string, query = '') =>
    user.ask('PUT', `${ruleAt('override', id)}${query}`, { conditions: [], actions: [] });
  for (const id of ['a', 'b', 'c']) await put(id);
  expect(await idsOf(user, 'override')).toEqual(['c', 'b', 'a']);
  await put('d', '?after=b');
  await put('e', '?before=b');
  expect(await idsOf(user, 'override')).toEqual(['c', 'e', 'b', 'd', 'a']);
  await put('a', '?before=c');
  await put('c', '?after=a&before=d');
  expect(await idsOf(user, 'override')).toEqual(['a', 'e', 'b', 'c', 'd']);
  await put('e');
  expect(await idsOf(user, 'override')).toEqual(['a', 'e', 'b', 'c', 'd']);
  const rules = (await user.ask('GET', '/pushrules/global/')).body.override as JsonObject[];
  expect(rules[0]!.rule_id).toBe('.m.rule.master');
  expect(refused(await put('f', '?before=none'))).toEqual([400, 'M_UNKNOWN']);
  expect(refused(await put('f', '?after=.m.rule.master'))).toEqual([400, 'M_INVALID_PARAM']);
});

eachDoor('what is no rule is refused', async (door) => {
  const user = await door.user();
  const actions = { actions: [] };
  for (const [path, body, status, errcode] of [
    [ruleAt('odd', 'x'), actions, 400, 'M_INVALID_PARAM'],
    [ruleAt('override', '.x'), actions, 400, 'M_INVALID_PARAM'],
    [ruleAt('override', 'a/b'), actions, 400, 'M_INVALID_PARAM'],
    [ruleAt('override', 'a\\b'), actions, 400, 'M_INVALID_PARAM'],
    [ruleAt('override', 'x'.repeat(300)), actions, 400, 'M_INVALID_PARAM'],
    [ruleAt('room', 'x'), actions, 400, 'M_INVALID_PARAM'],
    [ruleAt('sender', 'x'), actions, 400, 'M_INVALID_PARAM'],
    [ruleAt('content', 'x'), actions, 400, 'M_INVALID_PARAM'],
    [ruleAt('content', 'x'), { ...actions, pattern: 1 }, 400, 'M_BAD_JSON'],
    [ruleAt('override', 'x'), {}, 400, 'M_BAD_JSON'],
    [ruleAt('override', 'x'), { actions: ['sing'] }, 400, 'M_INVALID_PARAM'],
    [ruleAt('override', 'x'), { ...actions, conditions: ['x'] }, 400, 'M_INVALID_PARAM'],
    [ruleAt('override', 'x'), { actions: [{ set_tweak: 'x'.repeat(2_048) }] }, 400, 'M_INVALID_PARAM'],
    [ruleAt('override', 'x', '/enabled'), { enabled: true }, 404, 'M_NOT_FOUND'],
    [ruleAt('override', 'x', '/actions'), actions, 404, 'M_NOT_FOUND'],
    [ruleAt('override', '.m.rule.master', '/enabled'), { enabled: 'yes' }, 400, 'M_BAD_JSON'],
    [ruleAt('override', '.m.rule.master', '/actions'), { actions: ['sing'] }, 400, 'M_INVALID_PARAM'],
  ] as const)
    expect([path, refused(await user.ask('PUT', path, body))]).toEqual([path, [status, errcode]]);
  const stranger = await door.stranger('unknown').ask('PUT', ruleAt('override', 'x'), actions);
  expect(refused(stranger)).toEqual([401, 'M_UNKNOWN_TOKEN']);
});

eachDoor('rules that change are told by /sync, all of them', async (door) => {
  const user = await door.user();
  const since = String((await user.ask('GET', '/sync')).body.next_batch);
  await user.ask('PUT', ruleAt('content', 'cake'), { pattern: 'cake', actions: ['notify'] });
  const { body } = await user.ask('GET', `/sync?since=${since}`);
  const { events } = body.account_data as { events: JsonObject[] };
  expect(events).toEqual([{ type: 'm.push_rules', content: (await user.ask('GET', '/pushrules/')).body }]);
  const first = (await user.ask('GET', '/sync')).body.account_data as { events: JsonObject[] };
  expect(first.events).toEqual(events);
});

interface Told {
  readonly unread_notifications: JsonObject;
  readonly unread_thread_notifications?: JsonObject;
}
async function countsOf(user: User, room: string, query = ''): Promise<Told> {
  const { body } = await user.ask('GET', `/sync?full_state=true${query}`);
  return ((body.rooms as JsonObject).join as JsonObject)[room] as never;
}
const count = (notifications: number, highlights = 0) => ({
  ...{ notification_count: notifications, highlight_count: highlights },
});

/** A room with two users. */
async function talk(door: Parameters<Parameters<typeof eachDoor>[1]>[0]) {
  const [ann, ben] = [await door.user('ann'), await door.user('ben')];
  const { body } = await ann.ask('POST', '/createRoom', { preset: 'public_chat', name: 'Ship' });
  const room = String(body.room_id);
  await ben.ask('POST', `/join/${encodeURIComponent(room)}`, {});
  let sent = 0;
  const say = async (user: User, content: JsonObject): Promise<string> => {
    const path = `/rooms/${encodeURIComponent(room)}/send/m.room.message/t${sent++}`;
    return String((await user.ask('PUT', path, { msgtype: 'm.text', ...content })).body.event_id);
  };
  const read = (user: User, event: string, content: JsonObject = {}, type = 'm.read') =>
    user.ask(
      'POST',
      `/rooms/${encodeURIComponent(room)}/receipt/${type}/${encodeURIComponent(event)}`,
      content,
    );
  return { ann, ben, room, say, read };
}

eachDoor(
  'what is unread is counted, by threads where the client wants it, and read by receipts',
  async (door) => {
    const { ann, ben, room, say, read } = await talk(door);
    const root = await say(ann, { body: 'one' });
    const inThread = { 'm.relates_to': { rel_type: 'm.thread', event_id: root } };
    await say(ann, { body: 'two', 'm.mentions': { user_ids: [ben.id] } });
    await say(ann, { body: 'three', ...inThread });
    expect((await countsOf(ben, room)).unread_notifications).toEqual(count(3, 1));
    const filter = `&filter=${encodeURIComponent('{"room":{"timeline":{"unread_thread_notifications":true}}}')}`;
    expect(await countsOf(ben, room, filter)).toMatchObject({
      unread_notifications: count(2, 1),
      unread_thread_notifications: { [root]: count(1) },
    });
    expect((await countsOf(ann, room)).unread_notifications).toEqual(count(0));

    await read(ben, root, { thread_id: 'main' });
    expect((await countsOf(ben, room)).unread_notifications).toEqual(count(2, 1));
    const last = await say(ann, { body: 'four', ...inThread });
    await read(ben, last, { thread_id: root }, 'm.read.private');
    expect((await countsOf(ben, room)).unread_notifications).toEqual(count(1, 1));
    await read(ben, last);
    expect((await countsOf(ben, room)).unread_notifications).toEqual(count(0));
    // Whoever sends something has read what was before it.
    await say(ann, { body: 'five' });
    await say(ben, { body: 'six' });
    expect((await countsOf(ben, room)).unread_notifications).toEqual(count(0));
    expect((await countsOf(ann, room)).unread_notifications).toEqual(count(1));
  },
);

eachDoor('an event and the count that it makes come in one answer', async (door) => {
  const { ann, ben, room, say } = await talk(door);
  for (const expected of [1, 2]) {
    const since = String((await ben.ask('GET', '/sync')).body.next_batch);
    const poll = ben.begin('GET', `/sync?since=${since}&timeout=30000`);
    await say(ann, { body: 'hello' });
    const { rooms } = (await door.until(poll)).body as { rooms: { join: JsonObject } };
    expect(rooms.join[room]).toMatchObject({
      timeline: { events: [{ content: { body: 'hello' } }] },
      unread_notifications: count(expected),
    });
  }
});

eachDoor('notifications are listed, page by page', async (door) => {
  const { ann, ben, room, say, read } = await talk(door);
  const events: string[] = [];
  for (const body of ['one', 'two', 'three']) events.push(await say(ann, { body }));
  events.push(await say(ann, { body: 'four', 'm.mentions': { user_ids: [ben.id] } }));
  await read(ben, events[1]!);
  const { body } = await ben.ask('GET', '/notifications?limit=3');
  expect(body.notifications).toMatchObject([
    { room_id: room, read: false, actions: ['notify', SOUND, { set_tweak: 'highlight' }] },
    { read: false, actions: ['notify', SOUND] },
    { read: true, event: { event_id: events[1], sender: ann.id, content: { body: 'two' } } },
  ]);
  const [first] = body.notifications as [JsonObject & { event: JsonObject }];
  expect(first.event.room_id).toBeUndefined();
  expect(first.ts).toEqual(expect.any(Number));
  const rest = (await ben.ask('GET', `/notifications?from=${String(body.next_token)}`)).body;
  const listed = (rest.notifications as { event: JsonObject }[]).map(({ event }) => event.event_id);
  expect(listed[0]).toBe(events[0]);
  expect(rest.next_token).toBeUndefined();
  const highlights = (await ben.ask('GET', '/notifications?only=highlight')).body.notifications;
  expect(highlights).toMatchObject([{ event: { event_id: events[3] } }]);
  expect((await ann.ask('GET', '/notifications')).body).toEqual({ notifications: [] });
  for (const query of ['from=x', 'limit=x'])
    expect(refused(await ben.ask('GET', `/notifications?${query}`))).toEqual([400, 'M_INVALID_PARAM']);
  const stranger = await door.stranger('unknown').ask('GET', '/notifications');
  expect(refused(stranger)).toEqual([401, 'M_UNKNOWN_TOKEN']);
});

const PUSHER = {
  ...{ app_id: 'org.example.app', pushkey: 'key', kind: 'http', lang: 'en' },
  ...{ app_display_name: 'App', device_display_name: 'Phone', profile_tag: 'x' },
  data: { url: 'https://gateway.example/_matrix/push/v1/notify', format: 'event_id_only', custom: 1 },
};

eachDoor('pushers are set, told and removed', async (door) => {
  const [user, other] = [await door.user(), await door.user()];
  expect((await user.ask('GET', '/pushers')).body).toEqual({ pushers: [] });
  expect(await user.ask('POST', '/pushers/set', PUSHER)).toMatchObject({ status: 200, body: {} });
  expect((await user.ask('GET', '/pushers')).body).toEqual({ pushers: [PUSHER] });
  await user.ask('POST', '/pushers/set', { ...PUSHER, lang: 'de' });
  expect((await user.ask('GET', '/pushers')).body).toEqual({ pushers: [{ ...PUSHER, lang: 'de' }] });

  await other.ask('POST', '/pushers/set', { ...PUSHER, append: true });
  expect((await user.ask('GET', '/pushers')).body.pushers).toHaveLength(1);
  await other.ask('POST', '/pushers/set', PUSHER);
  expect((await user.ask('GET', '/pushers')).body).toEqual({ pushers: [] });
  await other.ask('POST', '/pushers/set', { kind: null, app_id: PUSHER.app_id, pushkey: PUSHER.pushkey });
  expect((await other.ask('GET', '/pushers')).body).toEqual({ pushers: [] });
});

eachDoor('a pusher goes with its device', async (door) => {
  const user = await door.user();
  const phone = await door.again(user);
  await phone.ask('POST', '/pushers/set', PUSHER);
  expect((await user.ask('GET', '/pushers')).body.pushers).toHaveLength(1);
  await phone.ask('POST', '/logout');
  expect((await user.ask('GET', '/pushers')).body.pushers).toEqual([]);
});

eachDoor('what is no pusher is refused', async (door) => {
  const user = await door.user();
  const { lang: _, data: __, ...incomplete } = PUSHER;
  for (const [body, errcode] of [
    [incomplete, 'M_MISSING_PARAM'],
    [{ ...PUSHER, data: {} }, 'M_MISSING_PARAM'],
    [{ ...PUSHER, kind: 'email' }, 'M_INVALID_PARAM'],
    [{ ...PUSHER, data: { url: 'http://gateway.example/_matrix/push/v1/notify' } }, 'M_INVALID_PARAM'],
    [{ ...PUSHER, data: { url: 'https://gateway.example/elsewhere' } }, 'M_INVALID_PARAM'],
    [{ ...PUSHER, app_id: 'x'.repeat(65) }, 'M_INVALID_PARAM'],
    [{ ...PUSHER, pushkey: 'ä'.repeat(257) }, 'M_INVALID_PARAM'],
    [{ ...PUSHER, pushkey: 1 }, 'M_BAD_JSON'],
  ] as const)
    expect(refused(await user.ask('POST', '/pushers/set', body))).toEqual([400, errcode]);
});
