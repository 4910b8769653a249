import { beforeEach, describe, expect, it } from 'vitest';
import type { UserId } from '../../../src/matrix/ids.ts';
import { ALICE, BOB, CAROL, type ClientEvent, FixtureRoom, Home, ids } from './room_fixture.ts';

let home: Home;
let room: FixtureRoom;

beforeEach(async () => {
  home = new Home();
  room = new FixtureRoom(home);
  await room.create(ALICE);
});

const limit = (events: number): string => JSON.stringify({ room: { timeline: { limit: events } } });
const LAZY = {
  room: { state: { lazy_load_members: true }, timeline: { limit: 1, lazy_load_members: true } },
};
const keys = (events: readonly ClientEvent[] | undefined): string[] =>
  (events ?? []).map((event) => `${event.type} ${event.state_key}`);

describe('a first sync', () => {
  it('has the newest events, and the state at their start', async () => {
    const name = await room.state(ALICE, 'm.room.name', { name: 'one' });
    const messages = [await room.message(ALICE), await room.message(ALICE)];
    const renamed = await room.state(ALICE, 'm.room.name', { name: 'two' });

    const { join } = (await home.sync(ALICE, { filter: limit(3) })).rooms;
    expect(ids(join['!room']!.timeline.events)).toEqual([...messages, renamed]);
    expect(join['!room']!.timeline.limited).toBe(true);
    expect(ids(join['!room']!.state!.events)).toContain(name);
    expect(ids(join['!room']!.state!.events)).not.toContain(renamed);
    expect(join['!room']!.timeline.events.at(-1)!.unsigned).toMatchObject({
      prev_content: { name: 'one' },
      replaces_state: name,
      membership: 'join',
    });
  });

  it('has an empty state where the timeline holds the whole room', async () => {
    const { join } = (await home.sync(ALICE)).rooms;
    expect(keys(join['!room']!.timeline.events)).toEqual(['m.room.create ', `m.room.member ${ALICE}`]);
    expect(join['!room']!.state!.events).toEqual([]);
    expect(join['!room']!.timeline.limited).toBe(false);
    expect(join['!room']!.timeline.events[0]).not.toHaveProperty('room_id');
  });

  it('leaves out rooms that were left, unless the filter wants them', async () => {
    await room.member(BOB, 'join');
    const seen = await room.message(ALICE);
    await room.member(BOB, 'leave');
    await room.message(ALICE, 'not for Bob');
    expect((await home.sync(BOB)).rooms.leave).toEqual({});
    const { leave } = (await home.sync(BOB, { filter: '{"room":{"include_leave":true}}' })).rooms;
    expect(ids(leave['!room']!.timeline.events).slice(-2)).toEqual([seen, expect.anything()]);
    expect(leave['!room']!.timeline.events.at(-1)!.content).toEqual({ membership: 'leave' });
  });
});

