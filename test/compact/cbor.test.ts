import { Decoder, Encoder } from 'cbor-x';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { concat, fromHex, hex, utf8 } from '../../src/base/bytes.ts';
import {
  decodeByteStringAt,
  decodeJson,
  decodeJsonAt,
  encodeByteString,
  encodeJson,
  isByteString,
  MAX_JSON_DEPTH,
  tooDeep,
} from '../../src/compact/cbor.ts';
import { canonicalText } from '../../src/matrix/canonical_json.ts';
import { hasLooseNumbers, type JsonValue, parseJson } from '../../src/matrix/json.ts';

/** Any JSON value, with the texts and numbers that encoders get wrong, and keys that objects get wrong. */
const json = fc.letrec<{ value: JsonValue; leaf: JsonValue }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 5, withCrossShrink: true },
    tie('leaf'),
    fc.array(tie('value'), { maxLength: 30 }),
    fc.dictionary(
      fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('__proto__', 'constructor', 'toJSON', '1', '')),
      tie('value'),
      { maxKeys: 30, noNullPrototype: true },
    ),
  ),
  leaf: fc.oneof(
    fc.string({ unit: 'binary', maxLength: 300 }),
    fc.integer(),
    fc.maxSafeInteger(),
    fc.double({ noNaN: true, noDefaultInfinity: true }).map((x) => (Object.is(x, -0) ? 0 : x)),
    fc.constantFrom(2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1, -(2 ** 53) + 1, 1.5, 1e300, 2 ** 53, 2 ** 64),
    fc.boolean(),
    fc.constant(null),
    fc.constant('\ufeffbom'),
  ),
})).value;

const bytesOf = (text: string): Uint8Array => fromHex(text.replaceAll(' ', ''))!;
const problem = (text: string): unknown => {
  const result = decodeJson(bytesOf(text));
  return result.ok ? `accepted ${JSON.stringify(result.value)}` : result.problem;
};

