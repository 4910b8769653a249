import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { AirtimeBudget } from '../../src/link/airtime_budget.ts';

const HOUR = 3_600_000;

describe("an hour's airtime", () => {
  it('may be used at once, and again an hour after it was', () => {
    const budget = new AirtimeBudget(30_000);
    expect(budget.freeAt(10_000, 0)).toBe(0);
    for (const at of [0, 10_000, 20_000]) budget.use(10_000, at);
    expect(budget.used(30_000)).toBe(1);
    expect(budget.freeAt(10_000, 30_000)).toBe(10_000 + HOUR);
    expect(budget.freeAt(20_000, 30_000)).toBe(20_000 + HOUR);
    expect(budget.freeAt(10_000, 10_000 + HOUR)).toBe(10_000 + HOUR);
    expect(budget.used(10_000 + HOUR)).toBeCloseTo(2 / 3);
  });

  it('never allows what is more than all of it', () => {
    const budget = new AirtimeBudget(30_000);
    expect([30_000, 30_001].map((airtime) => budget.allows(airtime))).toEqual([true, false]);
  });

  it('is kept in every hour, wherever it begins, and wasted by little', () => {
    for (let seed = 0; seed < 20; seed++) {
      const random = seededRandom(seed);
      const most = 1_000 + random.integer(30_000);
      const budget = new AirtimeBudget(most);
      const sent: { readonly at: number; readonly airtime: number }[] = [];
      for (let now = 0; now < 5 * HOUR; ) {
        const airtime = 1 + random.integer(Math.min(most, 1_000));
        now = Math.max(budget.freeAt(airtime, now), now);
        budget.use(airtime, now);
        sent.push({ at: now, airtime });
        now += airtime + random.fraction() * [0, 0, 4_000, 4_000, 4_000, 60_000][random.integer(6)]!;
      }
      // The worst hour begins where a packet begins, or ends where one ends.
      const overlap = (from: number): number =>
        sent.reduce(
          (sum, { at, airtime }) =>
            sum + Math.max(0, Math.min(at + airtime, from + HOUR) - Math.max(at, from)),
          0,
        );
      for (const { at, airtime } of sent) {
        expect(overlap(at), `seed ${seed}`).toBeLessThanOrEqual(most + 1e-6);
        expect(overlap(at + airtime - HOUR), `seed ${seed}`).toBeLessThanOrEqual(most + 1e-6);
      }
      expect(Math.max(...sent.map(({ at }) => overlap(at)))).toBeGreaterThan(most * 0.7);
    }
  });
});
