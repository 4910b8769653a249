import { beforeEach, describe, expect, it } from 'vitest';
import { MatrixError } from '../../../src/matrix/error.ts';
import type { EventId, RoomId, UserId } from '../../../src/matrix/ids.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { depthOf, type Event, type Pdu, type UnsignedPdu } from '../../../src/matrix/pdu.ts';
import { roomVersion } from '../../../src/matrix/room_version.ts';
import { signEvent } from '../../../src/matrix/signing.ts';
import { overTheWire, type Server, World } from './world.ts';

let world: World;
let a: Server;
let b: Server;
let alice: UserId;
let bob: UserId;
let bill: UserId;
let room: RoomId;

beforeEach(async () => {
  world = new World();
  a = world.server('a.example');
  b = world.server('b.example');
  alice = a.user('alice');
  bob = b.user('bob');
  bill = b.user('bill');
  room = await a.rooms.create(alice, { preset: 'public_chat', name: 'Tea' });
});

const error = (status: number, errcode: string) => expect.objectContaining({ status, errcode });

async function joinBob(): Promise<void> {
  await b.rooms.memberships.join(bob, room, { via: ['a.example'] });
  await world.settle();
}

/** Both servers have the same state, and neither was surprised on the way. */
async function expectEqual(): Promise<void> {
  expect(await b.state(room)).toEqual(await a.state(room));
}

/** An event of `server` in the room as it stands there, with `changes` laid over it. */
async function forge(server: Server, sender: UserId, changes: Partial<UnsignedPdu>): Promise<Event> {
  const made = await server.say(sender, room, 'template');
  world.queue.length = 0;
  const { hashes: _h, signatures: _s, ...unsigned } = (await server.stored(made)).event.pdu;
  return overTheWire(server.sign({ ...unsigned, ...changes }).pdu);
}

describe('joining through another server', () => {
  it('brings the whole state, and messages go both ways', async () => {
    await joinBob();
    await a.say(alice, room, 'one');
    await world.settle();
    await b.say(bob, room, 'two');
    await world.settle();
    expect(await a.timeline(room)).toEqual(['one', 'two']);
    expect(await b.timeline(room)).toEqual(['one', 'two']);
    await expectEqual();
    expect(Object.keys(await b.state(room))).toContain(`m.room.member ${bob}`);
    expect(b.rooms.counters).toEqual({
      forks: 0,
      resolutions: 0,
      soft_failed: 0,
      rejected: 0,
      invites_failed: 0,
    });
    const { n } = (await b.database.get<{ n: number }>(
      "SELECT COUNT(*) AS n FROM events WHERE status = 'outlier'",
    ))!;
    expect(n).toBe(7);
  });

  it('is told to the other servers of the room by the one that let the user in', async () => {
    await joinBob();
    const c = world.server('c.example');
    await c.rooms.memberships.join(c.user('carol'), room, { via: ['a.example'] });
    expect(world.queue.map(({ from, to }) => [from.name, to.name])).toEqual([['a.example', 'b.example']]);
    await world.settle();
    await expectEqual();
    expect(await c.state(room)).toEqual(await a.state(room));
  });

  it('puts a second user who joins meanwhile on top of the first one', async () => {
    await Promise.all([
      b.rooms.memberships.join(bob, room, { via: ['a.example'] }),
      b.rooms.memberships.join(bill, room, { via: ['a.example'] }),
    ]);
    await world.settle();
    await expectEqual();
    expect(await a.membership(room, bill)).toBe('join');
  });

  it('holds back events that arrive before the join is stored', async () => {
    const joining = b.rooms.memberships.join(bob, room, { via: ['a.example'] });
    while ((await a.membership(room, bob)) !== 'join') await Promise.resolve();
    await a.say(alice, room, 'early');
    await Promise.all([world.settle(), joining]);
    expect(await b.timeline(room)).toEqual(['early']);
  });

  it('fails as the other server says, and can be tried again', async () => {
    const closed = await a.rooms.create(alice, {});
    const join = () => b.rooms.memberships.join(bob, closed, { via: ['a.example'] });
    await expect(join()).rejects.toEqual(error(403, 'M_FORBIDDEN'));
    await expect(b.rooms.memberships.join(bob, closed, {})).rejects.toEqual(error(404, 'M_NOT_FOUND'));
    expect(await b.rooms.versionOf(closed)).toBeUndefined();
    await a.rooms.memberships.invite(alice, closed, bob);
    await join();
    expect(await b.membership(closed, bob)).toBe('join');
  });

  it('starts anew where the room has gone on without this server', async () => {
    await joinBob();
    await b.rooms.memberships.leave(bob, room);
    await world.settle();
    await a.rooms.setState(room, alice, 'm.room.name', '', { name: 'Coffee' });
    await a.say(alice, room, 'unseen');
    await world.settle();
    expect(await b.timeline(room)).toEqual([]);
    await joinBob();
    await a.say(alice, room, 'seen');
    await world.settle();
    expect(await b.timeline(room)).toEqual(['seen']);
    await expectEqual();
    expect(b.rooms.counters.forks).toBe(0);
  });
});