describe('JSON in CBOR', () => {
  test('comes back as it was, whatever it is', () => {
    fc.assert(
      fc.property(json, (value) => {
        // As text: the order of keys is part of what a client may see.
        const back = decodeJson(encodeJson(value));
        expect(back.ok && JSON.stringify(back.value)).toBe(JSON.stringify(value));
      }),
      { seed: 1, numRuns: 700 },
    );
  });

  test('means the same to another implementation, both ways', () => {
    const encoder = new Encoder({ useRecords: false, mapsAsObjects: true, variableMapSize: true });
    const decoder = new Decoder({ useRecords: false, mapsAsObjects: true });
    const plain = json.filter((value) => !/__proto__|\\u0000/.test(JSON.stringify(value)));
    fc.assert(
      fc.property(plain, (value) => {
        expect(JSON.stringify(decoder.decode(encodeJson(value)), bigToNumber)).toBe(JSON.stringify(value));
        const theirs = decodeJson(encoder.encode(value));
        expect(theirs.ok && JSON.stringify(theirs.value)).toBe(JSON.stringify(value));
      }),
      { seed: 2, numRuns: 500 },
    );
  });

  test.each([
    ['00', 0],
    ['17', 23],
    ['18 18', 24],
    ['1a 00 0f 42 40', 1000000],
    ['1b 00 00 00 e8 d4 a5 10 00', 1000000000000],
    ['1b 00 1f ff ff ff ff ff ff', 9007199254740991],
    ['20', -1],
    ['39 03 e7', -1000],
    ['fb 3f f1 99 99 99 99 99 9a', 1.1],
    ['fa 7f 7f ff ff', 3.4028234663852886e38],
    ['f4', false],
    ['f6', null],
    ['62 c3 bc', undefined],
    ['64 f0 90 85 91', '\ud800\udd51'],
    ['83 01 82 02 03 82 04 05', [1, [2, 3], [4, 5]]],
    ['a2 61 61 01 61 62 82 02 03', { a: 1, b: [2, 3] }],
  ])('has the bytes %s of RFC 8949, appendix A', (text, value) => {
    if (value === undefined) return expect(problem(text)).not.toBeUndefined();
    expect(hex(encodeJson(value))).toBe(text.replaceAll(' ', ''));
    expect(decodeJson(bytesOf(text))).toStrictEqual({ ok: true, value });
  });

  test.each([
    ['f9 3c 00', 1],
    ['f9 00 01', 2 ** -24],
    ['f9 c4 00', -4],
    ['9f 01 82 02 03 9f 04 05 ff ff', [1, [2, 3], [4, 5]]],
    ['bf 61 61 01 61 62 9f 02 03 ff ff', { a: 1, b: [2, 3] }],
    ['7f 65 73 74 72 65 61 64 6d 69 6e 67 ff', 'streaming'],
    ['9f ff', []],
    ['bf ff', {}],
    ['18 01', 1],
  ])('is also read from %s, which we would write otherwise', (text, value) => {
    expect(decodeJson(bytesOf(text))).toStrictEqual({ ok: true, value });
  });

  test.each([
    ['1b 00 20 00 00 00 00 00 00', '9007199254740992'],
    ['3b 00 1f ff ff ff ff ff ff', '-9007199254740992'],
    ['1b ff ff ff ff ff ff ff ff', '18446744073709551615'],
    ['3b ff ff ff ff ff ff ff ff', '-18446744073709551616'],
    ['c2 49 01 00 00 00 00 00 00 00 00', '18446744073709551616'],
    ['c3 49 01 00 00 00 00 00 00 00 00', '-18446744073709551617'],
    ['c4 82 00 01', '1.0'],
    ['c4 82 03 01', '1e3'],
    ['c4 82 00 38 29', '-42.0'],
    ['f9 80 00', '-0.0'],
    ['c4 82 18 64 1b 00 2b ca 91 b9 c8 bc 4d', '1.2326151234567245e116'],
  ])('%s stands for the number %s, which a number of ours is not', (text, json) => {
    const value = parseJson(json);
    expect(Buffer.from(encodeJson(value)).toString('hex')).toBe(text.replaceAll(' ', ''));
    const back = decodeJson(bytesOf(text));
    expect(back.ok && canonicalText(back.value, 'any')).toBe(canonicalText(value, 'any'));
    expect(back.ok && hasLooseNumbers(back.value)).toBe(true);
  });

  test.each([
    ['', 'truncated'],
    ['40', 'byte string'],
    ['81 41 00', 'byte string'],
    ['c0 60', 'tag'],
    ['d9 d9 f7 80', 'tag'],
    ['f7', 'simple value'],
    ['f8 20', 'simple value'],
    ['e0', 'simple value'],
    ['ff', 'simple value'],
    ['f9 7c 00', 'number out of range'],
    ['fb 7f f8 00 00 00 00 00 00', 'number out of range'],
    [`c2 58 81 01 ${'00 '.repeat(128).trim()}`, 'number out of range'],
    ['c2 48 01', 'truncated'],
    ['c2 01', 'tag'],
    ['c4 81 01', 'tag'],
    ['c4 82 41 00 01', 'tag'],
    ['c4 82 19 10 00 01', 'number out of range'],
    ['a1 01 02', 'key is not text'],
    ['a1 41 61 02', 'key is not text'],
    ['a2 61 61 01 61 61 02', 'duplicate key'],
    ['a2 69 5f 5f 70 72 6f 74 6f 5f 5f 01 69 5f 5f 70 72 6f 74 6f 5f 5f 02', 'duplicate key'],
    ['00 00', 'trailing bytes'],
    ['62 61', 'truncated'],
    ['82 01', 'truncated'],
    ['9f 01', 'truncated'],
    ['bf 61 61', 'truncated'],
    ['9b 00 00 00 ff ff ff ff ff', 'truncated'],
    ['bb 00 00 00 ff ff ff ff ff', 'truncated'],
    ['7b 00 00 00 ff ff ff ff ff', 'truncated'],
    ['61 ff', 'not UTF-8'],
    ['63 ed a0 80', 'not UTF-8'],
    ['7f 7f 61 61 ff ff', 'reserved header'],
    ['7f 41 61 ff', 'reserved header'],
    ['1c', 'reserved header'],
    ['1f', 'reserved header'],
    ['fc', 'simple value'],
  ])('%s is refused: %s', (text, expected) => {
    expect(problem(text)).toBe(expected);
  });

  test.each([
    ['a key twice', 'a2 61 61 01 61 61 02'],
    ['a byte that is not UTF-8', '61 ff'],
    ['half a surrogate pair', '63 ed a0 80'],
    ['a date', 'c1 00'],
    ['a bignum', 'c2 41 00'],
    ['an unknown tag', 'd9 ff f0 61 61'],
    ['an integer beyond 2^53-1', '1b ff ff ff ff ff ff ff ff'],
    ['a key that is no text', 'a1 01 02'],
    ['undefined', 'f7'],
    ['NaN', 'f9 7e 00'],
  ])('is refused where cbor-x takes it (docs/decisions/0003): %s', (_, text) => {
    const decoder = new Decoder({ useRecords: false, mapsAsObjects: true });
    expect(() => decoder.decode(bytesOf(text))).not.toThrow();
    expect(problem(text)).not.toBeUndefined();
  });

  test('has the shortest head for a text of any number of bytes', () => {
    for (const char of ['a', 'ü', '€', '😀', '\ud800'])
      for (const count of [
        0, 7, 8, 11, 12, 22, 23, 24, 63, 64, 85, 86, 127, 128, 255, 256, 21_845, 32_768, 65_536,
      ]) {
        const text = char.repeat(count);
        const bytes = Buffer.from(text);
        const head = bytes.length < 24 ? 1 : bytes.length < 256 ? 2 : bytes.length < 65_536 ? 3 : 5;
        const encoded = encodeJson([text, 1]);
        expect(encoded.length).toBe(1 + head + bytes.length + 1);
        expect(Buffer.compare(encoded.subarray(1 + head, -1), bytes)).toBe(0);
        expect(decodeJson(encoded)).toStrictEqual({ ok: true, value: [bytes.toString(), 1] });
      }
  });

  test('with a key __proto__ makes an own property and leaves the prototype alone', () => {
    const value = JSON.parse('{"__proto__": {"admin": true}}') as JsonValue;
    const back = decodeJson(encodeJson(value));
    if (!back.ok) throw new Error(back.problem);
    expect(Object.getPrototypeOf(back.value)).toBe(Object.prototype);
    expect(JSON.stringify(back.value)).toBe('{"__proto__":{"admin":true}}');
  });

  test('is nested exactly as deeply as the bound says', () => {
    const nested = (depth: number): JsonValue => (depth === 0 ? 1 : [nested(depth - 1)]);
    expect(tooDeep(nested(MAX_JSON_DEPTH))).toBe(false);
    expect(tooDeep(nested(MAX_JSON_DEPTH + 1))).toBe(true);
    expect(decodeJson(encodeJson(nested(MAX_JSON_DEPTH)))).toMatchObject({ ok: true });
    expect(() => encodeJson(nested(MAX_JSON_DEPTH + 1))).toThrow('assertion');
    const bottomless = new Uint8Array(1_000_000).fill(0x81);
    expect(decodeJson(bottomless)).toStrictEqual({ ok: false, problem: 'too deep' });
    expect(decodeJson(new Uint8Array(1_000_000).fill(0x9f))).toStrictEqual({
      ok: false,
      problem: 'too deep',
    });
  });

  test('is read up to the given size only', () => {
    expect(decodeJson(encodeJson('abcd'), 5)).toMatchObject({ ok: true });
    expect(decodeJson(encodeJson('abcde'), 5)).toStrictEqual({ ok: false, problem: 'too large' });
  });

  test('is never thrown at, whatever the bytes', () => {
    let valid = 0;
    fc.assert(
      fc.property(
        json,
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }),
        fc.nat(),
        (value, edits, cut) => {
          const bytes = encodeJson(value);
          for (const [at, byte] of edits) bytes[at % bytes.length] = byte;
          const result = decodeJson(cut % 4 === 0 ? bytes.subarray(0, cut % bytes.length) : bytes);
          if (result.ok) valid++;
        },
      ),
      { seed: 3, numRuns: 1500 },
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        decodeJson(bytes);
      }),
      { seed: 4, numRuns: 1500 },
    );
    expect(valid).toBeGreaterThan(100);
  });
});

