import { beforeEach, describe, expect, test } from 'vitest';
import { AccountData } from '../../../src/homeserver/account_data.ts';
import { Presence } from '../../../src/homeserver/presence.ts';
import { Receipts } from '../../../src/homeserver/receipts.ts';
import { Sync } from '../../../src/homeserver/sync/sync.ts';
import { Typing } from '../../../src/homeserver/typing.ts';
import type { EventId, ServerName, UserId } from '../../../src/matrix/ids.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { noWarnings } from '../no_warnings.ts';
import { ALICE, BOB, CAROL, FixtureRoom, Home, ids, phone, type SyncBody } from './room_fixture.ts';

const ZOE = '@zoe:there' as UserId;
const SECOND_MS = 1_000;

let home: Home;
let room: FixtureRoom;
let accountData: AccountData;
let receipts: Receipts;
let typing: Typing;
let presence: Presence;
let sync: Sync;
/** What other servers were to be told. */
let told: unknown[][];
/** How often a sync has let others have their turn. */
let turns: number;

const outbox = {
  typing: (...of: unknown[]) => void told.push(['typing', ...of]),
  receipt: async (_: unknown, ...of: unknown[]) => void told.push(['receipt', ...of]),
  presence: (...of: unknown[]) => void told.push(['presence', ...of]),
};

function newServices(): void {
  const { database, clock, notifier } = home;
  const of = { database, clock, notifier, outbox, log: noWarnings };
  accountData = new AccountData(of);
  receipts = new Receipts({ ...of, accountData });
  typing = new Typing(of);
  presence = new Presence({
    ...{ ...of, enabled: true, serverName: 'here' as ServerName, localUserExists: async () => true },
  });
  sync = new Sync({
    ...{ reader: database, clock, notifier, filters: home.filters, presence },
    turn: async () => {
      turns++;
    },
  });
}

beforeEach(async () => {
  home = new Home();
  told = [];
  turns = 0;
  newServices();
  room = new FixtureRoom(home);
  await room.create(ALICE);
  await room.member(BOB, 'join');
});

async function ask(user: UserId, since?: string, filter: JsonObject = {}): Promise<SyncBody> {
  const body = await sync.sync({
    ...{
      requester: phone(user),
      since,
      timeoutMs: 0,
      filter: JSON.stringify(filter),
      setPresence: 'offline',
    },
  });
  return JSON.parse(JSON.stringify(body)) as SyncBody;
}

/** Lets time pass, and what it sets off be written. */
async function pass(ms: number): Promise<void> {
  const { clock } = home;
  const end = clock.monotonic() + ms;
  for (let next = clock.next(); next !== null && next <= end; next = clock.next()) {
    clock.step();
    await settled();
  }
  clock.advanceTo(end);
  await settled();
}
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const ephemeralOf = (body: SyncBody) => body.rooms.join['!room']?.ephemeral?.events ?? [];

describe('users of other servers', () => {
  beforeEach(() => room.member(ZOE, 'join'));

  test('read, type and are there as their servers say, while those go on saying it', async () => {
    const event = await room.message(ALICE);
    const { next_batch: since } = await ask(ALICE);
    await receipts.received(room.id, { user: ZOE, event, ts: 5, threadId: undefined });
    await typing.received(room.id, ZOE, true);
    await presence.received({
      ...{ user: ZOE, presence: 'online', statusMsg: 'Hi', lastActiveAgoMs: 0, currentlyActive: true },
    });
    const body = await ask(ALICE, since);
    expect(ephemeralOf(body)).toEqual([
      { type: 'm.typing', content: { user_ids: [ZOE] } },
      { type: 'm.receipt', content: { [event]: { 'm.read': { [ZOE]: { ts: 5 } } } } },
    ]);
    expect(body.presence.events).toMatchObject([
      { sender: ZOE, content: { presence: 'online', status_msg: 'Hi' } },
    ]);
    expect(told).toEqual([]);
    await pass(60 * SECOND_MS);
    expect(ephemeralOf(await ask(ALICE, body.next_batch))).toEqual([
      { type: 'm.typing', content: { user_ids: [] } },
    ]);
    await pass(30 * 60 * SECOND_MS);
    expect(await presence.get(ALICE, ZOE)).toMatchObject({ presence: 'offline' });
  });

  test('who are not in the room have nothing to say there', async () => {
    const stranger = '@stranger:there' as UserId;
    const event = await room.message(ALICE);
    const { next_batch: since } = await ask(ALICE);
    await receipts.received(room.id, { user: stranger, event, ts: 5, threadId: undefined });
    await typing.received(room.id, stranger, true);
    await presence.received({
      ...{ user: stranger, presence: 'online', statusMsg: null, lastActiveAgoMs: 0, currentlyActive: true },
    });
    expect((await ask(ALICE, since)).next_batch).toBe(since);
  });

  test('may have read what is not known here yet', async () => {
    await receipts.received(room.id, { user: ZOE, event: '$later' as EventId, ts: 5, threadId: 'main' });
    expect(ephemeralOf(await ask(ALICE))).toEqual([
      { type: 'm.receipt', content: { $later: { 'm.read': { [ZOE]: { ts: 5, thread_id: 'main' } } } } },
    ]);
  });
});

