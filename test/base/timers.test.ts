import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { Timers } from '../../src/base/timers.ts';

describe('timers', () => {
  it('come due in order, once, as they were set last', () => {
    const random = seededRandom(9);
    const timers = new Timers<{ n: number }>();
    const targets = Array.from({ length: 200 }, (_, n) => ({ n }));
    const wanted = new Map<{ n: number }, number>();
    for (let i = 0; i < 5_000; i++) {
      const target = targets[random.integer(targets.length)]!;
      const at = random.integer(1_000);
      if (random.integer(5) === 0) {
        timers.clear(target);
        wanted.delete(target);
      } else {
        timers.set(target, at);
        wanted.set(target, at);
      }
    }
    const order: number[] = [];
    for (let target = timers.due(999); target !== undefined; target = timers.due(999))
      order.push(wanted.get(target)!);
    expect(order).toEqual([...wanted.values()].sort((a, b) => a - b));
    expect(timers.next()).toBeNull();
  });
});
