import { beforeEach, describe, expect, it } from 'vitest';
import { parseRoomEventFilter } from '../../../src/homeserver/filter_events.ts';
import type { EventId, RoomId, UserId } from '../../../src/matrix/ids.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { ALICE, BOB, type ClientEvent, FixtureRoom, Home, ids, phone } from './room_fixture.ts';

let home: Home;
let room: FixtureRoom;

beforeEach(async () => {
  home = new Home();
  room = new FixtureRoom(home);
  await room.create(ALICE);
});

interface Context {
  start: string;
  end: string;
  event: ClientEvent;
  events_before: ClientEvent[];
  events_after: ClientEvent[];
  state: ClientEvent[];
}

async function context(
  user: UserId,
  event: EventId,
  limit?: number,
  filter: JsonObject = {},
): Promise<Context> {
  const parsed = parseRoomEventFilter(filter);
  if (!parsed.ok) throw new Error(parsed.problem);
  const request = { requester: phone(user), room: room.id, event, limit, filter: parsed.value };
  return (await home.messages.context(request)) as unknown as Context;
}

/** All pages from one end to the other. */
async function everything(dir: 'b' | 'f', limit: number, filter?: JsonObject): Promise<string[]> {
  const found: string[] = [];
  for (let from: string | undefined, pages = 0; ; pages++) {
    const page = await home.page(ALICE, room.id, {
      dir,
      limit,
      ...(from === undefined ? {} : { from }),
      ...(filter === undefined ? {} : { filter }),
    });
    found.push(...ids(page.chunk));
    expect(page.chunk.length).toBeLessThanOrEqual(limit);
    expect(pages).toBeLessThan(1_000);
    if (page.end === undefined) return found;
    from = page.end;
  }
}

describe('paging through a room', () => {
  it('orders what was backfilled by depth, before what was delivered, by position', async () => {
    const deep = await room.message(BOB, 'b', { backfilledAt: 5 });
    const shallow = await room.message(BOB, 'a', { backfilledAt: 2 });
    const twin = await room.message(BOB, 'c', { backfilledAt: 5 });
    const late = await room.message(ALICE, 'fork', { lost: true });
    const order = [shallow, deep, twin, '$room1', '$room2', late];
    for (const limit of [1, 2, 3, 10]) {
      expect(await everything('f', limit)).toEqual(order);
      expect(await everything('b', limit)).toEqual([...order].reverse());
    }
  });

  it('takes tokens of either kind from either side, and repeats or loses nothing', async () => {
    for (let depth = 1; depth <= 3; depth++) await room.message(BOB, 'old', { backfilledAt: depth });
    for (let n = 0; n < 3; n++) await room.message(ALICE);
    const all = await everything('f', 100);
    const tokens = ['h1_0_0'];
    for (let from: string | undefined; ; ) {
      const page = await home.page(ALICE, room.id, {
        dir: 'f',
        limit: 1,
        ...(from === undefined ? {} : { from }),
      });
      if (page.end === undefined) break;
      from = page.end;
      tokens.push(from);
    }
    for (const [left, from] of tokens.entries()) {
      for (const [right, to] of tokens.entries()) {
        const forward = await home.page(ALICE, room.id, { dir: 'f', from, to, limit: 100 });
        const backward = await home.page(ALICE, room.id, { dir: 'b', from: to, to: from, limit: 100 });
        const between = right < left ? [] : all.slice(left, right);
        expect(ids(forward.chunk)).toEqual(between);
        expect(ids(backward.chunk)).toEqual([...between].reverse());
      }
    }
  });

  it('goes on behind a stretch in which the filter lets nothing through', async () => {
    const first = await room.message(ALICE, 'wanted', {});
    await home.database.transaction(async (tx) => {
      await tx.run('UPDATE stream SET position = 10000');
      for (let n = 0; n < 2_500; n++) {
        await tx.run(
          `INSERT INTO events (event_id, room, type, sender, depth, origin_server_ts, json, status, position)
           SELECT ?, room, 'm.noise', sender, depth, 0, json, 'timeline', ? FROM events WHERE event_id = ?`,
          `$noise${n}`,
          100 + n,
          first,
        );
      }
    });
    const filter = { types: ['m.room.message'] };
    const page = await home.page(ALICE, room.id, { dir: 'b', limit: 10, filter });
    expect(page.chunk).toEqual([]);
    expect(page.end).toBeDefined();
    expect(await everything('b', 10, filter)).toEqual([first]);
  });

  it('ends where somebody left, and starts nowhere for who never came or has forgotten the room', async () => {
    await room.member(BOB, 'join');
    const leave = await room.member(BOB, 'leave');
    await room.message(ALICE, 'after');
    const { chunk } = await home.page(BOB, room.id, { dir: 'b', limit: 1 });
    expect(ids(chunk)).toEqual([leave]);
    const forward = await home.page(BOB, room.id, { dir: 'f', limit: 100 });
    expect(ids(forward.chunk).at(-1)).toBe(leave);

    await home.database.transaction((tx) =>
      tx.run('UPDATE memberships SET forgotten = 1 WHERE user_id = ?', BOB),
    );
    for (const request of [
      home.page(BOB, room.id, { dir: 'b' }),
      home.page(ALICE, '!other' as RoomId, { dir: 'b' }),
    ]) {
      await expect(request).rejects.toMatchObject({ errcode: 'M_FORBIDDEN', status: 403 });
    }
  });

  it('adds the members who sent what is shown, with lazy loading', async () => {
    const join = await room.member(BOB, 'join');
    await room.message(BOB);
    const page = await home.page(ALICE, room.id, { dir: 'b', limit: 1, filter: { lazy_load_members: true } });
    expect(ids(page.state)).toEqual([join]);
    expect(await home.page(ALICE, room.id, { dir: 'b', limit: 1 })).not.toHaveProperty('state');
  });

  it('refuses tokens that it never gave', async () => {
    for (const from of ['s1_999', 'x', 's1_1_1']) {
      await expect(home.page(ALICE, room.id, { dir: 'b', from })).rejects.toMatchObject({
        errcode: 'M_INVALID_PARAM',
      });
    }
  });
});

