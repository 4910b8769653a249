import type { FastifyInstance } from 'fastify';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { createApp } from '../../src/api/app.ts';
import { eventRoutes } from '../../src/api/client/event.ts';
import { messagesRoutes } from '../../src/api/client/messages.ts';
import { syncRoutes } from '../../src/api/client/sync.ts';
import { Sync } from '../../src/homeserver/sync/sync.ts';
import type { UserId } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import { ALICE, FixtureRoom, Home, phone } from '../homeserver/sync/room_fixture.ts';

let home: Home;
let room: FixtureRoom;
let app: FastifyInstance;

beforeEach(async () => {
  home = new Home();
  room = new FixtureRoom(home);
  await room.create(ALICE);
  // An access token is the user's own id here.
  app = createApp({ clock: home.clock, authenticate: async (token) => phone(token as UserId) });
  const filters = {
    get: async (_: UserId, id: string): Promise<JsonObject | undefined> =>
      id === '7' ? { room: { timeline: { limit: 1 } } } : undefined,
  };
  const sync = new Sync({ reader: home.database, clock: home.clock, notifier: home.notifier, filters });
  syncRoutes(app, { sync });
  messagesRoutes(app, { messages: home.messages });
  eventRoutes(app, { messages: home.messages });
  await app.ready();
  onTestFinished(() => app.close());
});

async function get(path: string): Promise<{ status: number; body: JsonObject }> {
  const url = `/_matrix/client/v3/${path}`;
  const response = await app.inject({ url, headers: { authorization: `Bearer ${ALICE}` } });
  return { status: response.statusCode, body: response.json() };
}

const inRoom = `rooms/${encodeURIComponent('!room')}`;

/** Lets everything run that waits for nothing but the processor and loopback. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

describe('GET /sync', () => {
  it('has every part of an answer, the ones of which there is nothing empty', async () => {
    const { status, body } = await get('sync');
    expect(status).toBe(200);
    expect(body).toMatchObject({
      next_batch: 's1_2',
      rooms: {
        join: { '!room': { state: { events: [] }, ephemeral: { events: [] } } },
        invite: {},
        leave: {},
        knock: {},
      },
      account_data: { events: [{ type: 'm.push_rules' }] },
      to_device: { events: [] },
    });
  });

  it('takes a filter by its id, and state_after', async () => {
    const { body } = await get(
      'sync?filter=7&use_state_after=true&set_presence=offline&timeout=0&full_state=true',
    );
    const { join } = body.rooms as { join: Record<string, JsonObject> };
    expect(join['!room']).toMatchObject({ timeline: { events: [{ state_key: ALICE }], limited: true } });
    expect(join['!room']).toHaveProperty('state_after');
  });

  it.each([
    'timeout=soon',
    'timeout=-1',
    'full_state=1',
    'set_presence=away',
    'filter=8',
    'since=x',
    'since=s1_1&since=s1_2',
  ])('refuses %s', async (query) => {
    expect(await get(`sync?${query}`)).toMatchObject({ status: 400, body: { errcode: 'M_INVALID_PARAM' } });
  });

  it('stops waiting when a client on a socket hangs up', async () => {
    const address = await app.listen({ host: '127.0.0.1', port: 0 });
    const client = new AbortController();
    const poll = fetch(`${address}/_matrix/client/v3/sync?since=s1_2&timeout=30000`, {
      headers: { authorization: `Bearer ${ALICE}` },
      signal: client.signal,
    });
    await until(() => home.notifier.waiting === 1);
    client.abort();
    await expect(poll).rejects.toThrow();
    await until(() => home.notifier.waiting === 0);
  });

  it('stops waiting when a door that calls it without a socket gives up', async () => {
    const client = new AbortController();
    const poll = app.inject({
      url: '/_matrix/client/v3/sync?since=s1_2&timeout=30000',
      headers: { authorization: `Bearer ${ALICE}` },
      signal: client.signal,
    });
    await until(() => home.notifier.waiting === 1);
    client.abort();
    await expect(poll).rejects.toThrow();
    await until(() => home.notifier.waiting === 0);
  });

  it('answers a poll on a socket once something happens', async () => {
    const address = await app.listen({ host: '127.0.0.1', port: 0 });
    const poll = fetch(`${address}/_matrix/client/v3/sync?since=s1_2&timeout=30000`, {
      headers: { authorization: `Bearer ${ALICE}` },
    });
    await until(() => home.notifier.waiting === 1);
    const id = await room.message(ALICE);
    expect(await (await poll).json()).toMatchObject({
      rooms: { join: { '!room': { timeline: { events: [{ event_id: id }] } } } },
    });
  });
});

describe("a room's history", () => {
  it('comes in pages', async () => {
    const { status, body } = await get(`${inRoom}/messages?dir=b&limit=1`);
    expect(status).toBe(200);
    expect(body).toMatchObject({
      start: 's1_2',
      end: 's1_1',
      chunk: [{ event_id: '$room2', room_id: '!room' }],
    });
    const filter = encodeURIComponent('{"types":["m.room.create"]}');
    const next = await get(`${inRoom}/messages?dir=b&from=${String(body.end)}&filter=${filter}`);
    expect(next.body).toMatchObject({ start: 's1_1', chunk: [{ event_id: '$room1' }] });
    expect(next.body).not.toHaveProperty('end');
  });

  it.each([
    ['limit=1', 'M_MISSING_PARAM'],
    ['dir=x', 'M_INVALID_PARAM'],
    ['dir=b&limit=x', 'M_INVALID_PARAM'],
    ['dir=b&filter={', 'M_INVALID_PARAM'],
    ['dir=b&filter=[]', 'M_INVALID_PARAM'],
    ['dir=b&from=x', 'M_INVALID_PARAM'],
  ])('refuses %s', async (query, errcode) => {
    expect(await get(`${inRoom}/messages?${query}`)).toMatchObject({ status: 400, body: { errcode } });
  });

  it('has single events, and their context', async () => {
    const event = encodeURIComponent('$room2');
    expect(await get(`${inRoom}/event/${event}`)).toMatchObject({
      status: 200,
      body: { event_id: '$room2' },
    });
    expect(await get(`${inRoom}/context/${event}?limit=2`)).toMatchObject({
      status: 200,
      body: { event: { event_id: '$room2' }, events_before: [{ event_id: '$room1' }], events_after: [] },
    });
    expect(await get(`${inRoom}/event/nothing`)).toMatchObject({
      status: 404,
      body: { errcode: 'M_NOT_FOUND' },
    });
  });
});
