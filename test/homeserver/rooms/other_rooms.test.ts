import { expect, it } from 'vitest';
import { authorise } from '../../../src/matrix/event_auth.ts';
import type { EventId } from '../../../src/matrix/ids.ts';
import { ROOM_VERSIONS } from '../../../src/matrix/room_version.ts';
import { signEvent } from '../../../src/matrix/signing.ts';
import { overTheWire, World } from './world.ts';

it('an event of one room does not bring the state of another room by naming an event there', async () => {
  const world = new World();
  const [a, b] = [world.server('a.example'), world.server('b.example')];
  const [alice, bob] = [a.user('alice'), b.user('bob')];
  const room = await a.rooms.create(alice, { preset: 'public_chat' });
  await b.rooms.memberships.join(bob, room, { via: [a.name] });
  // Bob's own, in which he may do everything, and in which Alice is too.
  const trap = await b.rooms.create(bob, { preset: 'public_chat' });
  await a.rooms.memberships.join(alice, trap, { via: [b.name] });
  await world.settle();
  const before = await a.state(room);
  const inTrap = await a.rooms.forwardExtremities(trap);

  const made = await b.say(bob, room, 'template');
  world.queue.length = 0;
  const { hashes: _h, signatures: _s, ...unsigned } = (await b.stored(made)).event.pdu;
  const forged = overTheWire(b.sign({ ...unsigned, prev_events: [...inTrap] }).pdu);
  expect(await a.rooms.receive(forged)).toEqual({ kind: 'missing_prev', missing: inTrap });
  await a.say(alice, room, 'still here');
  expect(await a.state(room)).toEqual(before);
});

it('a second create event does not take the place of the first', async () => {
  const world = new World();
  const a = world.server('a.example');
  const alice = a.user('alice');
  const v11 = ROOM_VERSIONS.get('11')!;
  const room = await a.rooms.create(alice, { preset: 'public_chat', room_version: '11' });
  const created = (await a.state(room))['m.room.create '];
  const first = (await a.stored(created as EventId)).event;
  const { hashes: _h, signatures: _s, ...unsigned } = first.pdu;
  const content = { ...first.pdu.content, 'm.federate': false };
  const second = signEvent({ ...unsigned, content }, v11, a.name, a.key);
  expect(authorise(second, { create: first, state: () => undefined }, v11).ok).toBe(true);
  expect(await a.rooms.receive(second)).toMatchObject({ kind: 'rejected' });
  expect((await a.state(room))['m.room.create ']).toBe(created);
});
