import { expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { PdusUnderFire } from '../compact/pdus_under_fire.ts';
import { ContentsUnderFire } from './contents_under_fire.ts';

it('requests and answers go there and back in every form, and records with changes are read or not: 2,000 times each', () => {
  const fire = new ContentsUnderFire(seededRandom(1));
  for (let n = 0; n < 2_000; n++) fire.shoot();
  for (let n = 0; n < 2_000; n++) fire.mutate();
  const { compact, mixed, insideTags, stillRead, forged } = fire.counts;
  for (const [count, least] of [
    [compact, 1_000],
    [mixed, 3],
    [insideTags, 900],
    [stillRead, 100],
    [forged, 900],
  ] as const)
    expect(count).toBeGreaterThan(least);
});

it('events go there and back in their compact form, changed or not: 500 times each', () => {
  const fire = new PdusUnderFire(seededRandom(2));
  for (let n = 0; n < 500; n++) {
    fire.shoot();
    fire.mutate();
  }
  expect(fire.counts.whole).toBeGreaterThan(20);
  expect(fire.counts.whole).toBeLessThan(400);
});
