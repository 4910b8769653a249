import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { concat, fromHex, utf8 } from '../../src/base/bytes.ts';
import { readCapture } from '../../src/link/pcap.ts';
import { captureBlock, captureHeader } from '../../src/link/pcapng.ts';
import { udpOfFrame } from '../../src/link/udp_frame.ts';

const ETHERNET = 1;
const FRAME = fromHex(
  // Ethernet, IPv4 from 192.0.2.1 to 192.0.2.2, UDP from 5683 to 40000, an empty acknowledgement.
  '020000000002020000000001080045000020000040004011b6c8c0000201c000020216339c40000c000060007d34',
)!;

function words(littleEndian: boolean, ...values: readonly number[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(4 * values.length));
  for (const [i, value] of values.entries()) view.setUint32(4 * i, value, littleEndian);
  return new Uint8Array(view.buffer);
}

/** A pcap file with one frame. */
const pcap = (littleEndian: boolean, magic: number, fraction: number): Uint8Array =>
  concat(
    // Two halves in one word: the version 2.4 in either order.
    words(littleEndian, magic, littleEndian ? 0x0004_0002 : 0x0002_0004, 0, 0, 65_535, ETHERNET),
    words(littleEndian, 1_700_000_000, fraction, FRAME.length, FRAME.length),
    FRAME,
  );

const address = fc.oneof(
  fc.tuple(fc.ipV4(), fc.integer({ min: 0, max: 65_535 })).map(([host, port]) => `${host}:${port}`),
  fc.tuple(fc.ipV6(), fc.integer({ min: 0, max: 65_535 })).map(([host, port]) => `[${host}]:${port}`),
);

const written = fc.record({
  from: address,
  to: address,
  bytes: fc.uint8Array({ maxLength: 300 }),
  at: fc.integer({ min: 0, max: 4e12 }),
  comment: fc.string({ unit: 'grapheme', maxLength: 20 }),
});

const isSameFamily = ({ from, to }: { from: string; to: string }): boolean =>
  from.startsWith('[') === to.startsWith('[');

/** As a URL parser writes it. */
const canonical = (text: string): string => {
  const [, host, port] = /^\[(.+)\]:(\d+)$/.exec(text) ?? [];
  return host === undefined ? text : `${new URL(`http://[${host}]`).hostname}:${port}`;
};

