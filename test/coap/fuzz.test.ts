import { describe } from 'vitest';
import { underFire } from './under_fire.ts';

describe('an endpoint under fire', () => {
  underFire(40_000);
});
