import { generate, parse } from 'coap-packet';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fromHex, hex, utf8 } from '../../src/base/bytes.ts';
import { codeLabel } from '../../src/coap/codes.ts';
import { decode, encode, type Message } from '../../src/coap/message.ts';

const bytesOf = (text: string): Uint8Array => fromHex(text.replaceAll(' ', ''))!;
const none = new Uint8Array(0);

/** RFC 7252, appendix A, written out by hand from the figures. */
const EXAMPLES: readonly [name: string, wire: string, message: Message][] = [
  [
    'Figure 16: CON GET /temperature',
    '40 01 7d34 bb 74656d7065726174757265',
    {
      type: 'CON',
      code: 1,
      id: 0x7d34,
      token: none,
      options: [{ number: 11, value: utf8('temperature') }],
      payload: none,
    },
  ],
  [
    'Figure 16: ACK 2.05 "22.3 C"',
    '60 45 7d34 ff 32322e332043',
    { type: 'ACK', code: 0x45, id: 0x7d34, token: none, options: [], payload: utf8('22.3 C') },
  ],
  [
    'Figure 17: with a token',
    '41 01 7d35 20 bb 74656d7065726174757265',
    {
      type: 'CON',
      code: 1,
      id: 0x7d35,
      token: Uint8Array.of(0x20),
      options: [{ number: 11, value: utf8('temperature') }],
      payload: none,
    },
  ],
  [
    'Figure 20: an empty ACK',
    '60 00 7d38',
    { type: 'ACK', code: 0, id: 0x7d38, token: none, options: [], payload: none },
  ],
  [
    'Figure 23: an RST',
    '70 00 7d40',
    { type: 'RST', code: 0, id: 0x7d40, token: none, options: [], payload: none },
  ],
  [
    'Figure 21: NON with token 0x75',
    '51 45 addd 75 ff 32',
    { type: 'NON', code: 0x45, id: 0xaddd, token: Uint8Array.of(0x75), options: [], payload: utf8('2') },
  ],
  [
    'extended delta and length of one byte: option 60 with 13 bytes',
    '40 01 0001 dd 2f 00 61626364656667686970717273',
    {
      type: 'CON',
      code: 1,
      id: 1,
      token: none,
      options: [{ number: 60, value: bytesOf('61626364656667686970717273') }],
      payload: none,
    },
  ],
  [
    'extended delta of two bytes: option 292, then itself again empty',
    '40 01 0001 e1 0017 05 00',
    {
      type: 'CON',
      code: 1,
      id: 1,
      token: none,
      options: [
        { number: 292, value: Uint8Array.of(5) },
        { number: 292, value: none },
      ],
      payload: none,
    },
  ],
];

/** A message whose options have been read: what `decode` gives reads them on demand. */
function read(bytes: Uint8Array): ReturnType<typeof decode> {
  const result = decode(bytes);
  if (!result.ok) return result;
  const options = result.value.options.map(({ number, value }) => ({ number, value }));
  return { ok: true, value: { ...result.value, options } };
}

const REFUSED: readonly [name: string, wire: string, reason: string, reset: boolean][] = [
  ['three bytes', '40 01 00', 'short', false],
  ['version 0', '00 01 0001', 'version', false],
  ['version 2', '80 01 0001', 'version', false],
  ['a reserved token length', '4f 01 0001 000102030405060708090a0b0c0d0e0f', 'token', true],
  ['a token length whose extension is cut off', '4e 01 0001 00', 'token', true],
  ['a long token that is cut off', '4d 01 0001 00 000102030405060708090a0b', 'token', true],
  ['a token that is cut off', '44 01 0001 0001', 'token', true],
  ['an empty message with a token', '41 00 0001 aa', 'empty', true],
  ['an empty message with a payload', '40 00 0001 ff 00', 'empty', true],
  ['a payload marker without payload', '40 01 0001 ff', 'payload', true],
  ['a reserved delta', '40 01 0001 f0', 'option', true],
  ['a reserved length', '40 01 0001 1f', 'option', true],
  ['an extension that is cut off', '40 01 0001 e0 00', 'option', true],
  ['a value that is cut off', '40 01 0001 b5 61', 'option', true],
  ['an option number beyond 65535', '40 01 0001 e0 fef2 e0 0000', 'option', true],
];

