import { beforeEach, describe, expect, it } from 'vitest';
import { Messages } from '../../../src/homeserver/messages.ts';
import type { RemoteHistory } from '../../../src/homeserver/ports.ts';
import { RoomSummaries } from '../../../src/homeserver/room_summaries.ts';
import { USER_RATES, userLimits } from '../../../src/homeserver/user_limits.ts';
import { MatrixError } from '../../../src/matrix/error.ts';
import type { DeviceId, EventId, RoomAlias, UserId } from '../../../src/matrix/ids.ts';
import { overTheWire, type Server, World } from './world.ts';

let world: World;
let a: Server;
let b: Server;
let alice: UserId;
let bob: UserId;

beforeEach(() => {
  world = new World();
  a = world.server('a.example');
  b = world.server('b.example');
  alice = a.user('alice');
  bob = b.user('bob');
});

const from = (user: UserId, device: string, txnId: string) => ({ user, device: device as DeviceId, txnId });

describe('a transaction of a device', () => {
  it('makes one event, also where it is repeated after a restart', async () => {
    const room = await a.rooms.create(alice, {});
    const send = (device: string) =>
      a.rooms.sending.send(room, 'm.room.message', { body: 'hi' }, from(alice, device, '1'));
    const [first, again] = await Promise.all([send('PHONE'), send('PHONE')]);
    expect(again).toBe(first);
    const redact = () => a.rooms.sending.redact(room, first, 'typo', from(alice, 'PHONE', '1'));
    const redaction = await redact();
    a.restart();
    expect(await send('PHONE')).toBe(first);
    expect(await redact()).toBe(redaction);
    expect(await send('DESK')).not.toBe(first);
    expect(await a.timeline(room)).toEqual(['m.room.message', 'm.room.redaction', 'hi']);
  });

  it('counts once against the limit', async () => {
    const room = await a.rooms.create(alice, {});
    a.limit = userLimits(world.clock, { ...USER_RATES, sends: { burst: 1, interval_ms: 1_000 } });
    const send = (txn: string) => a.rooms.sending.send(room, 'm.x', {}, from(alice, 'PHONE', txn));
    const first = await send('1');
    expect(await send('1')).toBe(first);
    await expect(send('2')).rejects.toMatchObject({ status: 429, errcode: 'M_LIMIT_EXCEEDED' });
    expect(await send('1')).toBe(first);
  });
});

describe('limits', () => {
  const LIMITED = { burst: 1, interval_ms: 60_000 };
  const refused = { status: 429, errcode: 'M_LIMIT_EXCEEDED', extra: { retry_after_ms: 60_000 } };

  it.each(['joins', 'invites', 'creates'] as const)('bound %s', async (act) => {
    const rooms = [
      await a.rooms.create(alice, { preset: 'public_chat' }),
      await a.rooms.create(alice, { preset: 'public_chat' }),
    ] as const;
    a.limit = userLimits(world.clock, { ...USER_RATES, [act]: LIMITED });
    const amy = a.user('amy');
    const todo = {
      joins: (n: 0 | 1) => a.rooms.memberships.join(amy, rooms[n], {}),
      invites: (n: 0 | 1) => a.rooms.memberships.invite(alice, rooms[n], amy),
      creates: () => a.rooms.create(amy, {}),
    }[act];
    await todo(0);
    await expect(todo(1)).rejects.toMatchObject(refused);
    world.clock.advanceTo(world.clock.monotonic() + 60_000);
    await todo(1);
  });

  it('count a knock as a join, and an invite as a state event as an invite', async () => {
    const room = await a.rooms.create(alice, {});
    const amy = a.user('amy');
    a.limit = userLimits(world.clock, { ...USER_RATES, joins: LIMITED, invites: LIMITED });
    await expect(a.rooms.memberships.knock(amy, room, {})).rejects.toMatchObject({ errcode: 'M_FORBIDDEN' });
    await expect(a.rooms.memberships.knock(amy, room, {})).rejects.toMatchObject(refused);
    const invite = (who: string) =>
      a.rooms.setState(room, alice, 'm.room.member', a.user(who), { membership: 'invite' });
    await invite('amy');
    await expect(invite('ann')).rejects.toMatchObject(refused);
  });

  it('let a room be made with as many invites as it may have', async () => {
    a.limit = userLimits(world.clock, { ...USER_RATES, invites: LIMITED });
    const invite = ['ann', 'amy', 'ada'].map((name) => a.user(name));
    const room = await a.rooms.create(alice, { invite });
    for (const user of invite) expect(await a.membership(room, user)).toBe('invite');
  });
});

