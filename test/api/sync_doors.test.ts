import { expect } from 'vitest';
import type { JsonObject } from '../../src/matrix/json.ts';
import { doorsOf, type User } from './coverage/doors.ts';

const { eachDoor } = doorsOf(import.meta.url);

const filtersOf = ({ id }: User): string => `/user/${encodeURIComponent(id)}/filter`;

interface Told {
  readonly timeline: { readonly events: readonly JsonObject[]; readonly limited: boolean };
  readonly unread_notifications: JsonObject;
  readonly unread_thread_notifications?: JsonObject;
}
const joined = (body: JsonObject): readonly Told[] =>
  Object.values((body.rooms as JsonObject).join as JsonObject) as never;

eachDoor('a first sync tells rooms and data, a later one what has changed', async (door) => {
  const user = await door.user();
  const { body: created } = await user.ask('POST', '/createRoom', { name: 'Ship' });
  const first = await user.ask('GET', '/sync');
  expect(first.status).toBe(200);
  expect(Object.keys(first.body).sort()).toEqual([
    ...[
      'account_data',
      'device_one_time_keys_count',
      'device_unused_fallback_key_types',
      'next_batch',
      'presence',
      'rooms',
      'to_device',
    ],
  ]);
  expect(Object.keys((first.body.rooms as JsonObject).join as JsonObject)).toEqual([created.room_id]);
  const rules = (first.body.account_data as { events: JsonObject[] }).events;
  // A device at the other end of a slow link knows the rules that everybody has.
  expect(rules.map(({ type }) => type)).toEqual(door.name === 'pipe' ? [] : ['m.push_rules']);

  const room = encodeURIComponent(String(created.room_id));
  const poll = user.begin('GET', `/sync?since=${String(first.body.next_batch)}&timeout=30000`);
  await user.ask('PUT', `/rooms/${room}/send/m.room.message/t`, { msgtype: 'm.text', body: 'ahoy' });
  const later = await door.until(poll);
  const [section] = joined(later.body);
  expect(section!.timeline.events.map(({ content }) => (content as JsonObject).body)).toEqual(['ahoy']);
  expect(section!.unread_notifications).toEqual({ highlight_count: 0, notification_count: 0 });
});

eachDoor('a filter is kept, and gone by', async (door) => {
  const [user, other] = [await door.user(), await door.user()];
  await user.ask('POST', '/createRoom', { name: 'Ship' });
  const filter = {
    room: { timeline: { limit: 1, unread_thread_notifications: true }, account_data: { types: [] } },
    account_data: { types: [] },
    event_fields: ['type', 'content.name'],
  };
  const { body } = await user.ask('POST', filtersOf(user), filter);
  const id = String(body.filter_id);
  expect((await user.ask('GET', `${filtersOf(user)}/${id}`)).body).toEqual(filter);
  const answer = await user.ask('GET', `/sync?filter=${id}`);
  expect(answer.body.account_data).toEqual({ events: [] });
  const [section] = joined(answer.body);
  expect(section!.timeline).toMatchObject({
    limited: true,
    events: [{ type: 'm.room.name', content: { name: 'Ship' } }],
  });
  expect(Object.keys(section!.timeline.events[0]!)).toEqual(['type', 'content']);
  expect(section!.unread_thread_notifications).toEqual({});

  for (const [method, path, json, status, errcode] of [
    ['POST', filtersOf(other), filter, 403, 'M_FORBIDDEN'],
    ['GET', `${filtersOf(other)}/${id}`, undefined, 403, 'M_FORBIDDEN'],
    ['GET', `${filtersOf(user)}/999999`, undefined, 404, 'M_NOT_FOUND'],
    ['GET', '/sync?filter=999999', undefined, 400, 'M_INVALID_PARAM'],
    [
      'GET',
      `/sync?filter=${encodeURIComponent('{"event_format":"odd"}')}`,
      undefined,
      400,
      'M_INVALID_PARAM',
    ],
    ['GET', '/sync?since=x', undefined, 400, 'M_INVALID_PARAM'],
    ['GET', '/sync?set_presence=away', undefined, 400, 'M_INVALID_PARAM'],
  ] as const) {
    const refused = await user.ask(method, path, json);
    expect([path, refused.status, refused.body.errcode]).toEqual([path, status, errcode]);
  }
});

eachDoor('everybody has the predefined push rules, and no pusher', async (door) => {
  const user = await door.user();
  const { body } = await user.ask('GET', '/pushrules/');
  const global = body.global as Record<string, readonly JsonObject[]>;
  expect((await user.ask('GET', '/pushrules/global/')).body).toEqual(global);
  const path = '/pushrules/global/override/.m.rule.master';
  expect((await user.ask('GET', path)).body).toEqual(global.override![0]);
  expect((await user.ask('GET', `${path}/enabled`)).body).toEqual({ enabled: false });
  expect((await user.ask('GET', `${path}/actions`)).body).toEqual({ actions: [] });
  expect((await user.ask('GET', '/pushers')).body).toEqual({ pushers: [] });
  for (const unknown of [
    '/pushrules/global/override/none',
    '/pushrules/global/override/none/enabled',
    '/pushrules/global/override/none/actions',
    '/pushrules/global/odd/.m.rule.master',
  ])
    expect(await user.ask('GET', unknown)).toMatchObject({ status: 404, body: { errcode: 'M_NOT_FOUND' } });
});