describe('a room that this server has come back into', () => {
  it('is not taken back in time by what was sent before and arrives late', async () => {
    // create ... bob joins - late  --- unheard - topic - bob joins again
    //                      \ leave /
    await joinBob();
    await a.say(alice, room, 'late');
    const [late] = world.queue.splice(0);
    await b.rooms.memberships.leave(bob, room);
    await world.settle();
    await a.say(alice, room, 'unheard');
    await a.rooms.setState(room, alice, 'm.room.topic', '', { topic: 'new' });
    await joinBob();
    const ends = await b.rooms.forwardExtremities(room);
    expect(ends).toHaveLength(1);
    expect(await world.deliver(late!)).toEqual({ kind: 'accepted' });
    expect(await b.rooms.forwardExtremities(room)).toEqual(ends);
    await expectEqual();
    expect(await b.timeline(room)).toEqual(['late']);
    b.restart();
    await b.say(bob, room, 'on');
    await world.settle();
    await expectEqual();
  });

  it('cannot be come into by a state event in the copy that is left', async () => {
    await joinBob();
    await b.rooms.memberships.leave(bob, room);
    await world.settle();
    const join = b.rooms.setState(room, bob, 'm.room.member', bob, { membership: 'join' });
    await expect(join).rejects.toEqual(error(403, 'M_FORBIDDEN'));
    expect(world.queue).toEqual([]);
    expect(await b.membership(room, bob)).toBe('leave');
  });

  it('shows the profile that the user has when the join is done', async () => {
    b.displayNames.set(bob, 'Bob');
    const joining = b.rooms.memberships.join(bob, room, { via: ['a.example'] });
    while ((await a.membership(room, bob)) !== 'join') await Promise.resolve();
    b.displayNames.set(bob, 'Robert');
    await Promise.all([b.rooms.profileChanged(bob), joining]);
    await world.settle();
    const member = await a.rooms.queries.currentEvent(room, 'm.room.member', bob);
    expect(member?.pdu.content.displayname).toBe('Robert');
  });
});

