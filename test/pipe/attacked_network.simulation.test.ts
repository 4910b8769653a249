import { describe } from 'vitest';
import { attackedNetwork } from './attacked_network.ts';

describe('two servers, an attacker and a bad network', () => {
  attackedNetwork(30);
});