describe('one event', () => {
  it('comes with its room, the transaction id for the device that sent it, and what redacted it', async () => {
    const message = await room.message(ALICE);
    const redaction = await room.write({
      type: 'm.room.redaction',
      sender: ALICE,
      content: { redacts: message },
    });
    await home.database.transaction(async (tx) => {
      await tx.run(
        "INSERT INTO client_transactions (user_id, device_id, scope, txn_id, event_id, created) VALUES (?, 'PHONE', '', 'm1', ?, 0)",
        ALICE,
        message,
      );
      await tx.run('UPDATE events SET redacted_by = ? WHERE event_id = ?', redaction, message);
    });
    await room.member(BOB, 'join');
    const mine = await home.messages.event(phone(ALICE), room.id, message);
    expect(mine).toMatchObject({
      event_id: message,
      room_id: '!room',
      unsigned: { transaction_id: 'm1', redacted_because: { event_id: redaction } },
    });
    const other = await home.messages.event({ user: ALICE, device: 'TABLET' as never }, room.id, message);
    expect(other.unsigned).not.toHaveProperty('transaction_id');
    expect((await home.messages.event(phone(BOB), room.id, message)).unsigned).not.toHaveProperty(
      'transaction_id',
    );
  });

  it('is not found where it is in another room, not part of the timeline, or hidden', async () => {
    await room.state(ALICE, 'm.room.history_visibility', { history_visibility: 'joined' });
    const hidden = await room.message(ALICE);
    await room.member(BOB, 'join');
    const rejected = await room.message(ALICE);
    await home.database.transaction((tx) =>
      tx.run("UPDATE events SET status = 'soft_failed' WHERE event_id = ?", rejected),
    );
    const other = new FixtureRoom(home, '!other');
    await other.create(BOB);
    for (const [at, event] of [
      [room.id, hidden],
      [room.id, rejected],
      [other.id, hidden],
      [room.id, '$none' as EventId],
    ] as const) {
      await expect(home.messages.event(phone(BOB), at, event)).rejects.toMatchObject({
        errcode: 'M_NOT_FOUND',
        status: 404,
      });
    }
  });
});

describe('the context of an event', () => {
  it('is what came just before and after, with tokens that go on from there', async () => {
    const events: EventId[] = [];
    for (let n = 0; n < 7; n++) events.push(await room.message(ALICE, String(n)));
    const found = await context(ALICE, events[3]!, 4);
    expect(found.event.event_id).toBe(events[3]);
    expect(ids(found.events_before)).toEqual([events[2], events[1]]);
    expect(ids(found.events_after)).toEqual([events[4], events[5]]);
    const before = await home.page(ALICE, room.id, { dir: 'b', from: found.start, limit: 1 });
    expect(ids(before.chunk)).toEqual([events[0]]);
    const after = await home.page(ALICE, room.id, { dir: 'f', from: found.end, limit: 5 });
    expect(ids(after.chunk)).toEqual([events[6]]);
  });

  it('has the state at its end, and only the event itself with a limit of 0', async () => {
    const topic = await room.state(ALICE, 'm.room.topic', { topic: 'then' });
    const message = await room.message(ALICE);
    await room.member(BOB, 'join');
    await room.state(ALICE, 'm.room.topic', { topic: 'later' });
    const found = await context(ALICE, message, 0);
    expect([...found.events_before, ...found.events_after]).toEqual([]);
    expect(ids(found.state).sort()).toEqual(['$room1', '$room2', topic].sort());
    const lazy = await context(ALICE, message, 0, { lazy_load_members: true, types: ['m.room.member'] });
    expect(ids(lazy.state)).toEqual(['$room2']);
  });
});
