import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  expandNumber,
  LAST_PACKET_NUMBER,
  type NumberLength,
  numberLength,
  truncateNumber,
} from '../../src/pipe/packet_number.ts';
import { beginsLikeSeen, partSeen, withSeen } from '../../src/pipe/seen.ts';

/** What is known to have arrived, how much further the sender is, and how far the receiver is. */
const situations = fc
  .record({
    arrived: fc.oneof(fc.integer({ min: -1, max: 1_000 }), fc.maxSafeNat()),
    ahead: fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 2 ** 31 })),
    overtaken: fc.double({ min: 0, max: 1, noNaN: true }),
  })
  .map(({ arrived, ahead, overtaken }) => {
    const number = Math.min((arrived % (LAST_PACKET_NUMBER - 2 ** 32)) + ahead, LAST_PACKET_NUMBER);
    const known = number - ahead;
    const length = numberLength(number, known);
    // The receiver may be at any place from what it has told to almost half a range beyond the record.
    const furthest = number + 2 ** (8 * length - 1) - 2;
    return { number, length, highest: known + Math.floor(overtaken * (furthest - known)) };
  });

describe('truncated packet numbers', () => {
  it('are read as they were meant, wherever the receiver can be', () => {
    fc.assert(
      fc.property(situations, ({ number, length, highest }) => {
        expect(expandNumber(truncateNumber(number, length), length, highest)).toBe(number);
      }),
      { numRuns: 5_000 },
    );
  });

  it('take one byte up to 128 records ahead of what has arrived, two up to 2^15, then four', () => {
    const lengths = [0, 127, 128, 2 ** 15 - 1, 2 ** 15, 2 ** 31 - 1].map((number) =>
      numberLength(number, -1),
    );
    expect(lengths).toEqual([1, 1, 2, 2, 4, 4]);
    expect(numberLength(1_000_128, 1_000_000)).toBe(1);
  });

  it('are numbers in the range of their length, near the highest, for any bytes', () => {
    const lengths = fc.constantFrom<NumberLength>(1, 2, 4);
    fc.assert(
      fc.property(
        lengths,
        fc.nat(2 ** 31),
        fc.integer({ min: -1, max: LAST_PACKET_NUMBER - 1 }),
        (length, raw, highest) => {
          const truncated = truncateNumber(raw, length);
          const number = expandNumber(truncated, length, highest);
          expect(number).toBeGreaterThanOrEqual(0);
          expect(number).toBeLessThanOrEqual(LAST_PACKET_NUMBER);
          expect(truncateNumber(number, length)).toBe(truncated);
        },
      ),
    );
  });
});

describe('what was seen, in front of a payload', () => {
  const payloads = fc.uint8Array({ maxLength: 20 });

  it('is parted from it again, and a payload without one is left alone', () => {
    fc.assert(
      fc.property(fc.nat(LAST_PACKET_NUMBER), payloads, (seen, payload) => {
        expect(partSeen(withSeen(seen, payload))).toEqual({ seen, payload });
        if (!beginsLikeSeen(payload)) expect(partSeen(payload)).toEqual({ seen: undefined, payload });
      }),
    );
    expect(
      [0, 63, 64, 16_383, 16_384, 2 ** 30].map((seen) => withSeen(seen, new Uint8Array()).length),
    ).toEqual([2, 2, 3, 3, 5, 9]);
  });

  it('that is cut, or too high for a number, is a problem', () => {
    const whole = withSeen(2 ** 40, new Uint8Array());
    for (let length = 1; length < whole.length; length++)
      expect(partSeen(whole.subarray(0, length))).toBeUndefined();
    expect(partSeen(Uint8Array.of(1, 0xff, 255, 255, 255, 255, 255, 255, 255))).toBeUndefined();
    fc.assert(fc.property(payloads, (any) => void partSeen(Uint8Array.of(1, ...any))));
  });
});
