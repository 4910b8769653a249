import { describe, expect, it } from 'vitest';
import { blockOf, blockOption, operationKey } from '../../src/coap/block.ts';
import { codeLabel } from '../../src/coap/codes.ts';
import { decode, encode, NO_BYTES } from '../../src/coap/message.ts';
import {
  isCritical,
  isNoCacheKey,
  isUnsafe,
  maxAgeOf,
  OPTION,
  OPTION_RULES,
  type Option,
  optionName,
  recognised,
  stringOf,
  stringOption,
  uintOf,
  uintOption,
} from '../../src/coap/options.ts';

type Row = readonly [
  number: number,
  name: string,
  bits: string,
  format: string,
  length: string,
  request: string,
  response: string,
];

/**
 * Critical, unsafe to forward, no cache-key; format and bytes; `-` not defined, `1` once, `*` repeatable, in requests
 * and in responses. Written from RFC 7252 (table 4, sections 5.8 to 5.10), 7641 (section 2), 7959 (tables 1 and 4), 7967
 * (section 2), 8613 (section 2), 8768 (section 3), 9175 (tables 1 and 2), 9177 (table 1), 9668 (section 3.1).
 */
const TABLE: readonly Row[] = [
  [1, 'If-Match', 'C', 'opaque', '0-8', '*', '-'],
  [3, 'Uri-Host', 'CU', 'string', '1-255', '1', '-'],
  [4, 'ETag', '', 'opaque', '1-8', '*', '1'],
  [5, 'If-None-Match', 'C', 'empty', '0-0', '1', '-'],
  [6, 'Observe', 'U', 'uint', '0-3', '1', '1'],
  [7, 'Uri-Port', 'CU', 'uint', '0-2', '1', '-'],
  [8, 'Location-Path', '', 'string', '0-255', '-', '*'],
  [9, 'OSCORE', 'C', 'opaque', '0-255', '1', '1'],
  [11, 'Uri-Path', 'CU', 'string', '0-255', '*', '-'],
  [12, 'Content-Format', '', 'uint', '0-2', '1', '1'],
  [14, 'Max-Age', 'U', 'uint', '0-4', '-', '1'],
  [15, 'Uri-Query', 'CU', 'string', '0-255', '*', '-'],
  [16, 'Hop-Limit', '', 'uint', '1-1', '1', '-'],
  [17, 'Accept', 'C', 'uint', '0-2', '1', '-'],
  [19, 'Q-Block1', 'CU', 'uint', '0-3', '1', '1'],
  [20, 'Location-Query', '', 'string', '0-255', '-', '*'],
  [21, 'EDHOC', 'C', 'empty', '0-0', '1', '-'],
  [23, 'Block2', 'CU', 'uint', '0-3', '1', '1'],
  [27, 'Block1', 'CU', 'uint', '0-3', '1', '1'],
  [28, 'Size2', 'N', 'uint', '0-4', '1', '1'],
  [31, 'Q-Block2', 'CU', 'uint', '0-3', '*', '1'],
  [35, 'Proxy-Uri', 'CU', 'string', '1-1034', '1', '-'],
  [39, 'Proxy-Scheme', 'CU', 'string', '1-255', '1', '-'],
  [60, 'Size1', 'N', 'uint', '0-4', '1', '1'],
  [252, 'Echo', 'N', 'opaque', '1-40', '1', '1'],
  [258, 'No-Response', 'U', 'uint', '0-1', '1', '-'],
  [292, 'Request-Tag', '', 'opaque', '0-8', '*', '-'],
];

const EVERYTHING = new Set(TABLE.map(([number]) => number));
const ofLength = (number: number, length: number): Option => ({ number, value: new Uint8Array(length) });
const keptOf = (
  options: readonly Option[],
  kind: 'request' | 'response',
): readonly Option[] | { number: number } => {
  const result = recognised(options, EVERYTHING, kind);
  return result.ok ? result.value : result.problem;
};
/** What is left of `options` where `number` in them is not recognised. */
const unrecognised = (number: number, rest: readonly Option[]): readonly Option[] | { number: number } =>
  isCritical(number) ? { number } : rest;

