import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { concat } from '../../src/base/bytes.ts';
import { AX25_OVERHEAD, decodeAx25, encodeAx25, parseCallsign } from '../../src/link/ax25.ts';
import { encodeKiss, KissDecoder } from '../../src/link/kiss.ts';
import { encodeSlip, SlipDecoder } from '../../src/link/slip.ts';

const MAX = 64;
/** Bytes of which many mean something to the framing. */
const byte = fc.oneof(fc.constantFrom(0xc0, 0xdb, 0xdc, 0xdd, 0x00), fc.integer({ min: 0, max: 255 }));
const bytesOf = (min: number, max: number): fc.Arbitrary<Uint8Array> =>
  fc.array(byte, { minLength: min, maxLength: max }).map((all) => Uint8Array.from(all));
const frames = fc.array(bytesOf(1, MAX), { maxLength: 6 });
const cuts = fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 10 });

/** A stream in pieces of these lengths, over and over. */
function pieces(stream: Uint8Array, lengths: readonly number[]): Uint8Array[] {
  const all: Uint8Array[] = [];
  for (let at = 0, i = 0; at < stream.length; i++) {
    const length = lengths[i % lengths.length]!;
    all.push(stream.subarray(at, at + length));
    at += length;
  }
  return all;
}

describe('SLIP', () => {
  it('brings back every frame, however the stream is cut', () => {
    fc.assert(
      fc.property(frames, cuts, (sent, lengths) => {
        const decoder = new SlipDecoder(MAX);
        const stream = concat(...sent.map(encodeSlip));
        expect(pieces(stream, lengths).flatMap((piece) => decoder.push(piece))).toEqual(sent);
        expect(decoder.dropped).toBe(0);
      }),
    );
  });

  it('has the bytes of RFC 1055', () => {
    expect([...encodeSlip(Uint8Array.of(0xc0, 1, 0xdb))]).toEqual([0xc0, 0xdb, 0xdc, 1, 0xdb, 0xdd, 0xc0]);
  });

  it('takes any bytes, yields nothing longer than allowed, and finds the next frame after them', () => {
    fc.assert(
      fc.property(bytesOf(0, 500), bytesOf(1, MAX), cuts, (noise, frame, lengths) => {
        const decoder = new SlipDecoder(MAX);
        const stream = concat(noise, encodeSlip(frame));
        const found = pieces(stream, lengths).flatMap((piece) => decoder.push(piece));
        for (const { length } of found) expect(length).toBeLessThanOrEqual(MAX);
        expect(found.at(-1)).toEqual(frame);
      }),
    );
  });

  it('drops and counts what is too long or escaped wrongly', () => {
    const decoder = new SlipDecoder(2);
    expect(decoder.push(encodeSlip(Uint8Array.of(1, 2, 3)))).toEqual([]);
    expect(decoder.push(Uint8Array.of(1, 0xdb, 7, 2, 0xc0))).toEqual([]);
    expect(decoder.push(Uint8Array.of(1, 0xdb, 0xc0))).toEqual([]);
    expect(decoder.dropped).toBe(3);
    expect(decoder.push(Uint8Array.of(0xdb, 0xdc, 9, 0xc0))).toEqual([Uint8Array.of(0xc0, 9)]);
  });
});

describe('KISS', () => {
  it('brings back every frame and its port, however the stream is cut', () => {
    const frame = fc.record({ port: fc.integer({ min: 0, max: 15 }), data: bytesOf(0, MAX) });
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 6 }), cuts, (sent, lengths) => {
        const decoder = new KissDecoder(MAX);
        const stream = concat(...sent.map(encodeKiss));
        expect(pieces(stream, lengths).flatMap((piece) => decoder.push(piece))).toEqual(sent);
      }),
    );
  });

  it('has a command byte, which is escaped as well', () => {
    expect([...encodeKiss({ port: 12, data: Uint8Array.of(7) })]).toEqual([0xc0, 0xdb, 0xdc, 7, 0xc0]);
  });

  it('takes any bytes, and ignores commands that are not data', () => {
    fc.assert(
      fc.property(bytesOf(0, 500), (noise) => {
        for (const { data } of new KissDecoder(MAX).push(noise)) expect(data.length).toBeLessThanOrEqual(MAX);
      }),
    );
    const decoder = new KissDecoder(MAX);
    expect(decoder.push(encodeSlip(Uint8Array.of(0x01, 30)))).toEqual([]);
    expect(decoder.ignored).toBe(1);
  });
});

describe('AX.25', () => {
  const callsign = fc
    .tuple(fc.stringMatching(/^[A-Z0-9]{1,6}$/), fc.integer({ min: 0, max: 15 }))
    .map(([call, ssid]) => (ssid === 0 ? call : `${call}-${ssid}`));

  it('brings back every frame', () => {
    fc.assert(
      fc.property(callsign, callsign, bytesOf(0, 256), (destination, source, data) => {
        const frame = encodeAx25({ destination, source, data });
        expect(frame.length).toBe(data.length + AX25_OVERHEAD);
        expect(decodeAx25(frame)).toEqual({ ok: true, value: { destination, source, data } });
      }),
    );
  });

  it('has the bytes of a UI command frame without layer 3', () => {
    const frame = encodeAx25({ destination: 'N0CALL-7', source: 'K1AB', data: Uint8Array.of(0x21) });
    expect(Buffer.from(frame).toString('hex')).toBe(
      // N 0 C A L L, command and SSID 7; K 1 A B and two spaces, the last address; UI; no layer 3.
      '9c6086829898ee966282844040' + '61' + '03f0' + '21',
    );
  });

  it('takes any bytes as a value or a problem, never more', () => {
    fc.assert(
      fc.property(callsign, callsign, bytesOf(0, 40), bytesOf(0, 40), (destination, source, data, noise) => {
        decodeAx25(noise);
        const frame = encodeAx25({ destination, source, data });
        for (const [i, value] of noise.entries()) frame[(i * 7) % frame.length]! ^= value;
        decodeAx25(frame);
        for (let cut = 0; cut < AX25_OVERHEAD; cut++)
          expect(decodeAx25(encodeAx25({ destination, source, data }).subarray(0, cut)).ok).toBe(false);
      }),
    );
  });

  it('takes a frame that was repeated, and not one that is still to be', () => {
    const direct = encodeAx25({ destination: 'A', source: 'B', data: Uint8Array.of(1) });
    const through = (repeated: boolean): Uint8Array => {
      const repeater = encodeAx25({ destination: 'R', source: 'R', data: Uint8Array.of() }).subarray(7, 14);
      const frame = concat(direct.subarray(0, 14), repeater, direct.subarray(14));
      frame[13]! &= ~1;
      if (repeated) frame[20]! |= 0x80;
      return frame;
    };
    expect(decodeAx25(through(true))).toMatchObject({ ok: true, value: { source: 'B' } });
    expect(decodeAx25(through(false)).ok).toBe(false);
  });

  it('knows callsigns', () => {
    expect(parseCallsign('n0call-7')).toBe('N0CALL-7');
    expect(parseCallsign('N0CALL-0')).toBe('N0CALL');
    for (const wrong of ['', 'TOOLONG', 'A-16', 'A-', 'A B', 'Ä', 'A-1-2'])
      expect(parseCallsign(wrong), wrong).toBeUndefined();
  });
});
