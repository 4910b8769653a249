import { beforeEach, describe, expect, test } from 'vitest';
import { seededRandom } from '../../../src/base/random.ts';
import { NotificationList } from '../../../src/homeserver/push/notification_list.ts';
import { Recipients } from '../../../src/homeserver/push/recipients.ts';
import { EventBuilder } from '../../../src/homeserver/rooms/event_builder.ts';
import { OutsideMemberships } from '../../../src/homeserver/rooms/outside.ts';
import { ProvisionalEvents } from '../../../src/homeserver/rooms/provisional.ts';
import type { DeviceId, EventId, KeyId, RoomId, ServerName, UserId } from '../../../src/matrix/ids.ts';
import { depthOf, type Event } from '../../../src/matrix/pdu.ts';
import { roomVersion } from '../../../src/matrix/room_version.ts';
import { signEvent, signingKey } from '../../../src/matrix/signing.ts';
import { GLOBAL, putAccountData } from '../../../src/storage/account_data.ts';
import { unreadOf } from '../../../src/storage/push_notifications.ts';
import { streamPosition } from '../../../src/storage/sync.ts';
import { CountsWorld, HERE, USERS } from './counts_world.ts';

const [ANN, BEN] = USERS as [UserId, UserId];
const ZOE = '@zoe:there' as UserId;
const THERE = 'there' as ServerName;
const V12 = roomVersion('12')!;
const KEY = signingKey('ed25519:1' as KeyId, new Uint8Array(32).fill(2));
const phone = (user: UserId) => ({ user, device: 'PHONE' as DeviceId });