describe('what a resident server answers', () => {
  it('gives no state for a join that it refused when it came as a PDU', async () => {
    await joinBob();
    const join = await forge(b, bob, {
      type: 'm.room.member',
      state_key: bob,
      content: { membership: 'join' },
      auth_events: (await b.stored((await b.state(room))[`m.room.member ${bob}`] as EventId)).event.pdu
        .auth_events,
    });
    await a.rooms.memberships.ban(alice, room, bob);
    expect(['soft_failed', 'rejected']).toContain((await a.rooms.receive(join)).kind);
    await expect(a.rooms.sendJoin(join)).rejects.toEqual(error(403, 'M_FORBIDDEN'));
  });

  it('offers a template only to who may join, in a version that they know', async () => {
    const closed = await a.rooms.create(alice, {});
    await expect(a.rooms.makeJoin(closed, bob, ['12'])).rejects.toEqual(error(403, 'M_FORBIDDEN'));
    await expect(a.rooms.makeJoin(room, bob, ['11'])).rejects.toMatchObject({
      errcode: 'M_INCOMPATIBLE_ROOM_VERSION',
      extra: { room_version: '12' },
    });
    await expect(a.rooms.makeJoin('!other' as RoomId, bob, ['12'])).rejects.toEqual(
      error(404, 'M_NOT_FOUND'),
    );
    await expect(a.rooms.makeLeave(room, bob)).rejects.toEqual(error(403, 'M_FORBIDDEN'));
  });

  it('takes no join that is something else, or refers to what it does not know', async () => {
    const { event } = await a.rooms.makeJoin(room, bob, ['12']);
    const send = (changes: Partial<UnsignedPdu>) =>
      a.rooms.sendJoin(overTheWire(b.sign({ ...event, ...changes }).pdu));
    await expect(send({ content: { membership: 'leave' } })).rejects.toEqual(error(400, 'M_INVALID_PARAM'));
    await expect(send({ state_key: bill })).rejects.toEqual(error(400, 'M_INVALID_PARAM'));
    await expect(send({ prev_events: ['$unknown' as EventId] })).rejects.toEqual(
      error(400, 'M_INVALID_PARAM'),
    );
    await expect(send({ auth_events: [] })).rejects.toEqual(error(403, 'M_FORBIDDEN'));
    expect(await a.membership(room, bob)).toBeUndefined();
    const joined = await send({});
    // Nobody needs the signature of the resident server.
    expect(Object.keys(joined.event.pdu.signatures)).toEqual(['b.example']);
    expect(joined.state.some(({ pdu }) => pdu.state_key === bob)).toBe(false);
  });

  it('shows events and state to servers in the room, then or now, and to no other', async () => {
    const said = await a.say(alice, room, 'before');
    expect(await a.rooms.event(said, b.name)).toBeUndefined();
    await expect(a.rooms.stateIds(room, said, b.name)).rejects.toEqual(error(403, 'M_FORBIDDEN'));
    await joinBob();
    const during = await a.say(alice, room, 'during');
    expect((await a.rooms.event(said, b.name))?.id).toBe(said);
    expect((await a.rooms.stateIds(room, said, b.name)).state.length).toBe(7);
    await b.rooms.memberships.leave(bob, room);
    await world.settle();
    const after = await a.say(alice, room, 'after');
    expect((await a.rooms.event(during, b.name))?.id).toBe(during);
    expect(await a.rooms.event(after, b.name)).toBeUndefined();
    const request = { earliest: [], latest: [after], limit: 10, minDepth: 0 };
    await expect(a.rooms.missingEvents(room, request, b.name)).rejects.toEqual(error(403, 'M_FORBIDDEN'));
  });

  it('redacts what history visibility hides from all users of the server that asks, and no state', async () => {
    await a.rooms.setState(room, alice, 'm.room.history_visibility', '', { history_visibility: 'joined' });
    const hidden = await a.say(alice, room, 'hidden');
    const topic = await a.rooms.setState(room, alice, 'm.room.topic', '', { topic: 'known' });
    await joinBob();
    const shown = await a.say(alice, room, 'shown');
    const contents = async (id: EventId) => (await a.rooms.event(id, b.name))?.pdu.content;
    expect(await contents(hidden)).toEqual({});
    expect(await contents(topic)).toEqual({ topic: 'known' });
    expect(await contents(shown)).toMatchObject({ body: 'shown' });
    const request = { earliest: [], latest: [shown], limit: 5, minDepth: 0 };
    const missing = await a.rooms.missingEvents(room, request, b.name);
    expect(missing.find(({ id }) => id === hidden)?.pdu.content).toEqual({});
    expect(missing.some(({ pdu }) => pdu.content.body === 'hidden')).toBe(false);
    expect((await a.stored(hidden)).event.pdu.content).toMatchObject({ body: 'hidden' });
  });

  it('walks back from the latest events, oldest first, to the earliest and no deeper', async () => {
    await joinBob();
    const said: EventId[] = [];
    for (const body of ['1', '2', '3', '4', '5']) said.push(await a.say(alice, room, body));
    const missing = async (limit: number, minDepth = 0) =>
      (
        await a.rooms.missingEvents(
          room,
          { earliest: [said[0]!], latest: [said[4]!], limit, minDepth },
          b.name,
        )
      ).map(({ id }) => id);
    expect(await missing(10)).toEqual(said.slice(1, 4));
    expect(await missing(2)).toEqual(said.slice(2, 4));
    expect(await missing(10, depthOf((await a.stored(said[3]!)).event.pdu))).toEqual([said[3]]);
  });
});

