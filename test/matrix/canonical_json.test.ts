import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fromUtf8 } from '../../src/base/bytes.ts';
import { canonicalBytes, canonicalJson, compareCodePoints } from '../../src/matrix/canonical_json.ts';

/** What a well-formed value is written as. */
const text = (value: unknown): string => {
  const result = canonicalJson(value);
  if (!result.ok) throw new Error(result.problem);
  return result.value;
};

describe('canonical JSON', () => {
  // Appendices, "Canonical JSON", "Examples".
  it.each([
    ['{}', '{}'],
    ['{"one": 1, "two": "Two"}', '{"one":1,"two":"Two"}'],
    ['{"b": "2", "a": "1"}', '{"a":"1","b":"2"}'],
    ['{"b":"2","a":"1"}', '{"a":"1","b":"2"}'],
    [
      `{"auth": {"success": true, "mxid": "@john.doe:example.com", "profile": {"display_name": "John Doe", "three_pids": [
        {"medium": "email", "address": "john.doe@example.org"}, {"medium": "msisdn", "address": "123456789"}]}}}`,
      '{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":[{"address":"john.doe@example.org","medium":"email"},{"address":"123456789","medium":"msisdn"}]},"success":true}}',
    ],
    ['{"a": "日本語"}', '{"a":"日本語"}'],
    ['{"本": 2, "日": 1}', '{"日":1,"本":2}'],
    ['{"a": "\\u65E5"}', '{"a":"日"}'],
    ['{"a": null}', '{"a":null}'],
    ['{"a": -0, "b": 1e10}', '{"a":0,"b":10000000000}'],
  ])('writes %s as the specification does', (source, expected) =>
    expect(text(JSON.parse(source))).toBe(expected),
  );

  it('sorts keys by code point and not by UTF-16 code unit', () => {
    // U+FF5E comes before U+1F600, whose first code unit is D83D.
    expect(text({ '\u{1f600}': 1, '\uff5e': 2, '\ue000': 3, z: 4, 10: 5, 9: 6, '': 7, '\ud7ff': 8 })).toBe(
      '{"":7,"10":5,"9":6,"z":4,"\ud7ff":8,"\ue000":3,"\uff5e":2,"\u{1f600}":1}',
    );
  });

  it('puts the first code point that takes two units after the last that takes one', () => {
    expect(text({ '\u{10000}': 1, '\uffff': 2 })).toBe('{"\uffff":2,"\u{10000}":1}');
  });

  it('escapes what the grammar has escaped, and nothing else', () => {
    expect(text('"\\\b\t\n\f\r\u0000\u001f\u007f\u2028/é\u{1f600}')).toBe(
      '"\\"\\\\\\b\\t\\n\\f\\r\\u0000\\u001f\u007f\u2028/é\u{1f600}"',
    );
  });

  it('keeps a key that JavaScript gives a meaning', () => {
    expect(text(JSON.parse('{"constructor":1,"__proto__":{"a":[]}}'))).toBe(
      '{"__proto__":{"a":[]},"constructor":1}',
    );
  });

  it.each([
    ['a fraction', 1.5],
    ['2^53', 2 ** 53],
    ['-2^53', -(2 ** 53)],
    ['not a number', NaN],
    ['infinity', Infinity],
    ['undefined in an object', { a: undefined }],
    ['a function', () => 1],
    ['a bigint', 1n],
    ['a lone surrogate', ['\ud800']],
    ['a lone surrogate in a key', { '\udfff': 1 }],
  ])('refuses %s', (_name, value) => expect(canonicalJson(value).ok).toBe(false));

  it('takes integers to the ends of their range', () => {
    expect(text([2 ** 53 - 1, -(2 ** 53) + 1])).toBe('[9007199254740991,-9007199254740991]');
  });

  it('refuses nesting that would run it out of stack, and takes what is short of that', () => {
    const nested = (depth: number): unknown => JSON.parse('['.repeat(depth) + ']'.repeat(depth));
    expect(canonicalJson(nested(1_000)).ok).toBe(true);
    expect(canonicalJson(nested(1_001)).ok).toBe(false);
    expect(canonicalJson(nested(100_000)).ok).toBe(false);
    expect(() => canonicalBytes(nested(1_001))).toThrow('assertion');
  });

  it('agrees with a slow twin that sorts by the UTF-8 of the keys', () => {
    const slow = (value: unknown): string => {
      if (Array.isArray(value)) return `[${value.map(slow).join()}]`;
      if (typeof value !== 'object' || value === null) return JSON.stringify(value);
      const keys = Object.keys(value).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
      return `{${keys.map((key) => `${JSON.stringify(key)}:${slow((value as Record<string, unknown>)[key])}`).join()}}`;
    };
    const keys = fc.string({ unit: 'binary' });
    const { tree } = fc.letrec((tie) => ({
      tree: fc.oneof(
        { maxDepth: 4 },
        fc.constant(null),
        fc.boolean(),
        fc.maxSafeInteger(),
        keys,
        fc.array(tie('tree')),
        fc.dictionary(keys, tie('tree')),
      ),
    }));
    fc.assert(
      fc.property(tree, (value) => {
        expect(text(value)).toBe(slow(value));
        expect(text(JSON.parse(text(value)))).toBe(text(value));
        expect(fromUtf8(canonicalBytes(value))).toBe(text(value));
      }),
      { seed: 12 },
    );
  });

  it('compares texts as their code points compare', () => {
    const strings = fc.string({ unit: 'binary' });
    fc.assert(
      fc.property(strings, strings, (a, b) => {
        expect(Math.sign(compareCodePoints(a, b))).toBe(Buffer.compare(Buffer.from(a), Buffer.from(b)));
      }),
      { seed: 12 },
    );
  });
});