describe('a capture', () => {
  it('holds each datagram as it was, with addresses, time and comment', () => {
    fc.assert(
      fc.property(fc.array(written.filter(isSameFamily), { maxLength: 5 }), (all) => {
        const file = concat(
          captureHeader(),
          ...all.map(({ at, comment, ...datagram }) => captureBlock(datagram, at, comment)),
        );
        const frames = readCapture(file);
        if (!frames.ok) throw new Error(frames.problem);
        const found = frames.value.map(({ bytes, linkType, at, comment, length }) => {
          expect(length).toBe(bytes.length);
          const udp = udpOfFrame(bytes, linkType);
          if (!udp.ok) throw new Error(udp.problem);
          const { from, to, payload } = udp.value;
          return { from, to, bytes: new Uint8Array(payload), at, comment };
        });
        expect(found).toEqual(
          all.map(({ from, to, bytes, at, comment }) => ({
            from: canonical(from),
            to: canonical(to),
            bytes,
            at,
            comment: comment === '' ? undefined : comment,
          })),
        );
      }),
    );
  });

  it('stands a peer without an IP address', () => {
    const block = captureBlock({ from: 'N0CALL-2', to: '127.0.0.1:5683', bytes: Uint8Array.of(1, 2) }, 0, '');
    const frames = readCapture(concat(captureHeader(), block));
    expect(frames.ok && udpOfFrame(frames.value[0]!.bytes, frames.value[0]!.linkType)).toMatchObject({
      value: { from: '0.0.0.0:0', to: '127.0.0.1:5683' },
    });
  });

  it.each([
    ['little-endian, microseconds', pcap(true, 0xa1b2c3d4, 250_000), 1_700_000_000_250],
    ['big-endian, microseconds', pcap(false, 0xa1b2c3d4, 250_000), 1_700_000_000_250],
    ['little-endian, nanoseconds', pcap(true, 0xa1b23c4d, 250_000_000), 1_700_000_000_250],
    ['big-endian, nanoseconds', pcap(false, 0xa1b23c4d, 250_000_000), 1_700_000_000_250],
  ])('in the older format is read: %s', (_, file, at) => {
    const frames = readCapture(file);
    expect(frames).toMatchObject({ ok: true, value: [{ at, linkType: ETHERNET }] });
    const udp = frames.ok ? udpOfFrame(frames.value[0]!.bytes, ETHERNET) : undefined;
    expect(udp).toMatchObject({
      value: { from: '192.0.2.1:5683', to: '192.0.2.2:40000', payload: fromHex('60007d34') },
    });
  });

  it('says what is wrong where it breaks off', () => {
    const file = pcap(true, 0xa1b2c3d4, 0);
    expect(readCapture(file.subarray(0, -1))).toEqual({ ok: false, problem: 'the capture breaks off' });
    expect(readCapture(utf8('not one'))).toEqual({ ok: false, problem: 'it is no capture' });
  });

  it('is a value whatever bytes it has', () => {
    const good = concat(
      captureHeader(),
      captureBlock({ from: '192.0.2.1:1', to: '192.0.2.2:2', bytes: new Uint8Array(40) }, 5, 'a comment'),
    );
    const mutated = fc
      .tuple(
        fc.constantFrom(good, pcap(true, 0xa1b2c3d4, 0), pcap(false, 0xa1b23c4d, 0)),
        fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 6 }),
        fc.nat(),
      )
      .map(([file, changes, end]) => {
        const copy = file.slice();
        for (const [at, value] of changes) copy[at % copy.length] = value;
        return copy.subarray(0, copy.length - (end % 3 === 0 ? end % copy.length : 0));
      });
    let read = 0;
    fc.assert(
      fc.property(mutated, (file) => {
        const frames = readCapture(file);
        if (!frames.ok) return;
        for (const { bytes, linkType } of frames.value) {
          udpOfFrame(bytes, linkType);
          read++;
        }
      }),
      { numRuns: 3_000 },
    );
    expect(read).toBeGreaterThan(100);
  });
});

describe('a frame', () => {
  it('behind VLAN tags is read', () => {
    const tagged = concat(FRAME.subarray(0, 12), fromHex('88a8000181000002')!, FRAME.subarray(12));
    expect(udpOfFrame(tagged, ETHERNET)).toMatchObject({ ok: true, value: { from: '192.0.2.1:5683' } });
  });

  it.each([
    [
      'that is not IP',
      concat(FRAME.subarray(0, 12), fromHex('0806')!, FRAME.subarray(14)),
      'not an IP packet',
    ],
    ['with TCP', changed(FRAME, 14 + 9, 6), 'not UDP'],
    ['that is a fragment', changed(FRAME, 14 + 6, 0x20), 'a fragment of an IPv4 packet'],
    ['that is cut', FRAME.subarray(0, -1), 'the IPv4 packet is not whole'],
    ['of which UDP wants more', changed(FRAME, 14 + 20 + 5, 13), 'the UDP datagram is not whole'],
  ])('%s is left out', (_, frame, problem) => {
    expect(udpOfFrame(frame, ETHERNET)).toEqual({ ok: false, problem });
  });

  it('is a value whatever bytes it has', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 100 }),
        fc.constantFrom(0, 1, 101, 108, 113, 228, 229, 276, 9),
        (frame, linkType) => {
          const udp = udpOfFrame(frame, linkType);
          if (udp.ok)
            expect(udp.value.headerBytes + udp.value.payload.length).toBeLessThanOrEqual(frame.length);
        },
      ),
    );
  });
});

function changed(bytes: Uint8Array, at: number, value: number): Uint8Array {
  const copy = bytes.slice();
  copy[at] = value;
  return copy;
}
