import { beforeEach, describe, expect, it } from 'vitest';
import type { EventId, RoomId, UserId } from '../../../src/matrix/ids.ts';
import type { Server } from './world.ts';
import { World } from './world.ts';

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

describe('a room on one server', () => {
  it('starts with the events of its preset, in the order of the specification', async () => {
    const room = await a.rooms.create(alice, { preset: 'public_chat', name: 'Tea', topic: 'Pots' });
    const rows = await a.database.all<{ type: string }>('SELECT type FROM events ORDER BY position');
    expect(rows.map(({ type }) => type)).toEqual([
      'm.room.create',
      'm.room.member',
      'm.room.power_levels',
      'm.room.join_rules',
      'm.room.history_visibility',
      'm.room.guest_access',
      'm.room.name',
      'm.room.topic',
    ]);
    expect(room).toMatch(/^!.{43}$/);
    expect(await a.membership(room, alice)).toBe('join');
    expect(a.published.at(-1)).toMatchObject({ position: 8, rooms: [room], users: [alice] });
  });
});

describe('a room on two servers', () => {
  it('is joined through the other server and carries messages both ways', async () => {
    const room = await a.rooms.create(alice, { preset: 'public_chat' });
    await b.rooms.memberships.join(bob, room, { via: ['a.example'] });
    await world.settle();
    await a.say(alice, room, 'one');
    await world.settle();
    await b.say(bob, room, 'two');
    await world.settle();
    expect(await a.timeline(room)).toEqual(['one', 'two']);
    expect(await b.timeline(room)).toEqual(['one', 'two']);
    expect(await b.state(room)).toEqual(await a.state(room));
    expect(b.rooms.counters).toMatchObject({ forks: 0, rejected: 0, soft_failed: 0 });
  });
});
