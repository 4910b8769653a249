import { describe, expect, test } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { type Accidents, type HistoryCounters, HistoryNetwork, NO_ACCIDENTS } from './history_network.ts';

const SEEDS = Number(process.env.RAVINE_SEEDS ?? 30);
const STEPS = 400;

function run(seed: number, accidents: Accidents): { counters: HistoryCounters; mixups: number } {
  const network = new HistoryNetwork(seededRandom(seed), accidents);
  for (let step = 0; step < STEPS; step++) network.step();
  return { counters: network.counters, mixups: network.model.mixups };
}

function sum(all: readonly HistoryCounters[]): HistoryCounters {
  const total: HistoryCounters = { read: 0, withHistory: 0, refused: 0, late: 0, rewritten: 0 };
  for (const one of all)
    for (const key of Object.keys(total) as (keyof HistoryCounters)[]) total[key] += one[key];
  return total;
}

const WILD: Accidents = {
  ...{
    loss: 0.2,
    giveUp: 0.03,
    restart: 0.004,
    session: 0.01,
    back: 0.01,
    rooms: 3,
    memoryBytes: 1_000_000,
    orderly: false,
  },
};

describe('histories', () => {
  test.each([
    ['whatever the network does', WILD],
    ['with more rooms than there are histories', { ...WILD, rooms: 40 }],
    ['where there is hardly memory', { ...WILD, memoryBytes: 3_000 }],
    ['in one session', { ...WILD, session: 0, back: 0, restart: 0 }],
    ['where everything is given up', { ...WILD, giveUp: 0.3 }],
  ])('are never mixed up, %s', (_, accidents) => {
    const total: HistoryCounters[] = [];
    for (let seed = 1; seed <= SEEDS; seed++) {
      const { counters, mixups } = run(seed, accidents);
      expect(mixups, `seed ${seed}`).toBe(0);
      total.push(counters);
    }
    const { withHistory, refused, late, rewritten } = sum(total);
    for (const count of [withHistory, refused, late, rewritten]) expect(count).toBeGreaterThan(SEEDS / 10);
  });

  test('are used for nearly everything that is said where nothing is lost', () => {
    const { read, withHistory, refused } = sum(
      Array.from({ length: 20 }, (_, seed) => run(seed, NO_ACCIDENTS).counters),
    );
    expect(refused).toBe(0);
    expect(withHistory).toBeGreaterThan(read / 2);
  });
});