describe('invites to users of other servers', () => {
  it('fail as the specification has it where the other server does not know the version', async () => {
    const room = await a.rooms.create(alice, {});
    b.refuses = new MatrixError(400, 'M_INCOMPATIBLE_ROOM_VERSION', 'no', { room_version: '12' });
    const invited = a.rooms.memberships.invite(alice, room, bob);
    await expect(invited).rejects.toMatchObject({ status: 400, errcode: 'M_UNSUPPORTED_ROOM_VERSION' });
  });

  it('who take none undo a room that is made for them, its alias and its place in the directory included', async () => {
    const hermit = b.user('hermit');
    const request = {
      room_alias_name: 'tea',
      visibility: 'public',
      preset: 'public_chat',
      invite: [hermit],
    } as const;
    const made = a.rooms.create(alice, request);
    await expect(made).rejects.toMatchObject({ status: 403, errcode: 'M_INVITE_BLOCKED' });
    expect(await a.rooms.queries.joinedRooms(alice)).toEqual([]);
    await expect(a.directory.resolve('#tea:a.example' as RoomAlias)).rejects.toMatchObject({ status: 404 });
    expect(await a.directory.publicRooms({})).toMatchObject({ chunk: [] });
    await a.rooms.create(alice, { room_alias_name: 'tea' });
  });

  it('tell of the room before the user is in it', async () => {
    const room = await a.rooms.create(alice, { name: 'Tea', invite: [bob] });
    const summaries = new RoomSummaries({ database: b.database, serverName: b.name, writer: b.rooms.writer });
    expect(await summaries.summary(room, bob)).toMatchObject({
      ...{ room_id: room, name: 'Tea', join_rule: 'invite', room_version: '12', membership: 'invite' },
    });
    await expect(summaries.summary(room, b.user('eve'))).rejects.toMatchObject({ errcode: 'M_NOT_FOUND' });
  });
});

it('a room that this server is not in any more is not in its directory', async () => {
  const room = await a.rooms.create(alice, { preset: 'public_chat', visibility: 'public' });
  await b.rooms.memberships.join(bob, room, { via: ['a.example'] });
  await world.settle();
  expect((await a.directory.publicRooms({})).chunk).toMatchObject([{ room_id: room, num_joined_members: 2 }]);
  await a.rooms.memberships.leave(alice, room);
  expect((await a.directory.publicRooms({})).chunk).toEqual([]);
});

describe('an upgrade', () => {
  it('that comes to nothing in the old room leaves its aliases there', async () => {
    const room = await a.rooms.create(alice, { room_version: '11', room_alias_name: 'tea' });
    const append = a.rooms.upgrades.upgrade(room, b.user('nobody'), { new_version: '12' });
    await expect(append).rejects.toMatchObject({ status: 403 });
    expect(await a.directory.resolve('#tea:a.example' as RoomAlias)).toMatchObject({ room });
  });
});

describe('an event that is looked for by its time where something is missing', () => {
  const asker = () => from(bob, 'PHONE', '');

  /** Bob is in Alice's room, and B does not know what was said before he came. */
  async function roomWithGap() {
    const room = await a.rooms.create(alice, { preset: 'public_chat' });
    world.clock.advanceTo(world.clock.monotonic() + 10_000);
    const missing = await a.say(alice, room, 'missing');
    const at = world.clock.wall();
    world.clock.advanceTo(world.clock.monotonic() + 10_000);
    await b.rooms.memberships.join(bob, room, { via: ['a.example'] });
    const later = await b.say(bob, room, 'later');
    return { room, missing, at, later };
  }

  const messagesOf = (asked: unknown[], answer: { event: EventId; time: number } | undefined) => {
    const remote: RemoteHistory = {
      backfill: async () => false,
      isHopeless: () => true,
      closest: async (request) => {
        asked.push(request);
        const event = answer && (await a.rooms.event(answer.event, a.name));
        if (event !== undefined) {
          const { state, authChain } = await a.stateBefore(event, b);
          await b.rooms.receiveHistoric({ event: overTheWire(event.pdu) }, { state, authChain });
        }
        return answer;
      },
    };
    return new Messages({ reader: b.database, clock: world.clock, remote });
  };

  it('is asked for at other servers', async () => {
    const { room, missing, at } = await roomWithGap();
    const asked: unknown[] = [];
    const messages = messagesOf(asked, { event: missing, time: at });
    const found = await messages.closest({ requester: asker(), room, time: at + 1, dir: 'b' });
    expect(found).toEqual({ event_id: missing, origin_server_ts: at });
    expect(asked).toEqual([{ room, time: at + 1, dir: 'b' }]);
    const forwards = await messages.closest({ requester: asker(), room, time: at - 1, dir: 'f' });
    expect(forwards.event_id).toBe(missing);
  });

  it('is not, where nothing is missing there', async () => {
    const { room, later } = await roomWithGap();
    const asked: unknown[] = [];
    const messages = messagesOf(asked, undefined);
    const time = world.clock.wall();
    const found = await messages.closest({ requester: asker(), room, time, dir: 'b' });
    expect(found.event_id).toBe(later);
    expect(asked).toEqual([]);
  });

  it('is what is known here where the others know nothing closer', async () => {
    const { room, at } = await roomWithGap();
    const time = at + 1;
    for (const answer of [undefined, { event: '$far' as EventId, time: 10 ** 12 }]) {
      const messages = messagesOf([], answer);
      const found = await messages.closest({ requester: asker(), room, time, dir: 'f' });
      expect(found.event_id).not.toBe('$far');
    }
    const messages = messagesOf([], undefined);
    await expect(messages.closest({ requester: asker(), room, time: 1, dir: 'b' })).rejects.toMatchObject({
      errcode: 'M_NOT_FOUND',
    });
  });
});
