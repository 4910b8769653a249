import { describe, expect, test } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { ETHERNET_IPV4_UDP_OVERHEAD, type LinkProfile } from '../../src/link/link.ts';
import { SyncWorld } from './sync_world.ts';

const FAST: LinkProfile = { mtu: 1200, rate: null, delay: 20, overhead: ETHERNET_IPV4_UDP_OVERHEAD };
const SLOW: LinkProfile = { mtu: 1200, rate: 1_000, delay: 500, overhead: ETHERNET_IPV4_UDP_OVERHEAD };
const HOUR = 60 * 60_000;
const STEPS = 40;

/** Something that happens, and how much time passes after it at most. */
const STEPS_OF: readonly (readonly [weight: number, name: string])[] = [
  [12, 'text'],
  [2, 'burst'],
  [2, 'long text'],
  [3, 'nothing'],
  [1, 'server restarts'],
  [1, 'device restarts'],
  [1, 'device loses its session'],
  [1, 'partition'],
  [2, 'end of partition'],
];
const ALL = STEPS_OF.flatMap(([weight, name]) => Array<string>(weight).fill(name));

/** A device under losses and restarts: what it has been told is always the beginning of what there was to tell. */
async function run(seed: number): Promise<void> {
  const random = seededRandom(seed);
  const profile = random.fraction() < 0.5 ? FAST : SLOW;
  const conditions = {
    loss: 0.3 * random.fraction(),
    duplication: 0.1,
    reordering: 0.1,
    reorderingDelay: 5_000,
    corruption: 0.02,
  };
  const world = new SyncWorld({ seed, profile, conditions, most: 5 });
  world.startServer();
  world.startDevice();
  let partitioned = false;
  for (let step = 0; step < STEPS; step++) {
    const happening = ALL[random.integer(ALL.length)]!;
    if (happening === 'text') world.log.add(`text ${step}`);
    if (happening === 'burst') for (let i = 0; i < 12; i++) world.log.add(`burst ${step} ${i}`);
    if (happening === 'long text') world.log.add(`long ${step} ${random.bytes(1_500).join(' ')}`);
    if (happening === 'server restarts') {
      await world.stopServer();
      world.startServer();
    }
    if (happening === 'device restarts' || happening === 'device loses its session') {
      await world.stopDevice();
      world.startDevice(happening === 'device restarts');
    }
    if (happening === 'partition') partitioned = true;
    if (happening === 'end of partition') partitioned = false;
    world.conditions({ ...conditions, partitioned });
    await world.time.pass(10 ** (2 + 4 * random.fraction()));
    expect(world.told).toEqual(world.log.texts.slice(0, world.told.length));
  }
  world.conditions({});
  await world.time.pass(6 * HOUR);
  expect(world.told).toEqual(world.log.texts);
  await world.stopDevice();
  await world.stopServer();
}

describe('a device that observes /sync through losses, restarts and partitions', () => {
  test.each(Array.from({ length: 40 }, (_, i) => i + 1))(
    'has in the end exactly what there was to tell (seed %i)',
    run,
    60_000,
  );
});
