import type { RoomId, UserId } from '../../../src/matrix/ids.ts';
import { type Server, World } from './world.ts';

/** A public room that two servers share: alice has made it, bob is there from the other server, and gone is yet to leave. */
export interface SharedRoom {
  readonly world: World;
  readonly a: Server;
  readonly b: Server;
  readonly alice: UserId;
  readonly bob: UserId;
  readonly gone: UserId;
  readonly room: RoomId;
}

export async function sharedRoom(): Promise<SharedRoom> {
  const world = new World();
  const a = world.server('a.example');
  const b = world.server('b.example');
  const [alice, bob, gone] = [a.user('alice'), b.user('bob'), a.user('gone')];
  const room = await a.rooms.create(alice, { preset: 'public_chat', name: 'Room' });
  await b.rooms.memberships.join(bob, room, { via: [a.name] });
  await world.settle();
  await a.database.transaction((tx) =>
    tx.run('INSERT INTO users (user_id, created) VALUES (?, 0), (?, 0)', alice, gone),
  );
  await a.rooms.memberships.join(gone, room, {});
  return { world, a, b, alice, bob, gone, room };
}
