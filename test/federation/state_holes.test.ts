import { beforeEach, describe, expect, it } from 'vitest';
import type { EventId, RoomId, ServerName } from '../../src/matrix/ids.ts';
import { A, B, C, HOUR, testKey } from './fixtures.ts';
import { Network, openSide, type Side } from './sides.ts';

let network: Network;
let a: Side;
let b: Side;
let c: Side;
let room: RoomId;

const within = <T>(outcome: Promise<T>): Promise<T> => network.time.until(outcome, HOUR);

beforeEach(async () => {
  network = new Network();
  network.formed = true;
  a = await openSide(network, A, testKey(1), 1);
  b = await openSide(network, B, testKey(2), 2);
  c = await openSide(network, C, testKey(3), 3);
  room = await within(a.rooms.create(a.user('alice'), { preset: 'public_chat' }));
  await within(b.rooms.memberships.join(b.user('bob'), room, { via: [A] }));
  await network.time.pass(60_000);
});

const statusAt = async ({ database }: Side, id: EventId): Promise<string | undefined> =>
  (await database.get<{ status: string }>('SELECT status FROM events WHERE event_id = ?', id))?.status;

describe('a state that a server came by without the keys of all who made it', () => {
  it('after a gap over a join does not keep out for ever what the one who joined says', async () => {
    network.passes = (from, to) => from !== B || to !== C;
    await within(c.rooms.memberships.join(c.user('carol'), room, { via: [A] }));
    const said = await within(a.say(a.user('alice'), room, 'on top of the join'));
    await network.time.pass(10 * 60_000);
    expect(await statusAt(b, said)).toBeUndefined();
    await network.time.pass(HOUR);
    expect(await statusAt(b, said)).toBe('timeline');
    // The gap before it was bridged by a state without the join, which could not be checked.
    expect((await b.state()).map((row) => row.state_key)).not.toContain(c.user('carol'));
    network.passes = () => true;
    const id = await within(c.say(c.user('carol'), room, 'hello'));
    await network.time.pass(HOUR);
    expect(await statusAt(b, id)).toBe('timeline');
    expect(await b.state()).toEqual(await a.state());
  });

  it('after a join does not keep out for ever what those say whose keys were not to be had', async () => {
    const powers = { users: { [b.user('bob')]: 50 } };
    await within(a.rooms.sending.setState(room, a.user('alice'), 'm.room.power_levels', '', powers));
    await network.time.pass(10_000);
    await within(b.rooms.sending.setState(room, b.user('bob'), 'm.room.topic', '', { topic: 'one' }));
    await network.time.pass(10_000);
    network.passes = (from, to) => from !== C || to !== B;
    await within(c.rooms.memberships.join(c.user('carol'), room, { via: [A] }));
    expect((await c.state()).map((row) => row.state_key)).not.toContain(b.user('bob'));
    await network.time.pass(60_000);
    network.passes = () => true;
    const id = await within(b.say(b.user('bob'), room, 'hello'));
    await network.time.pass(2 * HOUR);
    expect(await statusAt(c, id)).toBe('timeline');
    // With what else they had made.
    expect(await c.state()).toEqual(await a.state());
  });

  it('is not what a join begins with where the keys can be had a little later', async () => {
    network.passes = (from, to) => from !== C || to !== B;
    const join = within(c.rooms.memberships.join(c.user('carol'), room, { via: [A] }));
    network.time.clock.after(5_000, () => {
      network.passes = () => true;
    });
    await join;
    expect((await c.state()).map((row) => row.state_key)).toContain(b.user('bob'));
    const id = await within(c.say(c.user('carol'), room, 'hello'));
    await network.time.pass(60_000);
    expect(await statusAt(b, id)).toBe('timeline');
  });

  it('is waited for no longer than it takes to ask twice, or once where the link is slow', async () => {
    for (const [delay, pause] of [
      [0, 11_000],
      [6_000, 0],
    ] as const) {
      const side = delay === 0 ? c : await openSide(network, 'd.example' as ServerName, testKey(4), 4);
      const asked: number[] = [];
      network.passes = (from, to) => {
        if (from === side.serverName && to === B) asked.push(network.time.clock.monotonic());
        return from !== side.serverName || to !== B;
      };
      network.delay = () => delay;
      await within(side.rooms.memberships.join(side.user('carol'), room, { via: [A] }));
      const waited = asked.at(-1)! - asked[0]!;
      expect(waited).toBeGreaterThanOrEqual(pause);
      expect(waited).toBeLessThan(pause + 1_000);
    }
  });

  it('is no way back in for who was put out', async () => {
    await within(c.rooms.memberships.join(c.user('carol'), room, { via: [A] }));
    await network.time.pass(60_000);
    network.passes = (from, to) => from !== C && to !== C;
    await within(a.rooms.memberships.ban(a.user('alice'), room, c.user('carol')));
    await network.time.pass(60_000);
    // Its server has not heard of it.
    const id = await within(c.say(c.user('carol'), room, 'still here'));
    network.passes = () => true;
    await network.time.pass(2 * HOUR);
    for (const side of [a, b]) {
      expect(await statusAt(side, id)).not.toBe('timeline');
      expect(await side.messages()).toEqual([]);
    }
  });
});