describe('the message codec', () => {
  it.each(EXAMPLES)('reads and writes %s', (_name, wire, message) => {
    expect(read(bytesOf(wire))).toEqual({ ok: true, value: message });
    expect(hex(encode(message))).toBe(hex(bytesOf(wire)));
  });

  it.each(REFUSED)('refuses %s', (_name, wire, reason, reset) => {
    const header = reset ? { type: 'CON', id: 1 } : null;
    expect(decode(bytesOf(wire))).toEqual({ ok: false, problem: { reason, header } });
  });

  const message = fc.record({
    type: fc.constantFrom('CON', 'NON', 'ACK', 'RST') as fc.Arbitrary<Message['type']>,
    code: fc.integer({ min: 1, max: 255 }),
    id: fc.integer({ min: 0, max: 65_535 }),
    token: fc.oneof(
      { weight: 8, arbitrary: fc.uint8Array({ maxLength: 14 }) },
      { weight: 1, arbitrary: fc.uint8Array({ minLength: 260, maxLength: 280 }) },
    ),
    options: fc
      .array(
        fc.record({
          number: fc.oneof(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 65_535 })),
          value: fc.oneof(
            fc.uint8Array({ maxLength: 15 }),
            fc.uint8Array({ minLength: 260, maxLength: 300 }),
          ),
        }),
        { maxLength: 8 },
      )
      .map((options) => options.sort((a, b) => a.number - b.number)),
    payload: fc.uint8Array({ maxLength: 40 }),
  });

  it('reads back what it wrote', () => {
    fc.assert(
      fc.property(message, (one) => {
        expect(read(encode(one))).toEqual({ ok: true, value: one });
      }),
      { seed: 1, numRuns: 1000 },
    );
  });

  it('agrees with coap-packet about every message, both ways', () => {
    fc.assert(
      fc.property(message, (one) => {
        const theirs = generate(
          {
            code: codeLabel(one.code).includes('.') ? codeLabel(one.code) : `0.0${one.code}`,
            confirmable: one.type === 'CON',
            ack: one.type === 'ACK',
            reset: one.type === 'RST',
            messageId: one.id,
            token: Buffer.from(one.token),
            options: one.options.map(({ number, value }) => ({ name: number, value: Buffer.from(value) })),
            payload: Buffer.from(one.payload),
          },
          100_000,
        );
        // It writes option 0 as NaN, and a token of 269 bytes under the form of one extension byte with an extension of
        // two; everything else has to be the same to the byte.
        fc.pre(one.options.every(({ number }) => number !== 0) && one.token.length !== 269);
        expect(hex(encode(one))).toBe(theirs.toString('hex'));
        const parsed = parse(Buffer.from(encode(one)));
        expect(parsed.messageId).toBe(one.id);
        expect(parsed.options.map(({ value }) => value.toString('hex'))).toEqual(
          one.options.map(({ value }) => hex(value)),
        );
      }),
      { seed: 2, numRuns: 500 },
    );
  });

  it('never throws, and what it accepts it writes back to the same meaning', () => {
    let accepted = 0;
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), fc.boolean(), (bytes, likely) => {
        if (likely && bytes.length > 0) bytes[0] = 0x40 | (bytes[0]! & 0x33);
        const result = read(bytes);
        if (!result.ok) return;
        accepted++;
        expect(read(encode(result.value))).toEqual(result);
      }),
      { seed: 3, numRuns: 5000 },
    );
    expect(accepted).toBeGreaterThan(100);
  });

  it('reads tokens of any length that RFC 8974 has, and writes each in its shortest form', () => {
    const heads = [
      [0, '40'],
      [8, '48'],
      [12, '4c'],
      [13, '4d', '00'],
      [268, '4d', 'ff'],
      [269, '4e', '0000'],
      [65_804, '4e', 'ffff'],
    ] as const;
    for (const [length, first, extension = ''] of heads) {
      const token = new Uint8Array(length).fill(7);
      const wire = encode({ type: 'CON', code: 1, id: 1, token, options: [], payload: utf8('x') });
      expect(hex(wire.subarray(0, 4 + extension.length / 2))).toBe(`${first}010001${extension}`);
      expect(read(wire)).toMatchObject({ ok: true, value: { token, payload: utf8('x') } });
      // Of all but the empty one a byte can be missing.
      if (length > 0) expect(decode(wire.slice(0, -3))).toMatchObject({ problem: { reason: 'token' } });
    }
  });

  it('leaves the options that it is given in their order', () => {
    const options = [3, 11, 1, 11].map((number, i) => ({ number, value: Uint8Array.of(i) }));
    const given = structuredClone(options);
    const result = read(encode({ type: 'CON', code: 1, id: 1, token: none, options, payload: none }));
    expect(options).toEqual(given);
    expect(result).toMatchObject({ value: { options: [given[2], given[0], given[1], given[3]] } });
  });

  it('keeps a token and a read option apart from the datagram, and holds no more memory than twice the payload', () => {
    const options = [{ number: 65_000, value: new Uint8Array(30).fill(1) }];
    const token = new Uint8Array(30).fill(2);
    for (const [bytes, own] of [
      [10, true],
      [60, true],
      [80, false],
      [1024, false],
    ] as const) {
      const payload = new Uint8Array(bytes).fill(3);
      const wire = encode({ type: 'CON', code: 1, id: 1, token, options, payload });
      const result = read(wire);
      if (!result.ok) throw new Error(result.problem.reason);
      expect(result.value.payload.buffer.byteLength).toBeLessThanOrEqual(2 * bytes);
      wire.fill(0);
      expect(result.value).toMatchObject({ token, options });
      expect(result.value.payload[0]).toBe(own ? 3 : 0);
    }
  });

  it('asserts that what it is to write can be written', () => {
    const good: Message = { type: 'CON', code: 1, id: 0, token: none, options: [], payload: none };
    expect(() => encode({ ...good, id: 65_536 })).toThrow('message id');
    expect(() => encode({ ...good, code: 256 })).toThrow('code');
    expect(() => encode({ ...good, token: new Uint8Array(65_805) })).toThrow('token');
    expect(() => encode({ ...good, code: 0, payload: utf8('x') })).toThrow('empty message');
    expect(() => encode({ ...good, options: [{ number: 65_536, value: none }] })).toThrow('option number');
  });
});
