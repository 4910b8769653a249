import { describe, expect, test } from 'vitest';
import { ETHERNET_IPV4_UDP_OVERHEAD, type LinkProfile } from '../../src/link/link.ts';
import { SyncWorld } from './sync_world.ts';

const FAST: LinkProfile = { mtu: 1200, rate: null, delay: 20, overhead: ETHERNET_IPV4_UDP_OVERHEAD };
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

async function observing(options: { keepAliveMs?: number } = {}): Promise<SyncWorld> {
  const world = new SyncWorld({ seed: 1, profile: FAST, ...options });
  world.startServer();
  world.log.add('before');
  world.startDevice();
  await world.time.pass(10 * MINUTE);
  expect(world.told).toEqual(['before']);
  expect(world.stream?.isObserving).toBe(true);
  return world;
}

const wire = (world: SyncWorld, from: number): number =>
  world.seen.slice(from).reduce((sum, { fate, wire }) => sum + (fate === 'sent' ? wire : 0), 0);

describe('a device that observes /sync', () => {
  test('is told what happens, each thing once, by a notification and its acknowledgement', async () => {
    const world = await observing();
    const before = world.seen.length;
    world.log.add('one');
    await world.time.pass(1_000);
    expect(world.told).toEqual(['before', 'one']);
    expect(world.seen.slice(before).filter(({ fate }) => fate === 'sent')).toHaveLength(2);
    world.log.add('two');
    world.log.add('three');
    await world.time.pass(1_000);
    expect(world.told).toEqual(['before', 'one', 'two', 'three']);
  });

  test('costs nothing in an hour in which nothing happens', async () => {
    const world = await observing();
    const before = world.seen.length;
    await world.time.pass(HOUR);
    expect(wire(world, before)).toBe(0);
    world.log.add('after');
    await world.time.pass(1_000);
    expect(world.told.at(-1)).toBe('after');
  });

  test('behind a NAT says something now and then, in 63 bytes at most, and is not answered', async () => {
    const world = await observing({ keepAliveMs: 20 * MINUTE });
    const before = world.seen.length;
    await world.time.pass(HOUR);
    const sent = world.seen.slice(before).filter(({ fate }) => fate === 'sent');
    expect(sent.map(({ from }) => from)).toEqual(['device', 'device', 'device']);
    for (const { wire } of sent) expect(wire).toBeLessThanOrEqual(63);
  });

  test('asks where there is more than goes in a notification', async () => {
    const world = await observing();
    const long =
      'long '.repeat(1_000) + Array.from({ length: 900 }, (_, i) => (i * 7919).toString(36)).join('');
    world.log.add(long);
    await world.time.pass(10 * MINUTE);
    expect(world.told).toEqual(['before', long]);
    expect(world.stream?.isObserving).toBe(true);
  });

  test('hears of a restart of the server although nothing happens, and registers anew', async () => {
    const world = await observing();
    await world.stopServer();
    world.startServer();
    await world.time.pass(MINUTE);
    world.log.add('one');
    await world.time.pass(1_000);
    expect(world.told).toEqual(['before', 'one']);
  });

  test('that could not be reached is told once it can', async () => {
    const world = await observing();
    world.conditions({ partitioned: true });
    world.log.add('one');
    await world.time.pass(30 * MINUTE);
    world.log.add('two');
    world.conditions({});
    await world.time.pass(HOUR);
    expect(world.told).toEqual(['before', 'one', 'two']);
    expect(world.stream?.isObserving).toBe(true);
  });

  test('goes on from where it was after its own restart, with its session and without', async () => {
    const world = await observing();
    for (const keepsSession of [true, false]) {
      await world.stopDevice();
      world.log.add(`while it was off ${keepsSession}`);
      await world.time.pass(10 * MINUTE);
      world.startDevice(keepsSession);
      await world.time.pass(10 * MINUTE);
      world.log.add(`later ${keepsSession}`);
      await world.time.pass(1_000);
    }
    expect(world.told).toEqual(world.log.texts);
  });

  test('is told by one observation, however often it registers', async () => {
    const world = await observing();
    await world.time.pass(9 * HOUR);
    expect(world.server?.counters.held.inPipe.observers).toBe(1);
  });
});
