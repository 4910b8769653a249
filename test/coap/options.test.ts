import { describe, expect, it } from 'vitest';
import { blockOf, blockOption, operationKey } from '../../src/coap/block.ts';
import { codeLabel } from '../../src/coap/codes.ts';
import {
  isCritical,
  isNoCacheKey,
  isUnsafe,
  OPTION,
  optionName,
  recognised,
  stringOf,
  stringOption,
  uintOf,
  uintOption,
} from '../../src/coap/options.ts';

/** RFC 7252, table 4, and the tables of RFC 7959 and RFC 9175. */
const TABLE: readonly [number, string, string][] = [
  [1, 'If-Match', 'C'],
  [3, 'Uri-Host', 'CU'],
  [4, 'ETag', ''],
  [5, 'If-None-Match', 'C'],
  [7, 'Uri-Port', 'CU'],
  [8, 'Location-Path', ''],
  [11, 'Uri-Path', 'CU'],
  [12, 'Content-Format', ''],
  [14, 'Max-Age', 'U'],
  [15, 'Uri-Query', 'CU'],
  [17, 'Accept', 'C'],
  [20, 'Location-Query', ''],
  [23, 'Block2', 'CU'],
  [27, 'Block1', 'CU'],
  [28, 'Size2', 'N'],
  [35, 'Proxy-Uri', 'CU'],
  [39, 'Proxy-Scheme', 'CU'],
  [60, 'Size1', 'N'],
  [252, 'Echo', 'N'],
  [292, 'Request-Tag', ''],
];

describe('options', () => {
  it.each(TABLE)('knows the class of option %i, %s', (number, name, bits) => {
    expect(optionName(number)).toBe(name);
    const found = `${isCritical(number) ? 'C' : ''}${isUnsafe(number) ? 'U' : ''}${isNoCacheKey(number) ? 'N' : ''}`;
    expect(found).toBe(bits);
  });

  it('writes integers in the fewest bytes and reads them with leading zeros', () => {
    expect(uintOption(12, 0).value.length).toBe(0);
    expect([...uintOption(12, 60).value]).toEqual([60]);
    expect([...uintOption(14, 65_536).value]).toEqual([1, 0, 0]);
    expect(uintOf({ number: 14, value: Uint8Array.of(0, 0, 7) })).toBe(7);
    expect(uintOf({ number: 14, value: new Uint8Array(8).fill(255) })).toBeUndefined();
    expect(stringOf(stringOption(11, 'ö'))).toBe('ö');
    expect(stringOf({ number: 11, value: Uint8Array.of(0xff) })).toBeUndefined();
  });

  it('drops elective options that do not fit their rule and names the critical one', () => {
    const understood = new Set<number>([OPTION.uriPath, OPTION.accept]);
    const unknown = { number: 65_000, value: new Uint8Array(3) };
    const path = stringOption(OPTION.uriPath, 'a');
    const maxAge = { number: OPTION.maxAge, value: new Uint8Array(5) };
    expect(recognised([path, path, maxAge, unknown], understood)).toEqual({
      ok: true,
      value: [path, path, unknown],
    });
    const accept = uintOption(OPTION.accept, 60);
    expect(recognised([accept, accept], understood)).toEqual({
      ok: false,
      problem: { number: OPTION.accept },
    });
    const long = { number: OPTION.uriPath, value: new Uint8Array(256) };
    expect(recognised([long], understood)).toEqual({ ok: false, problem: { number: OPTION.uriPath } });
    expect(recognised([{ number: 9, value: new Uint8Array(0) }], understood)).toEqual({
      ok: false,
      problem: { number: 9 },
    });
  });

  it('writes and reads block options; SZX 7 is reserved', () => {
    // RFC 7959, section 2.2: 1/more/128 is 0x1b.
    const block = { num: 1, more: true, size: 128 } as const;
    expect([...blockOption(OPTION.block1, block).value]).toEqual([0x1b]);
    expect(blockOf([blockOption(OPTION.block1, block)], OPTION.block1)).toEqual({ ok: true, value: block });
    expect(blockOption(OPTION.block2, { num: 0, more: false, size: 16 }).value.length).toBe(0);
    expect(blockOf([uintOption(OPTION.block2, 7)], OPTION.block2)).toEqual({
      ok: false,
      problem: 'reserved',
    });
  });

  it('keys an operation on method, cache-key options and Request-Tag, not on the block', () => {
    const path = stringOption(OPTION.uriPath, 'a');
    const key = operationKey(3, [path]);
    expect(operationKey(3, [path, uintOption(OPTION.block1, 16), uintOption(OPTION.size1, 5)])).toBe(key);
    expect(operationKey(3, [path, uintOption(OPTION.observe, 0)])).toBe(key);
    expect(operationKey(3, [path, uintOption(OPTION.requestTag, 1)])).not.toBe(key);
    expect(operationKey(2, [path])).not.toBe(key);
  });

  it('names codes', () => {
    expect([1, 0x45, 0x8d, 0, 0xe1].map(codeLabel)).toEqual(['GET', '2.05', '4.13', '0.00', '7.01']);
  });
});