describe('an incremental sync', () => {
  it('has only what is new, and no room in which nothing is', async () => {
    const quiet = new FixtureRoom(home, '!quiet');
    await quiet.create(ALICE);
    const first = await home.sync(ALICE);
    const message = await room.message(ALICE);
    const { rooms } = await home.sync(ALICE, { since: first.next_batch });
    expect(Object.keys(rooms.join)).toEqual(['!room']);
    expect(ids(rooms.join['!room']!.timeline.events)).toEqual([message]);
    expect(rooms.join['!room']!.state!.events).toEqual([]);
    expect(rooms.join['!room']!.timeline.limited).toBe(false);
  });

  it('brings the state that changed in a gap, and the gap closes exactly by paging', async () => {
    const first = await home.sync(ALICE);
    const gap = [
      await room.state(ALICE, 'm.room.topic', { topic: 'a' }),
      await room.state(ALICE, 'm.room.topic', { topic: 'b' }),
      await room.message(ALICE),
    ];
    const last = await room.message(ALICE);
    const second = await home.sync(ALICE, { since: first.next_batch, filter: limit(1) });
    const { timeline, state } = second.rooms.join['!room']!;
    expect(timeline.limited).toBe(true);
    expect(ids(timeline.events)).toEqual([last]);
    expect(ids(state!.events)).toEqual([gap[1]]);

    const back = await home.page(ALICE, room.id, {
      dir: 'b',
      from: timeline.prev_batch,
      to: first.next_batch,
    });
    expect(ids(back.chunk).reverse()).toEqual(gap);
    expect(back).not.toHaveProperty('end');
    const forward = await home.page(ALICE, room.id, {
      dir: 'f',
      from: first.next_batch,
      to: timeline.prev_batch,
    });
    expect(ids(forward.chunk)).toEqual(gap);
  });

  it('puts a change that the timeline filter hides into the state', async () => {
    const first = await home.sync(ALICE);
    const topic = await room.state(ALICE, 'm.room.topic', { topic: 'a' });
    const message = await room.message(ALICE);
    const filter = '{"room":{"timeline":{"types":["m.room.message"]}}}';
    const { timeline, state } = (await home.sync(ALICE, { since: first.next_batch, filter })).rooms.join[
      '!room'
    ]!;
    expect(ids(timeline.events)).toEqual([message]);
    expect(ids(state!.events)).toEqual([topic]);
  });

  it('says with use_state_after that an event in the timeline did not become the state', async () => {
    const name = await room.state(ALICE, 'm.room.name', { name: 'winner' });
    const first = await home.sync(ALICE);
    const lost = await room.write({
      type: 'm.room.name',
      sender: ALICE,
      stateKey: '',
      content: {},
      lost: true,
    });
    const topic = await room.state(ALICE, 'm.room.topic', { topic: 'a' });
    const since = first.next_batch;
    const section = (await home.sync(ALICE, { since, useStateAfter: true })).rooms.join['!room']!;
    expect(ids(section.timeline.events)).toEqual([lost, topic]);
    expect(ids(section.state_after!.events)).toEqual([topic]);
    expect(section).not.toHaveProperty('state');
    const whole = (await home.sync(ALICE, { useStateAfter: true })).rooms.join['!room']!;
    expect(ids(whole.state_after!.events)).toContain(name);
    expect(ids(whole.state_after!.events)).not.toContain(lost);
  });

  it('repeats the whole state with full_state, the timeline from since only', async () => {
    const first = await home.sync(ALICE);
    const section = (await home.sync(ALICE, { since: first.next_batch, fullState: true })).rooms.join[
      '!room'
    ]!;
    expect(section.timeline.events).toEqual([]);
    expect(keys(section.state!.events)).toEqual(['m.room.create ', `m.room.member ${ALICE}`]);
  });

  it('works with a token from before a restart', async () => {
    const first = await home.sync(ALICE);
    home.restart();
    const message = await room.message(ALICE);
    const { join } = (await home.sync(ALICE, { since: first.next_batch })).rooms;
    expect(ids(join['!room']!.timeline.events)).toEqual([message]);
  });

  it.each(['s1_99', 's2_1', 'h1_1_1', 'nonsense', 's1_-1', ''])('refuses the token %j', async (since) => {
    await expect(home.sync(ALICE, { since })).rejects.toMatchObject({
      errcode: 'M_INVALID_PARAM',
      status: 400,
    });
  });

  it.each(['{', '[]', '7', '{"room":[]}', '{"room":{"timeline":{"types":[1]}}}'])(
    'refuses the filter %j',
    async (filter) => {
      await expect(home.sync(ALICE, { filter })).rejects.toMatchObject({ errcode: 'M_INVALID_PARAM' });
    },
  );
});

