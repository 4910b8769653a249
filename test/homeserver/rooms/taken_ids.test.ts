import { beforeEach, describe, expect, it } from 'vitest';
import type { EventId, RoomId, UserId } from '../../../src/matrix/ids.ts';
import type { Event } from '../../../src/matrix/pdu.ts';
import { overTheWire, type Server, World } from './world.ts';

let world: World;
let a: Server;
let b: Server;
let alice: UserId;
let bob: UserId;
let room: RoomId;
/** Another one with the same users. */
let other: RoomId;

beforeEach(async () => {
  world = new World();
  [a, b] = [world.server('a.example'), world.server('b.example')];
  [alice, bob] = [a.user('alice'), b.user('bob')];
  room = await a.rooms.create(alice, { preset: 'public_chat' });
  other = await b.rooms.create(bob, { preset: 'public_chat' });
  await b.rooms.memberships.join(bob, room, { via: [a.name] });
  await a.rooms.memberships.join(alice, other, { via: [b.name] });
  await world.settle();
});

/** An event of Bob's that nobody has been told of. */
async function secret(of: RoomId, changes: Partial<Event['pdu']> = {}): Promise<Event> {
  const id = await b.say(bob, of, 'secret');
  world.queue.length = 0;
  const { hashes: _h, signatures: _s, ...unsigned } = (await b.stored(id)).event.pdu;
  return overTheWire(b.sign({ ...unsigned, ...changes }).pdu);
}

describe('an event with the id of an event of another room', () => {
  it('is rejected, and changes nothing', async () => {
    const taken = await a.say(alice, other, 'mine');
    const event = { ...(await secret(room)), id: taken };
    expect(await a.rooms.receive(event)).toMatchObject({ kind: 'rejected' });
    expect((await a.stored(taken)).event.room).toBe(other);
  });

  it('is none of the state that another server gives', async () => {
    const taken = await a.say(alice, other, 'mine');
    const event = await secret(room, { prev_events: ['$unknown' as EventId] });
    const said = await a.say(alice, room, 'both are here');
    const given = await a.stateBefore((await a.stored(said)).event, a);
    const [topic] = given.state;
    const strange = { ...topic!, id: taken, pdu: { ...topic!.pdu, state_key: 'x' } };
    const received = await a.rooms.receive(event, { ...given, state: [...given.state, strange] });
    expect(received).toEqual({ kind: 'accepted' });
    const { state } = await a.rooms.stateIds(room, event.id, a.name);
    expect(state).not.toContain(taken);
  });
});

it('an event of another room does not keep one from being an end of its own', async () => {
  const event = await secret(room);
  const naming = await secret(other, { prev_events: [event.id] });
  const given = await a.stateBefore((await a.stored((await a.rooms.forwardExtremities(other))[0]!)).event, a);
  expect(await a.rooms.receive(naming, given)).toEqual({ kind: 'accepted' });
  expect(await a.rooms.receive(event)).toEqual({ kind: 'accepted' });
  expect(await a.rooms.forwardExtremities(room)).toEqual([event.id]);
});
