import { describe } from 'vitest';
import { badLinks } from '../coap/bad_links.ts';
import { underFire } from '../coap/under_fire.ts';
import { soak } from '../exchange/any_link.ts';
import { anyBytes } from '../pipe/any_bytes.ts';

/* What the unit suite does with a few seeds, with many. */

describe('CoAP', () => {
  badLinks(1_000);
  underFire(1_000_000);
});

describe('the pipe', () => {
  anyBytes(400_000);
});

describe('the exchange', () => {
  soak(500);
});