describe('invites to other servers', () => {
  it('are signed by both, and accepted through the inviter without being told where', async () => {
    const closed = await a.rooms.create(alice, { name: 'Secret' });
    await a.rooms.memberships.invite(alice, closed, bob);
    const row = (await b.database.get<{ membership: string; invite_state: string; event_json: string }>(
      'SELECT membership, invite_state, event_json FROM memberships WHERE user_id = ?',
      bob,
    ))!;
    expect(row.membership).toBe('invite');
    const stripped = JSON.parse(row.invite_state) as JsonObject[];
    expect(stripped.map(({ type }) => type)).toEqual(['m.room.create', 'm.room.name', 'm.room.join_rules']);
    expect(Object.keys(stripped[0]!).sort()).toEqual(['content', 'sender', 'state_key', 'type']);
    expect(Object.keys((JSON.parse(row.event_json) as JsonObject).signatures as JsonObject).length).toBe(2);
    expect(b.published.at(-1)).toMatchObject({ rooms: [], users: [bob] });
    expect(world.queue).toEqual([]);

    await b.rooms.memberships.join(bob, closed, {});
    expect(await a.membership(closed, bob)).toBe('join');
    expect((await b.rooms.queries.joinedRooms(bob))[0]).toBe(closed);
  });

  it('are rejected through the inviter', async () => {
    const closed = await a.rooms.create(alice, { invite: [bob] });
    await b.rooms.memberships.leave(bob, closed);
    expect(await a.membership(closed, bob)).toBe('leave');
    expect(await b.membership(closed, bob)).toBe('leave');
  });

  it('are rejected here alone where the inviter does not answer', async () => {
    const closed = await a.rooms.create(alice, { invite: [bob] });
    a.refuses = new MatrixError(504, 'M_UNKNOWN', 'no answer');
    await b.rooms.memberships.leave(bob, closed);
    expect(await b.membership(closed, bob)).toBe('leave');
    expect(await a.membership(closed, bob)).toBe('invite');
  });

  it('can be taken back by the inviter', async () => {
    const closed = await a.rooms.create(alice, { invite: [bob] });
    await a.rooms.memberships.kick(alice, closed, bob);
    expect(world.queue.map(({ to }) => to.name)).toEqual(['b.example']);
    await world.settle();
    expect(await b.membership(closed, bob)).toBe('leave');
  });

  it('do not happen where the other server refuses, and a new room stays', async () => {
    b.refuses = new MatrixError(403, 'M_FORBIDDEN', 'not you');
    await expect(a.rooms.memberships.invite(alice, room, bob)).rejects.toEqual(error(403, 'M_FORBIDDEN'));
    b.refuses = new MatrixError(400, 'M_INVALID_PARAM', 'what?');
    await expect(a.rooms.memberships.invite(alice, room, bob)).rejects.toEqual(error(502, 'M_UNKNOWN'));
    expect(await a.membership(room, bob)).toBeUndefined();
    const made = await a.rooms.create(alice, { invite: [bob] });
    expect(await a.membership(made, alice)).toBe('join');
    expect(a.rooms.counters.invites_failed).toBe(1);
  });

  it.each([
    ['M_INCOMPATIBLE_ROOM_VERSION', 400, 'M_UNSUPPORTED_ROOM_VERSION'],
    ['M_INVITE_BLOCKED', 403, 'M_INVITE_BLOCKED'],
  ])(
    'fail the making of a room where the other server says %s, and nothing of it stays',
    async (said, status, errcode) => {
      b.refuses = new MatrixError(400, said, 'no');
      const amy = a.user('amy');
      const before = await a.rooms.queries.joinedRooms(alice);
      await expect(a.rooms.create(alice, { invite: [amy, bob] })).rejects.toEqual(error(status, errcode));
      expect(await a.rooms.queries.joinedRooms(alice)).toEqual(before);
      const left = await a.database.all(
        'SELECT user_id AS user, membership, forgotten FROM memberships WHERE room <> ? ORDER BY 1',
        room,
      );
      expect(left).toEqual([
        { user: alice, membership: 'leave', forgotten: 1 },
        { user: amy, membership: 'leave', forgotten: 0 },
      ]);
    },
  );

  it('are not signed for who does not exist here, or without the create event of the room', async () => {
    const nobody = b.user('nobody');
    await expect(a.rooms.memberships.invite(alice, room, nobody)).rejects.toEqual(error(404, 'M_NOT_FOUND'));
    const invite = await forge(a, alice, {
      type: 'm.room.member',
      state_key: bob,
      content: { membership: 'invite' },
    });
    const create = (await a.rooms.queries.currentEvent(room, 'm.room.create', ''))!
      .pdu as unknown as JsonObject;
    const other = await a.rooms.create(alice, {});
    const foreign = (await a.rooms.queries.currentEvent(other, 'm.room.create', ''))!
      .pdu as unknown as JsonObject;
    const receive = (event: Event, state: JsonObject[], version = '12') =>
      b.rooms.receiveInvite(event, version, state);
    await expect(receive(invite, [])).rejects.toEqual(error(400, 'M_INVALID_PARAM'));
    await expect(receive(invite, [foreign])).rejects.toEqual(error(400, 'M_INVALID_PARAM'));
    await expect(receive(invite, [create], 'none')).rejects.toEqual(
      error(400, 'M_INCOMPATIBLE_ROOM_VERSION'),
    );
    const message = await forge(a, alice, {});
    await expect(receive(message, [create])).rejects.toEqual(error(400, 'M_INVALID_PARAM'));
    expect((await receive(invite, [create])).signatures['b.example']).toBeDefined();
  });
});

