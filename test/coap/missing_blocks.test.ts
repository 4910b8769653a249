import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fromHex, hex } from '../../src/base/bytes.ts';
import { MOST_BLOCKS } from '../../src/coap/block.ts';
import {
  decodeMissing,
  encodeMissing,
  hasArrived,
  missingBlocks,
  REACH,
} from '../../src/coap/missing_blocks.ts';

const first = fc.oneof(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 0, max: MOST_BLOCKS }));
const offsets = fc.uniqueArray(fc.integer({ min: 1, max: REACH }), { maxLength: REACH });

describe('what has arrived, in the acknowledgement of a checkpoint', () => {
  it.each([
    ['nothing', 0, [], '00'],
    ['all of five blocks', 5, [], '05'],
    ['all but the fourth of five', 3, [4], '0380'],
    ['every second', 0, [1, 3, 5, 7, 9], '00aa80'],
    ['a number of two bytes', 128, [], '8080'],
    ['the last number of two bytes', 16_383, [], 'bfff'],
    ['a number of four bytes', 16_384, [16_386], 'c000400040'],
    ['all of the largest body', MOST_BLOCKS, [], 'c0100000'],
  ])('says %s in the fewest bytes', (_, number, behind, bytes) => {
    expect(hex(encodeMissing(missingBlocks(number, behind)))).toBe(bytes);
  });

  it('says of each block within reach whether it has arrived, and nothing of those beyond', () => {
    fc.assert(
      fc.property(first, offsets, (number, set) => {
        const decoded = decodeMissing(
          encodeMissing(
            missingBlocks(
              number,
              set.map((at) => number + at),
            ),
          ),
        );
        if (!decoded.ok) throw new Error(decoded.problem);
        expect(decoded.value.first).toBe(number);
        if (number > 0) expect(hasArrived(decoded.value, number - 1)).toBe(true);
        expect(hasArrived(decoded.value, number)).toBe(false);
        for (let at = 1; at <= REACH; at++)
          expect(hasArrived(decoded.value, number + at)).toBe(set.includes(at));
        expect(hasArrived(decoded.value, number + REACH + 1)).toBeUndefined();
      }),
    );
  });

  it('has one form only, and any bytes whatever are read or refused', () => {
    const heads = fc.constantFrom([], [0x80], [0xbf], [0xc0, 0], [0xc0, 0x10], [0xff]);
    fc.assert(
      fc.property(heads, fc.uint8Array({ maxLength: 40 }), (head, rest) => {
        const bytes = Uint8Array.from([...head, ...rest]);
        const decoded = decodeMissing(bytes);
        if (decoded.ok) expect(hex(encodeMissing(decoded.value))).toBe(hex(bytes));
        else expect(['number', 'bitmap']).toContain(decoded.problem);
      }),
      { numRuns: 2_000 },
    );
  });

  it.each([
    ['no byte', '', 'number'],
    ['a number that is cut off', '80', 'number'],
    ['a number that a shorter form could say', '807f', 'number'],
    ['a number beyond the largest body', 'c0100001', 'number'],
    ['a bitmap with zeros at its end', '0500', 'bitmap'],
    ['a bitmap beyond its bound', `00${'ff'.repeat(33)}`, 'bitmap'],
  ])('refuses %s', (_, bytes, problem) => {
    expect(decodeMissing(fromHex(bytes)!)).toEqual({ ok: false, problem });
  });
});