describe('other servers', () => {
  test('are told of public receipts, of who types, and of who is there', async () => {
    const event = await room.message(ALICE);
    await receipts.mark(BOB, room.id, { read: event, readPrivate: event, fullyRead: event });
    await typing.set(BOB, room.id, { isTyping: true, timeoutMs: 60 * SECOND_MS });
    await typing.set(BOB, room.id, { isTyping: true, timeoutMs: 60 * SECOND_MS });
    await typing.sent(room.id, BOB);
    await typing.sent(room.id, BOB);
    await presence.set(phone(BOB), 'online', null);
    expect(told).toEqual([
      ['receipt', room.id, { user: BOB, event, ts: home.clock.wall(), threadId: undefined }],
      ['typing', room.id, BOB, true],
      ['typing', room.id, BOB, false],
      ['presence', expect.objectContaining({ user: BOB, presence: 'online' }), [room.id]],
    ]);
  });

  test('are told again from time to time that somebody goes on typing', async () => {
    for (let i = 0; i < 4; i++) {
      await typing.set(BOB, room.id, { isTyping: true, timeoutMs: 60 * SECOND_MS });
      await pass(15 * SECOND_MS);
    }
    expect(told).toEqual(Array(2).fill(['typing', room.id, BOB, true]));
  });
});

describe('typing', () => {
  test('is written only where it changes who types', async () => {
    await typing.set(BOB, room.id, { isTyping: true });
    const { next_batch } = await ask(ALICE);
    for (let i = 0; i < 10; i++) await typing.set(BOB, room.id, { isTyping: true });
    expect((await ask(ALICE)).next_batch).toBe(next_batch);
  });

  test('takes no longer than two minutes, and no start with it', async () => {
    await typing.set(BOB, room.id, { isTyping: true, timeoutMs: 24 * 60 * 60 * SECOND_MS });
    const { next_batch } = await ask(ALICE);
    await pass(121 * SECOND_MS);
    const later = await ask(ALICE, next_batch);
    expect(ephemeralOf(later)).toEqual([{ type: 'm.typing', content: { user_ids: [] } }]);
    await typing.set(BOB, room.id, { isTyping: true });
    const before = await ask(ALICE, later.next_batch);
    await typing.stop();
    newServices();
    await typing.start();
    expect(ephemeralOf(await ask(ALICE, before.next_batch))).toEqual([
      { type: 'm.typing', content: { user_ids: [] } },
    ]);
  });
});