describe("the user's own comings and goings", () => {
  it('give a newly joined room its full state, and what was said before as far as it is shown', async () => {
    const name = await room.state(ALICE, 'm.room.name', { name: 'one' });
    const first = await home.sync(BOB);
    const before = await room.message(ALICE, 'before');
    await room.member(BOB, 'join');
    const { timeline, state } = (await home.sync(BOB, { since: first.next_batch, filter: limit(2) })).rooms
      .join['!room']!;
    expect(ids(timeline.events)).toEqual([before, expect.anything()]);
    expect(timeline.limited).toBe(true);
    expect(ids(state!.events)).toContain(name);
  });

  it('show a leave, what came before it, and nothing after', async () => {
    await room.member(BOB, 'join');
    const first = await home.sync(BOB);
    const before = await room.message(ALICE, 'before');
    const leave = await room.member(BOB, 'leave');
    await room.message(ALICE, 'after');
    await room.state(ALICE, 'm.room.topic', { topic: 'after' });
    const second = await home.sync(BOB, { since: first.next_batch });
    expect(ids(second.rooms.leave['!room']!.timeline.events)).toEqual([before, leave]);
    expect(second.rooms.leave['!room']!.state!.events).toEqual([]);
    expect(second.rooms.join).toEqual({});
    expect((await home.sync(BOB, { since: second.next_batch })).rooms.leave).toEqual({});
  });

  it('show a room that was joined and left in between', async () => {
    const first = await home.sync(BOB);
    const join = await room.member(BOB, 'join');
    const leave = await room.member(BOB, 'leave');
    await room.message(ALICE, 'after');
    const { timeline, state } = (await home.sync(BOB, { since: first.next_batch, filter: limit(2) })).rooms
      .leave['!room']!;
    expect(ids(timeline.events)).toEqual([join, leave]);
    expect(keys(state!.events)).toEqual(['m.room.create ', `m.room.member ${ALICE}`]);
  });

  it('show a ban that followed a leave, but not what was said between', async () => {
    await room.member(BOB, 'join');
    await room.member(BOB, 'leave');
    const first = await home.sync(BOB);
    await room.message(ALICE, 'between');
    const ban = await room.member(BOB, 'ban', ALICE);
    const { leave } = (await home.sync(BOB, { since: first.next_batch })).rooms;
    expect(ids(leave['!room']!.timeline.events)).toEqual([ban]);
  });

  it('start a room that was left and is joined again where it was left', async () => {
    await room.member(BOB, 'join');
    const leave = await room.member(BOB, 'leave');
    const between = await room.message(ALICE, 'between');
    const first = await home.sync(BOB);
    const topic = await room.state(ALICE, 'm.room.topic', { topic: 'between' });
    const join = await room.member(BOB, 'join');
    const { timeline, state } = (await home.sync(BOB, { since: first.next_batch })).rooms.join['!room']!;
    expect(ids(timeline.events)).toEqual([between, topic, join]);
    expect(timeline.limited).toBe(true);
    expect(ids(state!.events)).toContain(leave);
  });

  it('tell of an invite with stripped state, and of its rejection', async () => {
    await room.state(ALICE, 'm.room.name', { name: 'one' });
    await room.state(ALICE, 'm.room.topic', { topic: 'a' });
    const first = await home.sync(BOB);
    await room.member(BOB, 'invite', ALICE);
    const second = await home.sync(BOB, { since: first.next_batch });
    const { events } = second.rooms.invite['!room']!.invite_state;
    expect(keys(events).sort()).toEqual([
      'm.room.create ',
      `m.room.member ${ALICE}`,
      `m.room.member ${BOB}`,
      'm.room.name ',
      'm.room.topic ',
    ]);
    expect(Object.keys(events[0]!).sort()).toEqual(['content', 'sender', 'state_key', 'type']);
    expect((await home.sync(BOB, { since: second.next_batch })).rooms.invite).toEqual({});

    const leave = await room.member(BOB, 'leave');
    const third = await home.sync(BOB, { since: second.next_batch });
    expect(ids(third.rooms.leave['!room']!.timeline.events)).toEqual([leave]);
    expect(third.rooms.leave['!room']!.state!.events).toEqual([]);
  });

  it('tell of an invite into a room that this server is not in, pruned to what clients may see', async () => {
    const first = await home.sync(BOB);
    const member = {
      type: 'm.room.member',
      sender: '@dan:there',
      state_key: BOB,
      content: { membership: 'invite' },
    };
    const create = {
      type: 'm.room.create',
      sender: '@dan:there',
      state_key: '',
      content: {},
      hashes: {},
      depth: 1,
    };
    await home.database.transaction(async (tx) => {
      await tx.run('UPDATE stream SET position = position + 1');
      await tx.run(
        `INSERT INTO memberships (room, user_id, server_name, membership, event_id, position, invite_state, event_json)
         VALUES ('!far', ?, 'here', 'invite', '$far', (SELECT position FROM stream), ?, ?)`,
        BOB,
        JSON.stringify([create]),
        JSON.stringify(member),
      );
    });
    const second = await home.sync(BOB, { since: first.next_batch });
    expect(second.rooms.invite['!far']!.invite_state.events).toEqual([
      { type: 'm.room.create', sender: '@dan:there', state_key: '', content: {} },
      member,
    ]);
  });
});

