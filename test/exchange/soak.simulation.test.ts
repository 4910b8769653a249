import { expect, test } from 'vitest';
import { soak } from './any_link.ts';
import { MINUTE, put, SLOW, World } from './world.ts';

soak(30);

test('the same seed gives the same datagrams', async () => {
  const run = async (): Promise<string> => {
    const world = new World(42);
    world.connect('a', 'b', SLOW, { loss: 0.2, duplication: 0.1, reordering: 0.1, reorderingDelay: 3000 });
    const a = world.start('a', SLOW);
    const b = world.start('b', SLOW);
    const outcomes = ['one', 'two', 'three'].map((text) =>
      a.socket.request(b.name, b.address, put(text), { timeoutMs: 60 * MINUTE, priority: 1 }),
    );
    await world.time.until(Promise.all(outcomes), 60 * MINUTE);
    return a.observed
      .map(({ direction, at, bytes }) => `${direction} ${at} ${Buffer.from(bytes).toString('hex')}`)
      .join('\n');
  };
  expect(await run()).toBe(await run());
});
