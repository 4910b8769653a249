import { expect, it } from 'vitest';
import { measureBytes } from '../bench/pipe_bytes.ts';

const { handshakes, records } = measureBytes();

/* Whoever makes one of these larger should know it. `npm run bench -- pipe` shows them beside their budgets. */
it('takes so many bytes on an Ethernet wire for the records of a handshake', () => {
  expect(
    handshakes.map(({ name, total, identities, padding, rest }) => ({
      name,
      total,
      identities,
      padding,
      rest,
    })),
  ).toEqual([
    { name: 'XX', total: 619, identities: 239, padding: 53, rest: 327 },
    { name: 'IK', total: 262, identities: 22, padding: 0, rest: 240 },
    { name: 'resumed', total: 0, identities: 0, padding: 0, rest: 0 },
  ]);
});

it('adds 20 bytes to the payload in a record, and 11 more to the first ones after a restart', () => {
  expect(records.map(({ name, overhead }) => [name, overhead])).toEqual([
    ['after XX', 20],
    ['after IK', 20],
    ['first after a restart', 31],
  ]);
  for (const { overhead, budget } of records) expect(overhead).toBeLessThanOrEqual(budget);
});