describe('lazily loaded members', () => {
  const filter = JSON.stringify(LAZY);

  beforeEach(async () => {
    await room.member(BOB, 'join');
    await room.member(CAROL, 'join');
    await room.state(ALICE, 'm.room.name', { name: 'no heroes' });
  });

  it('come for the senders and oneself at first, and only once', async () => {
    await room.message(BOB);
    const first = await home.sync(ALICE, { filter });
    expect(keys(first.rooms.join['!room']!.state!.events)).toEqual([
      'm.room.create ',
      'm.room.name ',
      `m.room.member ${BOB}`,
      `m.room.member ${ALICE}`,
    ]);
    await room.message(BOB);
    const second = await home.sync(ALICE, { filter, since: first.next_batch });
    expect(second.rooms.join['!room']!.state!.events).toEqual([]);
    await room.message(CAROL);
    const third = await home.sync(ALICE, { filter, since: second.next_batch });
    expect(keys(third.rooms.join['!room']!.state!.events)).toEqual([`m.room.member ${CAROL}`]);
  });

  it('come again where the answer that held them was lost, and after a restart', async () => {
    const first = await home.sync(ALICE, { filter });
    await room.message(BOB);
    const since = first.next_batch;
    const lost = await home.sync(ALICE, { filter, since });
    const again = await home.sync(ALICE, { filter, since });
    expect(keys(again.rooms.join['!room']!.state!.events)).toEqual([`m.room.member ${BOB}`]);
    await room.message(BOB);
    home.restart();
    const after = await home.sync(ALICE, { filter, since: lost.next_batch });
    expect(keys(after.rooms.join['!room']!.state!.events)).toEqual([`m.room.member ${BOB}`]);
  });

  it('come every time with include_redundant_members', async () => {
    const redundant = JSON.stringify({
      room: { state: { lazy_load_members: true, include_redundant_members: true } },
    });
    await room.message(BOB);
    const first = await home.sync(ALICE, { filter: redundant });
    await room.message(BOB);
    const second = await home.sync(ALICE, { filter: redundant, since: first.next_batch });
    expect(keys(second.rooms.join['!room']!.state!.events)).toEqual([`m.room.member ${BOB}`]);
  });

  it('come whole where they changed in a gap', async () => {
    const first = await home.sync(ALICE, { filter });
    await room.member(BOB, 'leave');
    await room.message(CAROL);
    await room.message(ALICE);
    const { state, timeline } = (await home.sync(ALICE, { filter, since: first.next_batch })).rooms.join[
      '!room'
    ]!;
    expect(timeline.limited).toBe(true);
    expect(keys(state!.events)).toContain(`m.room.member ${BOB}`);
  });
});

describe('a summary', () => {
  it('names the first members where the room has no name, and comes again when that changes', async () => {
    await room.member(BOB, 'join');
    await room.member(CAROL, 'invite', ALICE);
    const first = await home.sync(ALICE);
    expect(first.rooms.join['!room']!.summary).toEqual({
      'm.heroes': [BOB, CAROL],
      'm.joined_member_count': 2,
      'm.invited_member_count': 1,
    });
    await room.message(BOB);
    const second = await home.sync(ALICE, { since: first.next_batch });
    expect(second.rooms.join['!room']).not.toHaveProperty('summary');
    await room.state(ALICE, 'm.room.name', { name: 'a name' });
    const third = await home.sync(ALICE, { since: second.next_batch });
    expect(third.rooms.join['!room']!.summary).toEqual({
      'm.joined_member_count': 2,
      'm.invited_member_count': 1,
    });
    await room.state(ALICE, 'm.room.name', {});
    await room.member(BOB, 'leave');
    await room.member(CAROL, 'leave');
    const fourth = await home.sync(ALICE, { since: third.next_batch });
    expect(fourth.rooms.join['!room']!.summary).toEqual({
      'm.heroes': [BOB, CAROL],
      'm.joined_member_count': 1,
      'm.invited_member_count': 0,
    });
  });
});