it('an invite to a room of an old version is taken from servers that send its state stripped, or none', async () => {
  for (const version of ['1', '5', '11']) {
    const old = await a.rooms.create(alice, { name: 'Old', room_version: version });
    const { pdu: create } = (await a.rooms.queries.currentEvent(old, 'm.room.create', ''))!;
    const { pdu: name } = (await a.rooms.queries.currentEvent(old, 'm.room.name', ''))!;
    const { pdu: levels } = (await a.rooms.queries.currentEvent(old, 'm.room.power_levels', ''))!;
    const stripped = (pdu: Pdu): JsonObject => ({
      ...{ type: pdu.type, sender: pdu.sender, state_key: pdu.state_key!, content: pdu.content },
    });
    const states: JsonObject[][] = [
      [],
      [stripped(create), stripped(name)],
      [create as unknown as JsonObject, stripped(name)],
    ];
    for (const [i, state] of states.entries()) {
      const user = b.user(`user${i}`);
      const { hashes: _h, signatures: _s, ...fields } = levels;
      const unsigned = {
        ...{ ...fields, type: 'm.room.member', state_key: user, content: { membership: 'invite' } },
        ...(version === '1' && { event_id: `$invite${i}:a.example` as EventId }),
      };
      const invite = signEvent(unsigned, roomVersion(version)!, a.name, a.key);
      expect((await b.rooms.receiveInvite(invite, version, state)).signatures['b.example']).toBeDefined();
      const row = await b.database.get<{ state: string }>(
        'SELECT invite_state AS state FROM memberships WHERE user_id = ? AND room = ?',
        user,
        old,
      );
      const names = (JSON.parse(row!.state) as JsonObject[]).map(({ type }) => type);
      expect(names).toEqual(state.map(({ type }) => type));
    }
    const foreign = (await a.rooms.queries.currentEvent(room, 'm.room.create', ''))!;
    const invite = signEvent(
      { ...levels, type: 'm.room.member', state_key: bob, content: { membership: 'invite' } },
      roomVersion(version)!,
      a.name,
      a.key,
    );
    await expect(
      b.rooms.receiveInvite(invite, version, [foreign.pdu as unknown as JsonObject]),
    ).rejects.toEqual(error(400, 'M_INVALID_PARAM'));
  }
});

