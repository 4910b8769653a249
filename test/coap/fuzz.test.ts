import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { SocketUnderFire } from '../exchange/socket_under_fire.ts';
import { underFire } from './under_fire.ts';

describe('an endpoint under fire', () => {
  underFire(100_000);
  underFire(50_000, true);
});

describe('a socket under fire', () => {
  const DATAGRAMS = 20_000;

  it(`never fails and keeps its bounds through ${DATAGRAMS} random and mutated datagrams, seed 1`, async () => {
    const target = new SocketUnderFire(seededRandom(1));
    for (let n = 0; n < DATAGRAMS; n++) await target.shoot();
    await target.drain();
    const { counters, served } = target;
    expect(served).toBeGreaterThan(DATAGRAMS / 100);
    expect(counters.plainRefused).toBeGreaterThan(DATAGRAMS / 4);
    expect(counters.ignored).toBeGreaterThan(DATAGRAMS / 200);
    expect(Object.entries(counters.held.plain).filter(([, count]) => count > 0)).toEqual([]);
  });
});
