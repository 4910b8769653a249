import { expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { EndpointUnderFire } from './endpoint_under_fire.ts';

/** Random and mutated datagrams at one endpoint. */
export function underFire(datagrams: number, selective = false): void {
  const name = `${datagrams} random and mutated datagrams${selective ? ', with selective repeat' : ''}, seed 1`;
  it(`never throws and keeps its bounds through ${name}`, () => {
    const target = new EndpointUnderFire(seededRandom(1), selective);
    for (let n = 0; n < datagrams; n++) target.shoot();
    const { delivered, started, ended } = target.drain();
    expect(ended).toBe(started);
    expect(delivered).toBeGreaterThan(datagrams / 20);
    const { counters } = target;
    const silent = [
      'resent',
      'duplicates',
      'malformed',
      'ignored',
      'resetsOut',
      'refused',
      'blocksIn',
      'blocksOut',
      'notificationsOut',
    ] as const;
    if (selective) {
      expect(counters.selectiveTransfers).toBeGreaterThan(datagrams / 1_000);
      expect(counters.blocksAgain).toBeGreaterThan(0);
    }
    expect(silent.filter((name) => counters[name] < datagrams / 2_000)).toEqual([]);
    // Once everything has expired nothing is left.
    expect(Object.entries(target.held).filter(([, count]) => count > 0)).toEqual([]);
  });
}