describe('receiving events', () => {
  beforeEach(joinBob);

  it('keeps what happens in both places at once, and the next event joins the branches', async () => {
    //   join - one -.
    //       \- two --+- three
    await a.say(alice, room, 'one');
    await b.say(bob, room, 'two');
    await world.settle();
    expect((await a.rooms.forwardExtremities(room)).length).toBe(2);
    const three = await a.say(alice, room, 'three');
    expect((await a.stored(three)).event.pdu.prev_events.length).toBe(2);
    await world.settle();
    expect((await b.rooms.forwardExtremities(room)).length).toBe(1);
    expect(await a.timeline(room)).toEqual(['one', 'two', 'three']);
    expect(await b.timeline(room)).toEqual(['two', 'one', 'three']);
    await expectEqual();
  });

  it('resolves a topic that both sides set to the same one', async () => {
    await a.rooms.setState(room, alice, 'm.room.power_levels', '', {
      users: { [bob]: 50 },
      state_default: 50,
    });
    await world.settle();
    await Promise.all([
      a.rooms.setState(room, alice, 'm.room.topic', '', { topic: 'A' }),
      b.rooms.setState(room, bob, 'm.room.topic', '', { topic: 'B' }),
    ]);
    await world.settle();
    await expectEqual();
    expect(a.rooms.counters.resolutions).toBeGreaterThan(0);
    // The state between two positions can be worked out from the changes that were recorded.
    const changes = await a.database.all<{ n: number }>(
      "SELECT position AS n FROM current_state_changes c JOIN places p ON p.id = c.place WHERE type = 'm.room.topic'",
    );
    expect(changes.length).toBeGreaterThan(0);
  });

  it('has a bounded number of ends, whoever branches off, of which others keep theirs', async () => {
    const branch = await forge(b, bob, { content: { body: 'first' } });
    const own = await a.say(alice, room, 'between');
    expect(await a.rooms.receive(branch)).toEqual({ kind: 'accepted' });
    for (let n = 0; n < 40; n++) {
      const more = await forge(b, bob, {
        ...{ content: { body: `${n}` }, prev_events: branch.pdu.prev_events, depth: branch.pdu.depth },
      });
      expect(await a.rooms.receive(more)).toEqual({ kind: 'accepted' });
    }
    const ends = await a.rooms.forwardExtremities(room);
    expect(ends.length).toBe(20);
    expect(ends).toContain(own);
    expect((await a.timeline(room)).length).toBe(42);
    const next = await a.say(alice, room, 'together');
    expect((await a.stored(next)).event.pdu.prev_events.length).toBe(20);
    expect(await a.rooms.forwardExtremities(room)).toEqual([next]);
  });

  it('soft-fails what a banned user sends from before the ban', async () => {
    const evading = await forge(b, bob, { content: { body: 'evade' } });
    await a.rooms.memberships.ban(alice, room, bob);
    const ends = await a.rooms.forwardExtremities(room);
    expect(await a.rooms.receive(evading)).toEqual({ kind: 'soft_failed' });
    expect(await a.rooms.receive(evading)).toEqual({ kind: 'duplicate' });
    expect(await a.stored(evading.id)).toMatchObject({ status: 'soft_failed', position: null });
    expect(await a.rooms.forwardExtremities(room)).toEqual(ends);
    expect(await a.timeline(room)).toEqual([]);
    expect(a.rooms.counters.soft_failed).toBe(1);
    expect((await a.rooms.event(evading.id, a.name))?.id).toBe(evading.id);
  });

  it('rejects what the auth events, or the state before it, do not allow', async () => {
    const strange = await forge(b, bob, { auth_events: [] });
    expect(await a.rooms.receive(strange)).toMatchObject({ kind: 'rejected' });
    expect(await a.stored(strange.id)).toMatchObject({
      status: 'rejected',
      rejectedBy: 'auth_events',
      position: null,
    });

    const { event: template } = await a.rooms.makeJoin(room, bill, ['12']);
    const join = (await a.rooms.sendJoin(overTheWire(b.sign(template).pdu))).event;
    await a.rooms.memberships.kick(alice, room, bill);
    const kick = (await a.rooms.queries.currentEvent(room, 'm.room.member', bill))!;
    const stale = await forge(b, bob, {
      sender: bill,
      prev_events: [kick.id],
      auth_events: [(await a.state(room))['m.room.power_levels '] as EventId, join.id],
      depth: depthOf(kick.pdu) + 1,
    });
    expect(await a.rooms.receive(stale)).toMatchObject({
      kind: 'rejected',
      reason: expect.stringContaining('rule 6'),
    });
    expect(await a.stored(stale.id)).toMatchObject({ status: 'rejected', rejectedBy: 'state' });
    expect(a.rooms.counters.rejected).toBe(2);
  });

  it('lets an allowed event follow a rejected one, with the state as if that were not there', async () => {
    //   end - rejected topic - message
    const topic = await forge(b, bob, { type: 'm.room.topic', state_key: '', content: { topic: 'no' } });
    expect(await a.rooms.receive(topic)).toMatchObject({ kind: 'rejected' });
    const ends = await a.rooms.forwardExtremities(room);
    expect(ends).toEqual(topic.pdu.prev_events);
    const message = await forge(b, bob, {
      prev_events: [topic.id],
      depth: depthOf(topic.pdu) + 1,
      content: { body: 'ok' },
    });
    expect(await a.rooms.receive(message)).toEqual({ kind: 'accepted' });
    // What lies behind the rejected event is no end any more.
    expect(await a.rooms.forwardExtremities(room)).toEqual([message.id]);
    expect((await a.state(room))['m.room.topic ']).toBeUndefined();
  });

  it('says which events are missing, and stores nothing', async () => {
    const orphan = await forge(b, bob, { prev_events: ['$lost' as EventId] });
    expect(await a.rooms.receive(orphan)).toEqual({ kind: 'missing_prev', missing: ['$lost'] });
    const ends = await a.rooms.forwardExtremities(room);
    const unfounded = await forge(b, bob, { prev_events: ends, auth_events: ['$lost' as EventId] });
    expect(await a.rooms.receive(unfounded)).toEqual({ kind: 'missing_auth', missing: ['$lost'] });
    expect((await a.rooms.known([orphan.id, unfounded.id])).size).toBe(0);
    const elsewhere = await forge(b, bob, { room_id: '!elsewhere' as RoomId });
    expect(await a.rooms.receive(elsewhere)).toEqual({ kind: 'unknown_room' });
  });

  it('takes only what follows where this server is no longer in the room', async () => {
    await b.rooms.memberships.leave(bob, room);
    await world.settle();
    const late = await forge(a, alice, {});
    expect(await b.rooms.receive(late)).toEqual({ kind: 'unknown_room' });
  });

  it('goes on where resolution, and none of its users, took this server out of the room', async () => {
    await joinBob();
    await b.database.transaction(async (tx) => {
      await tx.run("UPDATE memberships SET membership = 'leave' WHERE user_id = ?", bob);
    });
    await a.say(alice, room, 'still there?');
    expect(await world.deliver(world.queue[0]!)).toEqual({ kind: 'accepted' });
  });

  it('fills a gap with the events in between', async () => {
    await a.say(alice, room, 'lost');
    await a.rooms.setState(room, alice, 'm.room.topic', '', { topic: 'lost' });
    world.queue.length = 0;
    await a.say(alice, room, 'found');
    await world.settle();
    expect(await b.timeline(room)).toEqual(['lost', 'found']);
    await expectEqual();
    expect((await b.rooms.forwardExtremities(room)).length).toBe(1);
  });

  it('bridges a gap with the state before an event, and takes what was missing later', async () => {
    //   join - lost - topic - found          b has: join, found
    const lost = await a.say(alice, room, 'lost');
    await a.rooms.setState(room, alice, 'm.room.topic', '', { topic: 'unseen' });
    world.queue.length = 0;
    const found = await a.say(alice, room, 'found');
    world.queue.length = 0;
    const event = overTheWire((await a.stored(found)).event.pdu);
    expect(await b.rooms.receive(event, await a.stateBefore(event, b))).toEqual({ kind: 'accepted' });
    await expectEqual();
    const topic = (await b.state(room))['m.room.topic '] as EventId;
    expect(await b.stored(topic)).toMatchObject({ status: 'outlier', stateAfter: null, position: null });

    // The events of the gap come after all: they are shown, and end nothing.
    expect(await b.rooms.receive(overTheWire((await a.stored(lost)).event.pdu))).toEqual({
      kind: 'accepted',
    });
    expect(await b.rooms.forwardExtremities(room)).toEqual([found]);
    expect(await b.rooms.receive(overTheWire((await a.stored(topic)).event.pdu))).toEqual({
      kind: 'accepted',
    });
    expect(await b.stored(topic)).toMatchObject({ status: 'timeline', position: expect.any(Number) });
    expect(await b.timeline(room)).toEqual(['found', 'lost']);
    expect(await b.rooms.forwardExtremities(room)).toEqual([found]);
    await expectEqual();
  });

  it('uses no event of a given state that its auth events do not allow', async () => {
    const power = await forge(b, bob, {
      type: 'm.room.power_levels',
      state_key: '',
      content: { users: { [bob]: 100 } },
    });
    const event = await forge(b, bob, { prev_events: ['$lost' as EventId], content: { body: 'hm' } });
    const given = await b.stateBefore(event, a).catch(async () => ({
      state: await Promise.all(
        Object.values(await b.state(room)).map(async (id) => (await b.stored(id as EventId)).event),
      ),
      authChain: [] as Event[],
    }));
    const state = [...given.state.filter(({ pdu }) => pdu.type !== 'm.room.power_levels'), power];
    expect(await a.rooms.receive(event, { state, authChain: given.authChain })).toEqual({ kind: 'accepted' });
    expect(await a.stored(power.id)).toMatchObject({ status: 'rejected', rejectedBy: 'auth_events' });
    const before = await a.rooms.writer.states.load((await a.stored(event.id)).stateBefore!);
    expect([...before.map.values()]).not.toContain(power.id);
  });
});

