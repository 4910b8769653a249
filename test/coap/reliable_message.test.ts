import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fromHex, hex } from '../../src/base/bytes.ts';
import { code } from '../../src/coap/codes.ts';
import { NO_BYTES } from '../../src/coap/message.ts';
import {
  abort,
  csm,
  decodeReliable,
  encodeReliable,
  ping,
  pong,
  type ReliableMessage,
  readSignal,
  SIGNAL,
} from '../../src/coap/reliable_message.ts';

const bytes = (maxLength: number, minLength = 0): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength, maxLength });

const message: fc.Arbitrary<ReliableMessage> = fc.record({
  code: fc.integer({ min: 1, max: 255 }),
  token: bytes(8),
  options: fc
    .array(fc.record({ number: fc.integer({ min: 0, max: 65_535 }), value: bytes(300) }), { maxLength: 5 })
    .map((options) => options.sort((a, b) => a.number - b.number)),
  payload: bytes(200),
});

const of = (text: string): Uint8Array => fromHex(text)!;

describe('messages over WebSocket (RFC 8323, section 4.2)', () => {
  it('come back as they were', () => {
    fc.assert(
      fc.property(message, (sent) => {
        const decoded = decodeReliable(encodeReliable(sent));
        if (!decoded.ok) throw new Error(decoded.problem);
        const { options, ...rest } = decoded.value;
        const { options: sentOptions, ...sentRest } = sent;
        expect(rest).toEqual(sentRest);
        expect(options.map(({ number, value }) => ({ number, value }))).toEqual(sentOptions);
      }),
    );
  });

  it('have a length of 0, a token length, a code, and then what a datagram has behind its id', () => {
    const get: ReliableMessage = {
      code: code(0, 1),
      token: Uint8Array.of(0x7a),
      options: [{ number: 11, value: of('74657374') }],
      payload: NO_BYTES,
    };
    expect(hex(encodeReliable(get))).toBe('01017ab474657374');
    const content = { ...get, code: code(2, 5), options: [], payload: Uint8Array.of(1) };
    expect(hex(encodeReliable(content))).toBe('01457aff01');
  });

  it('are a value or a problem, whatever the bytes', () => {
    fc.assert(
      fc.property(bytes(64), (any) => {
        const decoded = decodeReliable(any);
        if (decoded.ok) readSignal(decoded.value);
        else expect(decoded.problem).toBeTypeOf('string');
      }),
      { numRuns: 1000 },
    );
    for (const wrong of ['', '00', '1001', '4001', '0901', '0201aa', '0001ff'])
      expect(decodeReliable(of(wrong)).ok, wrong).toBe(false);
  });

  it('may be empty, which says nothing', () => {
    expect(decodeReliable(of('0000'))).toMatchObject({ ok: true, value: { code: 0 } });
  });
});

describe('signalling (RFC 8323, section 5)', () => {
  const read = (sent: ReliableMessage) => readSignal(decodeReliableOrFail(encodeReliable(sent)));
  const decodeReliableOrFail = (encoded: Uint8Array): ReliableMessage => {
    const decoded = decodeReliable(encoded);
    if (!decoded.ok) throw new Error(decoded.problem);
    return decoded.value;
  };
  const signal = (value: number, options: ReliableMessage['options']): ReliableMessage => ({
    code: value,
    token: NO_BYTES,
    options,
    payload: NO_BYTES,
  });

  it('introduces with 7.01: the largest message, and that blocks are known', () => {
    expect(hex(encodeReliable(csm(65_536)))).toBe('00e12301000020');
    expect(read(csm(65_536))).toEqual({
      ok: true,
      value: { kind: 'csm', maxMessageSize: 65_536, blockWise: true },
    });
    expect(read(signal(SIGNAL.csm, []))).toMatchObject({
      value: { maxMessageSize: undefined, blockWise: false },
    });
  });

  it('asks with 7.02 and answers with 7.03 under the same token', () => {
    const token = Uint8Array.of(1, 2);
    expect(read(ping(token))).toEqual({ ok: true, value: { kind: 'ping', token } });
    expect(read(pong(token))).toEqual({ ok: true, value: { kind: 'pong', token } });
  });

  it('releases with 7.04 and aborts with 7.05', () => {
    expect(read(signal(SIGNAL.release, [{ number: 4, value: Uint8Array.of(90) }]))).toEqual({
      ok: true,
      value: { kind: 'release', holdOffSeconds: 90 },
    });
    const sent = abort({ sentence: 'no', badCsmOption: 13 });
    expect(sent.options).toEqual([{ number: 2, value: Uint8Array.of(13) }]);
    expect(read(sent)).toEqual({ ok: true, value: { kind: 'abort', diagnostic: of('6e6f') } });
  });

  it('ignores what is elective, and refuses critical options and codes that are unknown', () => {
    const elective = { number: 1000, value: NO_BYTES };
    const critical = { number: 7, value: NO_BYTES };
    expect(read(signal(SIGNAL.ping, [elective])).ok).toBe(true);
    expect(read(signal(SIGNAL.csm, [critical]))).toMatchObject({ ok: false, problem: { badCsmOption: 7 } });
    expect(read(signal(SIGNAL.ping, [critical]))).toMatchObject({
      ok: false,
      problem: { badCsmOption: null },
    });
    expect(read(signal(code(7, 9), [])).ok).toBe(false);
  });
});