describe('presence', () => {
  test('of somebody who syncs on is not written at each request', async () => {
    presence.syncing(phone(BOB), 'online')();
    await settled();
    const { next_batch } = await ask(ALICE);
    for (let i = 0; i < 20; i++) {
      presence.syncing(phone(BOB), 'online')();
      await settled();
    }
    expect((await ask(ALICE)).next_batch).toBe(next_batch);
  });

  test('of a device that is idle becomes online again by what its user does', async () => {
    const end = presence.syncing(phone(BOB), 'online');
    await pass(5 * 60 * SECOND_MS);
    expect(await presence.get(ALICE, BOB)).toMatchObject({
      presence: 'unavailable',
      last_active_ago: 300_000,
    });
    presence.active(phone(BOB));
    await settled();
    expect(await presence.get(ALICE, BOB)).toMatchObject({ presence: 'online', currently_active: true });
    end();
    await pass(31 * SECOND_MS);
    expect(await presence.get(ALICE, BOB)).toMatchObject({ presence: 'offline' });
  });

  test('that somebody has stated is not changed by syncing alone', async () => {
    await presence.set(phone(BOB), 'unavailable', 'at lunch');
    presence.syncing(phone(BOB), 'online');
    await settled();
    expect(await presence.get(ALICE, BOB)).toMatchObject({ presence: 'unavailable', status_msg: 'at lunch' });
    await pass(30 * 60 * SECOND_MS);
    expect(await presence.get(ALICE, BOB)).toMatchObject({ presence: 'unavailable' });
  });

  test('of those who do not come back after a start ends soon', async () => {
    await presence.set(phone(BOB), 'online', null);
    await presence.stop();
    newServices();
    await presence.start();
    expect(await presence.get(ALICE, BOB)).toMatchObject({ presence: 'online' });
    await pass(61 * SECOND_MS);
    expect(await presence.get(ALICE, BOB)).toMatchObject({ presence: 'offline' });
  });

  test('of somebody is told to whoever comes to share a room with them', async () => {
    await presence.set(phone(BOB), 'online', null);
    const other = new FixtureRoom(home, '!other');
    await other.create(CAROL);
    const { next_batch: since } = await ask(CAROL);
    await other.member(BOB, 'join');
    expect((await ask(CAROL, since)).presence.events.map(({ sender }) => sender)).toEqual([BOB]);
  });
});

describe('somebody who is ignored', () => {
  const ignore = (...users: UserId[]): Promise<void> =>
    accountData.put(
      ALICE,
      { room: undefined, type: 'm.ignored_user_list' },
      { ignored_users: Object.fromEntries(users.map((user) => [user, {}])) },
    );

  test('is told of no more than by state, from then on and until that ends', async () => {
    const first = await ask(ALICE);
    await ignore(BOB);
    await room.message(BOB);
    const name = await room.state(BOB, 'm.room.name', { name: 'x' });
    await typing.set(BOB, room.id, { isTyping: true });
    await receipts.mark(BOB, room.id, { read: name });
    await presence.set(phone(BOB), 'online', null);
    const body = await ask(ALICE, first.next_batch);
    expect(ids(body.rooms.join['!room']!.timeline.events)).toEqual([name]);
    expect(ephemeralOf(body)).toEqual([{ type: 'm.typing', content: { user_ids: [] } }]);
    expect(body.presence.events).toEqual([]);
    const page = await home.page(ALICE, room.id, { dir: 'b' });
    expect(page.chunk.map(({ sender, type }) => `${sender} ${type}`)).not.toContain(`${BOB} m.room.message`);

    await ignore();
    const again = await room.message(BOB);
    const later = await ask(ALICE, body.next_batch);
    expect(ids(later.rooms.join['!room']!.timeline.events)).toEqual([again]);
  });

  test('invites nobody who ignores them', async () => {
    const other = new FixtureRoom(home, '!other');
    await other.create(BOB);
    await ignore(BOB);
    await other.member(ALICE, 'invite', BOB);
    expect((await ask(ALICE)).rooms.invite).toEqual({});
    await ignore();
    expect(Object.keys((await ask(ALICE)).rooms.invite)).toEqual(['!other']);
  });
});

test('who takes no invites is told of none', async () => {
  const other = new FixtureRoom(home, '!other');
  await other.create(BOB);
  await other.member(ALICE, 'invite', BOB);
  const place = { room: undefined, type: 'm.invite_permission_config' };
  await accountData.put(ALICE, place, { default_action: 'block' });
  expect((await ask(ALICE)).rooms.invite).toEqual({});
  await accountData.put(ALICE, place, {});
  expect(Object.keys((await ask(ALICE)).rooms.invite)).toEqual(['!other']);
});

