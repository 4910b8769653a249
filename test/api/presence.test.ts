import { expect } from 'vitest';
import type { JsonObject } from '../../src/matrix/json.ts';
import { type Door, doorsOf, type User } from './coverage/doors.ts';

const { eachDoor } = doorsOf(import.meta.url, { presence: { enabled: true } });

const statusOf = ({ id }: User): string => `/presence/${encodeURIComponent(id)}/status`;

async function friends(door: Door): Promise<readonly [User, User]> {
  const [alice, bob] = [await door.user('alice'), await door.user('bob')];
  const { body } = await alice.ask('POST', '/createRoom', { preset: 'public_chat' });
  await bob.ask('POST', `/join/${encodeURIComponent(String(body.room_id))}`, {});
  return [alice, bob];
}

const toldOf = async (who: User, whom: User, query = ''): Promise<unknown> => {
  const { body } = await who.ask('GET', `/sync?set_presence=offline${query}`);
  const { events } = body.presence as { events: JsonObject[] };
  return events.find(({ sender }) => sender === whom.id)?.content;
};

eachDoor('those who share a room see who is there, and what they say of it', async (door) => {
  const [alice, bob] = await friends(door);
  expect(await bob.ask('PUT', statusOf(bob), { presence: 'online', status_msg: 'At sea' })).toMatchObject({
    ...{ status: 200, body: {} },
  });
  const there = { presence: 'online', status_msg: 'At sea', currently_active: true };
  for (const told of [(await alice.ask('GET', statusOf(bob))).body, await toldOf(alice, bob)])
    expect(told).toEqual({ ...there, last_active_ago: expect.any(Number) });
  await bob.ask('PUT', statusOf(bob), { presence: 'unavailable' });
  expect((await alice.ask('GET', statusOf(bob))).body).toMatchObject({ presence: 'unavailable' });
  await bob.ask('PUT', statusOf(bob), { presence: 'offline' });
  expect((await alice.ask('GET', statusOf(bob))).body).toMatchObject({ presence: 'offline' });
});

eachDoor(
  'who syncs is online, is taken to be idle after some minutes, and goes when they stop',
  async (door) => {
    const [alice, bob] = await friends(door);
    const { body } = await bob.ask('GET', '/sync');
    expect(await toldOf(alice, bob)).toMatchObject({ presence: 'online', currently_active: true });
    const poll = bob.begin('GET', `/sync?since=${String(body.next_batch)}&timeout=110000`);
    await door.pass(90_000);
    expect(await toldOf(alice, bob)).toMatchObject({ presence: 'online', currently_active: false });
    await door.until(poll);
    let since = String(body.next_batch);
    for (let i = 0; i < 4; i++) {
      const answer = await bob.ask('GET', `/sync?since=${since}&timeout=100000`);
      since = String(answer.body.next_batch);
    }
    expect(await toldOf(alice, bob)).toMatchObject({ presence: 'unavailable' });
    await door.pass(40_000);
    expect((await alice.ask('GET', statusOf(bob))).body).toMatchObject({ presence: 'offline' });
  },
);

eachDoor('nobody sees the presence of somebody whom they share no room with', async (door) => {
  const [alice, bob] = await friends(door);
  const stranger = await door.user('stranger');
  for (const [who, whom, status, errcode] of [
    [stranger, statusOf(bob), 403, 'M_FORBIDDEN'],
    [alice, '/presence/%40nobody%3Ahome.example/status', 404, 'M_NOT_FOUND'],
    [alice, '/presence/nobody/status', 400, 'M_INVALID_PARAM'],
  ] as const) {
    const answer = await who.ask('GET', whom);
    expect([answer.status, answer.body.errcode]).toEqual([status, errcode]);
  }
  await bob.ask('PUT', statusOf(bob), { presence: 'online' });
  expect(await toldOf(stranger, bob)).toBeUndefined();
  expect((await stranger.ask('GET', statusOf(stranger))).body).toMatchObject({ presence: 'offline' });
});

eachDoor('nobody says what another is, or what cannot be', async (door) => {
  const [alice, bob] = await friends(door);
  for (const [path, body, status, errcode] of [
    [statusOf(alice), { presence: 'online' }, 403, 'M_FORBIDDEN'],
    [statusOf(bob), { presence: 'away' }, 400, 'M_BAD_JSON'],
    [statusOf(bob), {}, 400, 'M_BAD_JSON'],
    [statusOf(bob), { presence: 'online', status_msg: 'x'.repeat(2_000) }, 413, 'M_TOO_LARGE'],
  ] as const) {
    const answer = await bob.ask('PUT', path, body);
    expect([answer.status, answer.body.errcode]).toEqual([status, errcode]);
  }
  if (door.name !== 'HTTPS, JSON') return;
  let answer = await bob.ask('PUT', statusOf(bob), { presence: 'online' });
  for (let i = 0; i < 100 && answer.status === 200; i++)
    answer = await bob.ask('PUT', statusOf(bob), { presence: i % 2 ? 'online' : 'unavailable' });
  expect(answer).toMatchObject({ status: 429, body: { errcode: 'M_LIMIT_EXCEEDED' } });
});