describe('history visibility', () => {
  const visibility = (setting: string): Promise<string> =>
    room.state(ALICE, 'm.room.history_visibility', { history_visibility: setting });

  /** Everything that Bob gets after he has joined, by its body. */
  async function bobSees(): Promise<unknown[]> {
    const { join } = (await home.sync(BOB)).rooms;
    return join['!room']!.timeline.events.filter(({ type }) => type === 'm.room.message').map(
      ({ content }) => content.body,
    );
  }

  it.each([
    ['shared', ['early', 'invited', 'joined']],
    ['world_readable', ['early', 'invited', 'joined']],
    ['not understood', ['early', 'invited', 'joined']],
    ['invited', ['invited', 'joined']],
    ['joined', ['joined']],
  ])('%s shows a newcomer what it says', async (setting, expected) => {
    await visibility(setting);
    await room.message(ALICE, 'early');
    await room.member(BOB, 'invite', ALICE);
    await room.message(ALICE, 'invited');
    await room.member(BOB, 'join');
    await room.message(ALICE, 'joined');
    expect(await bobSees()).toEqual(expected);
  });

  it('is judged by what held when an event was sent', async () => {
    await visibility('joined');
    await room.message(ALICE, 'secret');
    await visibility('shared');
    await room.message(ALICE, 'open');
    await room.member(BOB, 'join');
    expect(await bobSees()).toEqual(['open']);
  });

  it('lets strangers look into a world-readable room, and into no other', async () => {
    await expect(home.page(BOB, room.id, { dir: 'b' })).rejects.toMatchObject({ errcode: 'M_FORBIDDEN' });
    await room.message(ALICE, 'before');
    await visibility('world_readable');
    const open = await room.message(ALICE, 'open');
    const { chunk } = await home.page(BOB, room.id, { dir: 'b' });
    expect(ids(chunk)).toEqual([open, expect.anything()]);
    const dave = '@dave:here' as UserId;
    expect(await home.messages.event({ user: dave, device: 'D' as never }, room.id, open)).toMatchObject({
      event_id: open,
      room_id: '!room',
    });
  });
});

describe('a long poll', () => {
  it('answers as soon as something is committed, and shows it', async () => {
    const { next_batch: since } = await home.sync(ALICE);
    const poll = home.sync(ALICE, { since, timeoutMs: 30_000 });
    await turn();
    expect(home.notifier.waiting).toBe(1);
    const message = await room.message(ALICE);
    expect(ids((await poll).rooms.join['!room']!.timeline.events)).toEqual([message]);
    expect(home.clock.monotonic()).toBe(0);
  });

  it('wakes somebody who is invited', async () => {
    const { next_batch: since } = await home.sync(BOB);
    const poll = home.sync(BOB, { since, timeoutMs: 30_000 });
    await turn();
    await room.member(BOB, 'invite', ALICE);
    expect(Object.keys((await poll).rooms.invite)).toEqual(['!room']);
  });

  it('answers empty when the time is up, two minutes at the longest, whatever wakes it for nothing', async () => {
    const { next_batch: since } = await home.sync(ALICE);
    const filter = '{"room":{"timeline":{"not_types":["m.room.message"]}}}';
    const poll = home.sync(ALICE, { since, timeoutMs: 1e9, filter });
    await turn();
    home.clock.advanceTo(60_000);
    await room.message(ALICE);
    await turn();
    expect(home.notifier.waiting).toBe(1);
    expect(home.clock.next()).toBe(120_000);
    home.clock.step();
    const body = await poll;
    expect(body.rooms.join).toEqual({});
    expect(body.next_batch).not.toBe(since);
  });

  it('ends when the client hangs up', async () => {
    const { next_batch: since } = await home.sync(ALICE);
    const client = new AbortController();
    const poll = home.sync(ALICE, { since, timeoutMs: 30_000, signal: client.signal });
    await turn();
    client.abort();
    await poll;
    expect(home.notifier.waiting).toBe(0);
    expect(home.clock.next()).toBeNull();
  });
});

/** Lets everything run that waits for nothing but the processor. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