describe('notifications', () => {
  let world: CountsWorld;
  let room: RoomId;
  beforeEach(async () => {
    world = new CountsWorld();
    room = await world.createRoom();
    await world.join(room, BEN);
  });

  const listed = (user: UserId) =>
    new NotificationList({ reader: world.database, clock: world.clock }).page(phone(user), {});
  const unread = (user: UserId) => unreadOf(world.database, user);

  /** Zoe, of another server, says something at the end of the room. */
  async function zoeSays(): Promise<Event> {
    const { rooms } = world.services;
    const { event } = await rooms.makeJoin(room, ZOE, ['12']);
    const join = signEvent(event, V12, THERE, KEY);
    await rooms.sendJoin(join);
    const power = await rooms.queries.currentEvent(room, 'm.room.power_levels', '');
    return signEvent(
      {
        ...{ type: 'm.room.message', sender: ZOE, room_id: room, origin_server_ts: world.clock.wall() },
        ...{ content: { msgtype: 'm.text', body: 'hi' }, depth: depthOf(join.pdu) + 1 },
        ...{ prev_events: [join.id], auth_events: [power!.id, join.id] },
      },
      V12,
      THERE,
      KEY,
    );
  }
  const provisional = (): ProvisionalEvents => {
    const { database, clock, notifier, services } = world;
    const { rooms, notifications } = services;
    return new ProvisionalEvents({ database, clock, notifier, writer: rooms.writer, notifications });
  };
  const keep = (event: Event) =>
    provisional().keep({ event, origin: THERE, state: 'provisional', key: undefined }, 10);

  test('come with an event whose signature has not come, once', async () => {
    const event = await zoeSays();
    await keep(event);
    expect(await unread(BEN)).toBe(1);
    expect((await listed(BEN)).notifications).toMatchObject([{ event: { event_id: event.id }, read: false }]);
    expect(await world.services.rooms.receive(event)).toEqual({ kind: 'accepted' });
    expect(await unread(BEN)).toBe(1);
    expect((await listed(BEN)).notifications).toMatchObject([{ event: { event_id: event.id }, read: false }]);
  });

  test('that were read stay so when the event becomes part of the room', async () => {
    const event = await zoeSays();
    await keep(event);
    await world.services.receipts.mark(BEN, room, { read: event.id });
    expect(await unread(BEN)).toBe(0);
    await world.services.rooms.receive(event);
    expect(await unread(BEN)).toBe(0);
  });

  test('go with an event that comes to nothing, and /sync tells it', async () => {
    const event = await zoeSays();
    await keep(event);
    const since = `s1_${await streamPosition(world.database)}`;
    await provisional().retract(event.id, 'rejected');
    expect([await unread(ANN), await unread(BEN)]).toEqual([0, 0]);
    const filter = JSON.stringify({ room: { timeline: { types: [] } } });
    const request = { requester: phone(BEN), since, timeoutMs: 0, filter };
    expect((await world.services.sync.sync(request)).rooms).toMatchObject({
      join: { [room]: { unread_notifications: { notification_count: 0 } } },
    });
  });

  test('come with an invite to a room of another server, and go when it is declined', async () => {
    const { database, clock, notifier, services } = world;
    const builder = new EventBuilder({ serverName: HERE, clock, random: seededRandom(1), signingKey: KEY });
    const outside = new OutsideMemberships({
      ...{ database, clock, notifier, builder, serverName: HERE, notifications: services.notifications },
      remote: {} as never,
    });
    const elsewhere = '!elsewhere:there' as RoomId;
    const member = (sender: UserId, membership: string): Event => ({
      id: `$${membership}` as EventId,
      room: elsewhere,
      pdu: {
        ...{ type: 'm.room.member', sender, state_key: BEN, room_id: elsewhere, content: { membership } },
        ...{ origin_server_ts: 1, depth: 1, prev_events: [], auth_events: [] },
        ...{ hashes: { sha256: '' }, signatures: {} },
      },
    });
    await outside.record(member(ZOE, 'invite'), BEN, []);
    expect(await unread(BEN)).toBe(1);
    expect((await listed(BEN)).notifications).toMatchObject([
      { room_id: elsewhere, event: { type: 'm.room.member', sender: ZOE }, read: false },
    ]);
    await outside.record(member(BEN, 'leave'), BEN, null);
    expect(await unread(BEN)).toBe(0);
    expect((await listed(BEN)).notifications).toEqual([]);
  });

  test('an invite to a room here is read by coming in', async () => {
    const cid = USERS[2]!;
    await world.services.rooms.memberships.invite(ANN, room, cid);
    expect(await unread(cid)).toBe(1);
    await world.join(room, cid);
    expect(await unread(cid)).toBe(0);
  });

  test('rules of a transaction that fails are not judged by', async () => {
    const { pushRules } = world.services;
    const failing = async (): Promise<never> => {
      throw new Error('no');
    };
    const body = { actions: [] };
    const rule = { kind: 'room', id: room };
    await expect(pushRules.put(BEN, rule, { body, place: {} }, failing)).rejects.toThrow('no');
    await world.send(room, ANN, 'm.room.message', { msgtype: 'm.text', body: 'one' });
    expect(await unread(BEN)).toBe(1);
  });

  test('rules that a transaction has changed are those of the next one, though both are committed together', async () => {
    const { database } = world;
    const recipients = new Recipients();
    const place = { user: BEN, room: GLOBAL, type: 'm.ignored_user_list' } as const;
    const ignored = () => database.transaction(async (tx) => [...(await recipients.get(tx, BEN)).ignored]);
    const ignore = (whom: UserId) =>
      database.transaction(async (tx) => {
        await putAccountData(tx, place, JSON.stringify({ ignored_users: { [whom]: {} } }));
        recipients.changed(tx, BEN);
      });
    expect(await ignored()).toEqual([]);
    const { commits } = database.counters;
    const together = await Promise.all([ignored(), ignore(ANN), ignored(), ignore(ZOE), ignored()]);
    expect(database.counters.commits).toBe(commits + 1);
    expect(together).toEqual([[], undefined, [ANN], undefined, [ZOE]]);
    expect(await ignored()).toEqual([ZOE]);
  });

  test('rules about a room hold for the room that replaces it, once', async () => {
    const { pushRules } = world.services;
    const next = '!next:here' as RoomId;
    const inRoom = { conditions: [{ kind: 'event_match', key: 'room_id', pattern: room }], actions: [] };
    await pushRules.put(BEN, { kind: 'room', id: room }, { body: { actions: ['notify'] }, place: {} });
    await pushRules.put(BEN, { kind: 'override', id: room }, { body: inRoom, place: {} });
    await pushRules.put(BEN, { kind: 'override', id: 'other' }, { body: { actions: [] }, place: {} });
    for (let time = 0; time < 2; time++) await pushRules.carry(BEN, room, next);
    const { override, room: ofRooms } = await pushRules.all(BEN);
    expect(ofRooms).toMatchObject([{ rule_id: next, actions: ['notify'] }, { rule_id: room }]);
    const own = override.filter(({ default: isDefault }) => isDefault === false);
    expect(own).toMatchObject([
      { rule_id: next, conditions: [{ key: 'room_id', pattern: next }] },
      { rule_id: 'other' },
      { rule_id: room, conditions: [{ key: 'room_id', pattern: room }] },
    ]);
  });

  test('there are no more rules than a server can keep', async () => {
    const { pushRules } = world.services;
    const conditions = Array.from({ length: 64 }, () => ({
      kind: 'event_match',
      key: 'x',
      pattern: 'y'.repeat(255),
    }));
    const put = (id: string) =>
      pushRules.put(BEN, { kind: 'override', id }, { body: { actions: [], conditions }, place: {} });
    const all = async (): Promise<void> => {
      for (let at = 0; at < 30; at++) await put(`r${at}`);
    };
    await expect(all()).rejects.toMatchObject({ status: 413, errcode: 'M_TOO_LARGE' });
  });
});
