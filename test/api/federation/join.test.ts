import { expect, it, onTestFinished } from 'vitest';
import { createApp } from '../../../src/api/app.ts';
import { membershipRoutes } from '../../../src/api/client/membership.ts';
import type { DeviceId, UserId } from '../../../src/matrix/ids.ts';
import { A, B, HOUR, testKey } from '../../federation/fixtures.ts';
import { Network, openSide, type Side } from '../../federation/sides.ts';

/** Requests of a client to join through another server, over a socket of its own each. */
async function clientOf(side: Side, user: UserId, clock: Network['time']['clock']) {
  const app = createApp({ clock, authenticate: async () => ({ user, device: 'D' as DeviceId }) });
  membershipRoutes(app, side);
  const origin = await app.listen({ host: '127.0.0.1', port: 0 });
  onTestFinished(() => app.close());
  return (room: string, signal?: AbortSignal) =>
    fetch(`${origin}/_matrix/client/v3/join/${encodeURIComponent(room)}?via=${A}`, {
      method: 'POST',
      headers: { authorization: 'Bearer x', 'content-type': 'application/json' },
      body: '{}',
      ...(signal && { signal }),
    });
}

it('a join goes on when its client has gone away, and the next request for it attaches to it', async () => {
  const network = new Network();
  const a = await openSide(network, A, testKey(1), 1);
  const b = await openSide(network, B, testKey(2), 2);
  const room = await network.time.until(a.rooms.create(a.user('alice'), { preset: 'public_chat' }), HOUR);
  const join = await clientOf(b, b.user('bob'), network.time.clock);
  let waiting = 0;
  const begin = b.rooms.memberships.join.bind(b.rooms.memberships);
  b.rooms.memberships.join = (...request) => {
    waiting++;
    return begin(...request);
  };
  let answer: () => void = () => undefined;
  network.beforeAnswer = (call) =>
    call.path.includes('send_join') ? new Promise((resolve) => (answer = resolve)) : Promise.resolve();

  const patience = new AbortController();
  const first = join(room, patience.signal).catch((error: unknown) => error);
  await expect.poll(() => network.count(B, A, 'send_join')).toBe(1);
  patience.abort();
  expect(await first).toMatchObject({ name: 'AbortError' });
  expect(b.remoteRooms.joining(room)).toBeDefined();

  const again = [join(room), join(room)];
  await expect.poll(() => waiting).toBe(3);
  answer();
  for (const response of await Promise.all(again)) expect(response.status).toBe(200);
  expect(network.count(B, A, 'make_join')).toBe(1);
  expect(network.count(B, A, 'send_join')).toBe(1);
  expect(await b.rooms.isServerInRoom(room, B)).toBe(true);
});

it('a join whose client has gone away and does not come back brings the room all the same', async () => {
  const network = new Network();
  const a = await openSide(network, A, testKey(1), 1);
  const b = await openSide(network, B, testKey(2), 2);
  const room = await network.time.until(a.rooms.create(a.user('alice'), { preset: 'public_chat' }), HOUR);
  const join = await clientOf(b, b.user('bob'), network.time.clock);
  const patience = new AbortController();
  network.beforeAnswer = async () => patience.abort();
  expect(await join(room, patience.signal).catch((error: unknown) => error)).toMatchObject({
    name: 'AbortError',
  });
  await expect.poll(() => b.rooms.isServerInRoom(room, B)).toBe(true);
  expect(b.remoteRooms.joining(room)).toBeUndefined();
});