describe('redactions from other servers', () => {
  beforeEach(joinBob);

  it('apply where sender and target are of one server, whichever comes first', async () => {
    const said = await b.say(bob, room, 'oops');
    const [target] = world.queue.splice(0);
    const redaction = await b.redact(bob, room, said);
    const [second] = world.queue.splice(0);
    // On top of the same event, so that neither waits for the other.
    const early = overTheWire(
      b.sign({
        ...second!.event.pdu,
        prev_events: target!.event.pdu.prev_events,
        depth: target!.event.pdu.depth,
      }).pdu,
    );
    expect(await a.rooms.receive(early)).toEqual({ kind: 'accepted' });
    expect(await a.stored(early.id)).toMatchObject({ status: 'withheld', position: null });
    expect(await a.timeline(room)).toEqual([]);
    expect(await a.rooms.receive(target!.event)).toEqual({ kind: 'accepted' });
    expect(await a.stored(said)).toMatchObject({ redactedBy: early.id, event: { pdu: { content: {} } } });
    const shown = await a.stored(early.id);
    expect(shown.status).toBe('timeline');
    expect(shown.position).toBeGreaterThan((await a.stored(said)).position!);
    expect(redaction).not.toBe(early.id);
  });

  it('are all shown where several of one event came before it', async () => {
    const said = await b.say(bob, room, 'oops');
    const [target] = world.queue.splice(0);
    await b.redact(bob, room, said);
    const [second] = world.queue.splice(0);
    const { prev_events, depth, origin_server_ts } = target!.event.pdu;
    const early = [1, 2].map((later) => {
      const at = { prev_events, depth, origin_server_ts: origin_server_ts + later };
      return overTheWire(b.sign({ ...second!.event.pdu, ...at }).pdu);
    });
    for (const redaction of early) expect(await a.rooms.receive(redaction)).toEqual({ kind: 'accepted' });
    expect(await a.rooms.receive(target!.event)).toEqual({ kind: 'accepted' });
    expect(await a.stored(said)).toMatchObject({ redactedBy: early[0]!.id });
    for (const { id } of early) expect(await a.stored(id)).toMatchObject({ status: 'timeline' });
  });

  it('wait for ever where the sender has no power over the target', async () => {
    const said = await a.say(alice, room, 'stays');
    await world.settle();
    const redaction = await forge(b, bob, { type: 'm.room.redaction', content: { redacts: said } });
    expect(await a.rooms.receive(redaction)).toEqual({ kind: 'accepted' });
    expect(await a.stored(redaction.id)).toMatchObject({ status: 'withheld' });
    expect((await a.stored(said)).event.pdu.content).toMatchObject({ body: 'stays' });
    expect(await a.rooms.forwardExtremities(room)).toEqual([redaction.id]);
  });

  it('apply with the power to, and leave the room state standing', async () => {
    await b.say(bob, room, 'x');
    await world.settle();
    const member = (await a.state(room))[`m.room.member ${bob}`] as EventId;
    await a.redact(alice, room, member);
    await world.settle();
    expect((await b.stored(member)).event.pdu.content).toEqual({ membership: 'join' });
    await b.say(bob, room, 'still here');
    await world.settle();
    expect(await a.timeline(room)).toEqual(['x', 'm.room.redaction', 'still here']);
    await expectEqual();
  });
});