describe('a filter', () => {
  test('leaves out what it does not want of each section', async () => {
    const event = await room.message(BOB);
    await receipts.mark(BOB, room.id, { read: event });
    await typing.set(BOB, room.id, { isTyping: true });
    await presence.set(phone(BOB), 'online', null);
    for (const type of ['x.one', 'y.two']) {
      await accountData.put(ALICE, { room: room.id, type }, {});
      await accountData.put(ALICE, { room: undefined, type }, {});
    }
    const body = await ask(ALICE, undefined, {
      account_data: { types: ['x.*'] },
      presence: { not_senders: [BOB] },
      room: { account_data: { not_types: ['x.one'] }, ephemeral: { types: ['m.receipt'] } },
    });
    expect(body.account_data.events.map(({ type }) => type)).toEqual(['x.one']);
    expect(body.presence.events).toEqual([]);
    const section = body.rooms.join['!room']!;
    expect(section.account_data.events.map(({ type }) => type)).toEqual(['y.two']);
    expect(section.ephemeral!.events.map(({ type }) => type)).toEqual(['m.receipt']);
  });

  test('may want raw events, or some of their fields', async () => {
    await room.message(ALICE, 'hello');
    const raw = await ask(ALICE, undefined, { event_format: 'federation' });
    expect(raw.rooms.join['!room']!.timeline.events.at(-1)).toMatchObject({
      depth: 4,
      content: { body: 'hello' },
    });
    const some = await ask(ALICE, undefined, { event_fields: ['type', 'content.body', 'content.a\\.b'] });
    expect(some.rooms.join['!room']!.timeline.events.at(-1)).toEqual({
      ...{ type: 'm.room.message', content: { body: 'hello' } },
    });
  });
});

describe('a first sync of many rooms', () => {
  test('lets others have their turn between rooms, and is written as it is made, the same as at one go', async () => {
    for (let n = 0; n < 300; n++) {
      const other = new FixtureRoom(home, `!room${n}`);
      await other.create(n % 3 === 0 ? BOB : ALICE);
      if (n % 3 === 0 && n % 2 === 0) await other.member(ALICE, 'invite', BOB);
    }
    const request = { requester: phone(ALICE), timeoutMs: 0, setPresence: 'offline' } as const;
    const whole = await sync.sync(request);
    const before = turns;
    let text = '';
    let longest = 0;
    const seen: number[] = [];
    for await (const piece of await sync.streamed(request)) {
      text += piece;
      longest = Math.max(longest, piece.length);
      seen.push(turns - before);
    }
    expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(whole)));
    const { rooms } = whole as unknown as SyncBody;
    expect([Object.keys(rooms.join).length, Object.keys(rooms.invite).length]).toEqual([201, 50]);
    expect(turns - before).toBe(251);
    // No piece is made before the one in front of it was taken, and none holds much.
    expect(seen.slice(0, 5)).toEqual([0, 0, 1, 2, 3]);
    expect(longest).toBeLessThan(text.length / 20);
  });

  test('of nobody is whole JSON too', async () => {
    let text = '';
    for await (const piece of await sync.streamed({ requester: phone(CAROL), timeoutMs: 0 })) text += piece;
    expect(JSON.parse(text)).toMatchObject({ rooms: { join: {}, invite: {}, knock: {}, leave: {} } });
  });
});

test('what comes while a sync waits wakes it: data and private receipts their own user alone', async () => {
  const event = await room.message(ALICE);
  const waiting = async (user: UserId) => {
    const { next_batch: since } = await ask(user);
    const poll = sync.sync({ requester: phone(user), since, timeoutMs: 30_000, setPresence: 'offline' });
    await settled();
    return poll;
  };
  const polls = { alice: waiting(ALICE), bob: waiting(BOB) };
  let isBobWoken = false;
  void polls.bob.then(() => {
    isBobWoken = true;
  });
  await settled();
  await receipts.mark(ALICE, room.id, { readPrivate: event });
  const { rooms } = (await polls.alice) as unknown as SyncBody;
  expect(rooms.join['!room']!.ephemeral!.events).toHaveLength(1);
  await settled();
  expect(isBobWoken).toBe(false);
  await accountData.putTag(BOB, room.id, 'u.a', {});
  expect(((await polls.bob) as unknown as SyncBody).rooms.join['!room']!.account_data.events).toEqual([
    { type: 'm.tag', content: { tags: { 'u.a': {} } } },
  ]);
});