describe.each(TABLE)('option %i, %s', (number, name, bits, format, length, request, response) => {
  const [min, max] = length.split('-').map(Number) as [number, number];

  it(`has the name, the format ${format}, and the class that its number says: "${bits}"`, () => {
    expect(optionName(number)).toBe(name);
    expect(OPTION_RULES.get(number)?.format).toBe(format);
    const noCacheKey = isNoCacheKey(number) && !isUnsafe(number);
    const found = `${isCritical(number) ? 'C' : ''}${isUnsafe(number) ? 'U' : ''}${noCacheKey ? 'N' : ''}`;
    expect(found).toBe(bits);
  });

  for (const [kind, count] of [
    ['request', request],
    ['response', response],
  ] as const) {
    const once = [ofLength(number, max)];
    if (count === '-') {
      it(`is not recognised in a ${kind}`, () => {
        expect(keptOf(once, kind)).toEqual(unrecognised(number, []));
      });
      continue;
    }
    it(`has ${min} to ${max} bytes in a ${kind}; of another length it is not recognised`, () => {
      for (const bytes of [min, max]) {
        expect(keptOf([ofLength(number, bytes)], kind)).toEqual([ofLength(number, bytes)]);
      }
      expect(keptOf([ofLength(number, max + 1)], kind)).toEqual(unrecognised(number, []));
      if (min > 0) expect(keptOf([ofLength(number, min - 1)], kind)).toEqual(unrecognised(number, []));
    });
    it(`${count === '*' ? 'may stand' : 'is not recognised where it stands'} a second time in a ${kind}`, () => {
      const twice = [...once, ofLength(number, max)];
      expect(keptOf(twice, kind)).toEqual(count === '*' ? twice : unrecognised(number, once));
    });
  }

  if (isCritical(number)) {
    it('is the problem where nobody acts on it', () => {
      const kind = request === '-' ? 'response' : 'request';
      expect(recognised([ofLength(number, max)], new Set(), kind)).toEqual({
        ok: false,
        problem: { number },
      });
    });
  }
});

describe('the table', () => {
  it('has a rule for each option that has a name, and no other', () => {
    const numbers = TABLE.map(([number]) => number);
    expect([...OPTION_RULES.keys()]).toEqual(numbers);
    expect(Object.values(OPTION)).toEqual(numbers);
  });
});

describe('what is not recognised', () => {
  it('is handed on where it is elective and of an unknown number, and the problem where it is critical', () => {
    const elective = ofLength(65_000, 3);
    expect(recognised([elective, elective], new Set(), 'request')).toEqual({
      ok: true,
      value: [elective, elective],
    });
    expect(recognised([ofLength(65_001, 0)], new Set(), 'request')).toEqual({
      ok: false,
      problem: { number: 65_001 },
    });
    expect(recognised([ofLength(65_001, 0)], new Set([65_001]), 'response')).toMatchObject({ ok: true });
  });

  it('does not take what is recognised with it', () => {
    const path = stringOption(OPTION.uriPath, 'a');
    const format = uintOption(OPTION.contentFormat, 60);
    const maxAge = ofLength(OPTION.maxAge, 5);
    expect(keptOf([path, path, format, maxAge], 'request')).toEqual([path, path, format]);
  });

  it('includes the second of an elective option whose first had a wrong length', () => {
    const [long, right] = [ofLength(OPTION.contentFormat, 3), ofLength(OPTION.contentFormat, 2)];
    expect(keptOf([long, right], 'request')).toEqual([]);
  });

  it('is the first critical one that does not fit', () => {
    const accept = uintOption(OPTION.accept, 60);
    expect(keptOf([accept, accept, ofLength(OPTION.block1, 4)], 'request')).toEqual({
      number: OPTION.accept,
    });
  });
});

describe('what is recognised', () => {
  it('does not change with the datagram that it came in', () => {
    const options = [stringOption(OPTION.uriPath, 'a'), ofLength(65_000, 100)];
    const datagram = encode({ type: 'CON', code: 1, id: 1, token: NO_BYTES, options, payload: NO_BYTES });
    const message = decode(datagram);
    const kept = keptOf(message.ok ? message.value.options : [], 'request');
    datagram.fill(0xff);
    expect(kept).toEqual(options);
  });
});

describe('option values', () => {
  it('are integers in the fewest bytes, read with leading zeros', () => {
    expect(uintOption(12, 0).value.length).toBe(0);
    expect([...uintOption(12, 60).value]).toEqual([60]);
    expect([...uintOption(14, 65_536).value]).toEqual([1, 0, 0]);
    expect([...uintOption(14, 2 ** 32 - 1).value]).toEqual([255, 255, 255, 255]);
    expect(uintOf({ number: 14, value: Uint8Array.of(0, 0, 7) })).toBe(7);
    expect(uintOf({ number: 14, value: new Uint8Array(4) })).toBe(0);
    expect(uintOf({ number: 14, value: new Uint8Array(8).fill(255) })).toBeUndefined();
  });

  it('are text as it was sent: composed and decomposed forms stay apart, a leading U+FEFF stays', () => {
    for (const text of ['', '\u00f6', 'o\u0308', '\ufeffa', 'a/b?c', '\u{1f6f0}']) {
      expect(stringOf(stringOption(OPTION.uriPath, text))).toBe(text);
    }
    expect(stringOption(11, '\u00f6').value).not.toEqual(stringOption(11, 'o\u0308').value);
  });

  it('are no text where they are not UTF-8: cut off, too long a form, a surrogate, no character', () => {
    for (const bytes of [[0xff], [0xc3], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80]]) {
      expect(stringOf({ number: OPTION.uriPath, value: Uint8Array.from(bytes) })).toBeUndefined();
    }
  });

  it('of Max-Age are a minute where there is none', () => {
    expect(maxAgeOf([])).toBe(60);
    expect(maxAgeOf([uintOption(OPTION.maxAge, 0)])).toBe(0);
    expect(maxAgeOf([uintOption(OPTION.maxAge, 2 ** 32 - 1)])).toBe(2 ** 32 - 1);
  });
});

describe('blocks and codes', () => {
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
