import { expect, it } from 'vitest';
import { seals } from './attacked/invariants.ts';
import { simulate } from './attacked_network.ts';

const SEEDS = 40;

it(`an attacked network, with X25519 as it is, seeds 1 to ${SEEDS}`, () => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    simulate(seed);
    expect(seals.count, `records and handshakes of seed ${seed}`).toBeGreaterThan(50);
  }
});
