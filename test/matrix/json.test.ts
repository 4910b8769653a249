import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { canonicalJson } from '../../src/matrix/canonical_json.ts';
import { hasLooseNumbers, nestsDeeperThan, numberOf, parseJson } from '../../src/matrix/json.ts';

/** As an event of room versions 1 to 5 is hashed. */
function hashed(json: string): string {
  const text = canonicalJson(parseJson(json), 'any');
  return text.ok ? text.value : text.problem;
}

describe('numbers that JSON.parse loses', () => {
  // What Python's json.dumps(json.loads(...)) writes.
  it.each([
    ['1', '1', false],
    ['-0', '0', false],
    ['1.0', '1.0', true],
    ['1e3', '1000.0', true],
    ['-1E+2', '-100.0', true],
    ['-0.0', '-0.0', true],
    ['0e5', '0.0', true],
    ['1e15', '1000000000000000.0', true],
    ['1e16', '1e+16', true],
    ['123456789012345678.0', '1.2345678901234568e+17', true],
    ['1.5e300', '1.5e+300', true],
    ['50.57', '50.57', false],
    ['0.0001', '0.0001', false],
    ['0.00001', '1e-05', false],
    ['1.5e-7', '1.5e-07', false],
    ['5e-324', '5e-324', false],
    ['9007199254740991', '9007199254740991', false],
    ['9007199254740992', '9007199254740992', true],
    ['-9007199254740993', '-9007199254740993', true],
    ['1152921504606846977', '1152921504606846977', true],
    [`1${'0'.repeat(300)}`, `1${'0'.repeat(300)}`, true],
  ])('%s counts as %s', (json, expected, isLoose) => {
    expect(hashed(json)).toBe(expected);
    const value = parseJson(`{"a":[${json}]}`);
    expect(hasLooseNumbers(value)).toBe(isLoose);
    // Stored and sent on, it is still the same.
    expect(hashed(JSON.stringify(value))).toBe(`{"a":[${expected}]}`);
    expect(numberOf(parseJson(json))).toBe(Number(json));
    // From room version 6 on there is no such event.
    expect(canonicalJson(value).ok).toBe(!isLoose && Number.isInteger(Number(json)));
    expect(nestsDeeperThan(2, value)).toBe(false);
  });

  it.each(['1e400', '-1E400', `1${'0'.repeat(400)}`])('%s is refused', (json) =>
    expect(() => parseJson(`[${json}]`)).toThrow(SyntaxError),
  );

  it('are looked for outside of strings, whatever these hold', () => {
    for (const string of ['[1.0', '\\"', '\\\\', '\\\\\\",1.0,\\"', ':1.0,"a":'.replaceAll('"', '\\"')]) {
      expect(hasLooseNumbers(parseJson(`{"a":"${string}","b":2}`)), string).toBe(false);
      expect(hasLooseNumbers(parseJson(`{"a":"${string}","b":2.0}`)), string).toBe(true);
      expect(hasLooseNumbers(parseJson(`{"a":2.0,"b":"${string}"}`)), string).toBe(true);
    }
    for (const json of [' 1.0', '\n[\t1.0]', '{"a": 1.0}', '[0,\r\n1.0 ]'])
      expect(hasLooseNumbers(parseJson(json)), json).toBe(true);
  });

  it('count as integers where clients write them as fractions', () => {
    expect(parseJson('{"a":1.0,"b":[1e3,2.5]}', 'whole')).toEqual({ a: 1, b: [1000, 2.5] });
    expect(hasLooseNumbers(parseJson('[9007199254740993]', 'whole'))).toBe(true);
  });

  it('apart, it reads what JSON.parse reads', () =>
    fc.assert(
      fc.property(fc.json(), (json) => {
        const value = parseJson(json);
        if (!hasLooseNumbers(value)) expect(value).toEqual(JSON.parse(json));
        expect(JSON.parse(JSON.stringify(value))).toEqual(JSON.parse(JSON.stringify(JSON.parse(json))));
      }),
      { seed: 3, numRuns: 300 },
    ));
});
