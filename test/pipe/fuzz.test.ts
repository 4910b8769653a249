import { describe } from 'vitest';
import { anyBytes } from './any_bytes.ts';

describe('any bytes', () => {
  anyBytes(20_000);
});
