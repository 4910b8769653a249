import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { ReplayWindow, WINDOW_RECORDS } from '../../src/pipe/replay_window.ts';

describe('the replay window', () => {
  it('accepts each number once, and none that is a whole window old', () => {
    const window = new ReplayWindow();
    expect(window.accept(5)).toBe(true);
    expect(window.accept(5)).toBe(false);
    expect(window.accept(0)).toBe(true);
    expect(window.accept(5 + WINDOW_RECORDS)).toBe(true);
    expect(window.accept(5)).toBe(false);
    expect(window.accept(6)).toBe(true);
    expect(window.accept(2 ** 32 - 1)).toBe(true);
    expect(window.accept(2 ** 32 - WINDOW_RECORDS)).toBe(true);
    expect(window.accept(2 ** 32 - 1 - WINDOW_RECORDS)).toBe(false);
    expect(window.highest).toBe(2 ** 32 - 1);
  });

  it.each([1, 2, 3, 4, 5, 6])('agrees with a set of all numbers ever seen (seed %i)', (seed) => {
    const random = seededRandom(seed);
    const window = new ReplayWindow();
    const seen = new Set<number>();
    let highest = random.integer(100);
    for (let i = 0; i < 20_000; i++) {
      const jump = random.integer(100) === 0 ? random.integer(5_000) : random.integer(4);
      const number = Math.max(0, highest + jump - random.integer(random.integer(2) === 0 ? 10 : 1_300));
      const expected =
        !seen.has(number) && number > Math.max(-1, ...[highest].filter(() => seen.size > 0)) - WINDOW_RECORDS;
      expect(window.accept(number)).toBe(expected);
      if (expected) {
        highest = seen.size === 0 ? number : Math.max(highest, number);
        seen.add(number);
      }
    }
  });
});