describe('a CBOR sequence', () => {
  test('is read item by item, byte strings told apart', () => {
    const bytes = concat(encodeJson('/path'), encodeByteString(utf8('raw')), encodeJson({ a: 1 }));
    const path = decodeJsonAt(bytes, 0);
    if (!path.ok) throw new Error(path.problem);
    expect(path.value.value).toBe('/path');
    expect(isByteString(bytes, path.value.end)).toBe(true);
    const raw = decodeByteStringAt(bytes, path.value.end);
    if (!raw.ok) throw new Error(raw.problem);
    expect(raw.value.value).toStrictEqual(utf8('raw'));
    expect(isByteString(bytes, raw.value.end)).toBe(false);
    expect(decodeJsonAt(bytes, raw.value.end)).toStrictEqual({
      ok: true,
      value: { value: { a: 1 }, end: bytes.length },
    });
  });

  test('with a byte string that is cut off, or is none, is a problem', () => {
    expect(decodeByteStringAt(bytesOf('42 00'), 0)).toStrictEqual({ ok: false, problem: 'truncated' });
    expect(decodeByteStringAt(bytesOf('61 61'), 0)).toMatchObject({ ok: false });
    expect(decodeByteStringAt(bytesOf('5f 41 00 ff'), 0)).toMatchObject({ ok: false });
    expect(decodeByteStringAt(bytesOf(''), 0)).toMatchObject({ ok: false });
  });
});

function bigToNumber(_: string, value: unknown): unknown {
  return typeof value === 'bigint' ? Number(value) : value;
}
