import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { sleep } from '../../src/base/time.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { VirtualTime } from '../../src/base/virtual_time.ts';

describe('virtual time', () => {
  it('runs timers by time and, at one instant, in the order in which they were set', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(20), { maxLength: 60 }), (delays) => {
        const clock = new VirtualClock();
        const ran: number[] = [];
        delays.forEach((delay, index) => {
          clock.after(delay, () => ran.push(index));
        });
        while (clock.step());
        const expected = delays.map((delay, index) => ({ delay, index }));
        expected.sort((a, b) => a.delay - b.delay || a.index - b.index);
        expect(ran).toEqual(expected.map(({ index }) => index));
      }),
    );
  });

  it('does not run a timer that was cancelled, and a late cancel does no harm', () => {
    const clock = new VirtualClock();
    const ran: string[] = [];
    const cancel = clock.after(5, () => ran.push('cancelled'));
    const late = clock.after(6, () => ran.push('kept'));
    cancel();
    while (clock.step());
    late();
    clock.after(1, () => ran.push('after'));
    while (clock.step());
    expect(ran).toEqual(['kept', 'after']);
  });

  it('waits for pending work before it moves', async () => {
    const time = new VirtualTime();
    const order: string[] = [];
    void time.work.run(async () => {
      await new Promise((resolve) => setImmediate(() => setImmediate(() => setImmediate(resolve))));
      order.push('work');
    });
    time.clock.after(1, () => order.push('timer'));
    await time.pass(10);
    expect(order).toEqual(['work', 'timer']);
    expect(time.clock.monotonic()).toBe(10);
  });

  it('says so where an outcome can never come', async () => {
    const time = new VirtualTime();
    await expect(time.until(new Promise(() => {}), 1000)).rejects.toThrow('nothing is left to happen');
    await expect(time.until(sleep(time.clock, 5000), 1000)).rejects.toThrow('not settled within 1000 ms');
  });
});

describe('seeded randomness', () => {
  it('repeats with the seed and differs with another', () => {
    const draw = (seed: number): string => Buffer.from(seededRandom(seed).bytes(64)).toString('hex');
    expect(draw(1)).toBe(draw(1));
    expect(draw(1)).not.toBe(draw(2));
  });

  it('spreads integers evenly', () => {
    const random = seededRandom(7);
    const counts = new Array<number>(10).fill(0);
    for (let i = 0; i < 100_000; i++) counts[random.integer(10)]!++;
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(500);
  });
});
