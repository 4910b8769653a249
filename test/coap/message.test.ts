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

const REFUSED: readonly [name: string, wire: string, reason: string, reset: boolean][] = [
  ['three bytes', '40 01 00', 'short', false],
  ['version 0', '00 01 0001', 'version', false],
  ['version 2', '80 01 0001', 'version', false],
  ['a token of nine bytes', '49 01 0001 000102030405060708', 'token', true],
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
    expect(decode(bytesOf(wire))).toEqual({ ok: true, value: message });
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
    token: fc.uint8Array({ maxLength: 8 }),
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
        expect(decode(encode(one))).toEqual({ ok: true, value: one });
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
        // It writes option 0 as NaN; everything else has to be the same to the byte.
        fc.pre(one.options.every(({ number }) => number !== 0));
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
        const result = decode(bytes);
        if (!result.ok) return;
        accepted++;
        expect(decode(encode(result.value))).toEqual(result);
      }),
      { seed: 3, numRuns: 5000 },
    );
    expect(accepted).toBeGreaterThan(100);
  });

  it('shares no memory with the datagram', () => {
    const wire = bytesOf('41 01 0001 aa b1 61 ff 62');
    const result = decode(wire);
    wire.fill(0);
    expect(result).toMatchObject({ value: { token: Uint8Array.of(0xaa), payload: utf8('b') } });
  });

  it('asserts that what it is to write can be written', () => {
    const good: Message = { type: 'CON', code: 1, id: 0, token: none, options: [], payload: none };
    expect(() => encode({ ...good, id: 65_536 })).toThrow('message id');
    expect(() => encode({ ...good, code: 256 })).toThrow('code');
    expect(() => encode({ ...good, token: new Uint8Array(9) })).toThrow('token');
    expect(() => encode({ ...good, code: 0, payload: utf8('x') })).toThrow('empty message');
    expect(() => encode({ ...good, options: [{ number: 65_536, value: none }] })).toThrow('option number');
  });
});
