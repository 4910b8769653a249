import { describe, expect, it, test } from 'vitest';
import { fromUtf8, hex } from '../../src/base/bytes.ts';
import { type NetworkConfig, networkOf } from '../../src/pipe/network.ts';
import { prologue } from '../../src/pipe/prologue.ts';
import { type Captured, type Network, pair, perfect, storingPair } from './harness.ts';

const MINUTE = 60_000;
const PSK = new Uint8Array(32).fill(7);
const READABLE: NetworkConfig = { mode: 'authenticated-only', station: 'DL1ABC' };

const sent = (network: Network, label: string): Captured[] =>
  network.captured.filter(({ from, datagram }) => `${from} ${datagram.label}` === label);
const includes = (bytes: Uint8Array, text: string): boolean => Buffer.from(bytes).includes(text);

function withNetworks(a: NetworkConfig, b: NetworkConfig, sides = pair()): ReturnType<typeof pair> {
  sides.a.config = { network: a };
  sides.b.config = { network: b };
  sides.a.restart();
  sides.b.restart();
  sides.b.onPayload = (peer, text) => sides.b.send(peer, `re ${text}`);
  return sides;
}

/** First contact, a renewal by IK, and one where IK1 cannot be accepted. */
function talks({ network, a, b }: ReturnType<typeof pair>): void {
  a.send('b.example', 'hello');
  network.advance(MINUTE);
  expect(a.payloads).toEqual(['b.example: re hello']);
  a.run(a.endpoint.renew('b.example', a.now));
  network.advance(MINUTE);
  expect(sent(network, 'b IK2')).toHaveLength(1);
  b.restart();
  a.run(a.endpoint.renew('b.example', a.now));
  network.advance(MINUTE);
  expect(sent(network, 'b XX2')).toHaveLength(2);
  a.send('b.example', 'later');
  network.advance(10 * MINUTE);
  expect(a.payloads.at(-1)).toBe('b.example: re later');
  expect([a, b].map(({ endpoint }) => endpoint.sizes.sessions)).toEqual([1, 1]);
  for (const [second, first] of [
    ['b XX2', 'a XX1'],
    ['b IK2', 'a IK1'],
  ] as const)
    expect(sent(network, second)[0]!.datagram.bytes.length).toBeLessThanOrEqual(
      3 * sent(network, first)[0]!.datagram.bytes.length,
    );
}

test('the prologue tells apart every mode, header and digest', () => {
  const headers = [Uint8Array.of(0x90, 0x11, 5), Uint8Array.of(0x90, 0x11, 6)];
  const networks: NetworkConfig[] = [
    { mode: 'encrypted' },
    { mode: 'encrypted', psk: PSK },
    READABLE,
    { ...READABLE, psk: PSK },
  ];
  const digests = [undefined, new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)];
  const all = headers.flatMap((header) =>
    networks.flatMap((network) => digests.map((digest) => hex(prologue(header, networkOf(network), digest)))),
  );
  expect(new Set(all).size).toBe(2 * 4 * 3);
  // A station or a key is not in it: the flags are.
  expect(new Set(networks.map((network) => hex(networkOf(network).digest))).size).toBe(4);
});

describe('a closed network', () => {
  it('talks where both have the key', () => {
    const psk = { mode: 'encrypted', psk: PSK } as const;
    talks(withNetworks(psk, psk));
  });

  it.each([undefined, new Uint8Array(32).fill(8)])('nobody without its key finishes a handshake', (psk) => {
    for (const which of ['a', 'b'] as const) {
      const closed: NetworkConfig = { mode: 'encrypted', psk: PSK };
      const other: NetworkConfig = psk === undefined ? { mode: 'encrypted' } : { mode: 'encrypted', psk };
      const { network, a, b } = withNetworks(
        ...((which === 'a' ? [closed, other] : [other, closed]) as [NetworkConfig, NetworkConfig]),
        storingPair(),
      );
      a.send('b.example', 'hello');
      b.send('a.example', 'hello');
      network.advance(5 * MINUTE);
      expect([...a.payloads, ...b.payloads]).toEqual([]);
      // An initiator believes that it is done until nobody confirms it: no session is ever shared, or kept.
      expect([a, b].map(({ disk }) => disk!.rows.size)).toEqual([0, 0]);
      // What is no handshake of this network looks malformed, or does not authenticate.
      const dropped = [a, b].map(({ endpoint: { statistics } }) => statistics);
      expect(
        dropped.reduce((sum, { malformed, unauthenticated }) => sum + malformed + unauthenticated, 0),
      ).toBeGreaterThan(0);
      expect([...a.events, ...b.events].filter(({ kind }) => kind === 'established')).toEqual([]);
    }
  });

  it('does not go on with a stored session from before it was closed', () => {
    const open: NetworkConfig = { mode: 'encrypted' };
    const sides = withNetworks(open, open, storingPair());
    const { network, a, b } = sides;
    a.send('b.example', 'hello');
    network.advance(MINUTE);
    expect(b.disk!.rows.size).toBe(1);
    b.config = { network: { mode: 'encrypted', psk: PSK } };
    b.restart();
    network.advance(MINUTE);
    expect(b.endpoint.sizes.sessions).toBe(0);
    expect(b.disk!.rows.size).toBe(0);
    a.send('b.example', 'from outside');
    network.advance(5 * MINUTE);
    expect(b.payloads).toEqual(['a.example: hello']);
  });
});

describe('authenticated-only', () => {
  it('talks, and everything that is said can be read by everybody, with the station', () => {
    const sides = withNetworks(READABLE, { mode: 'authenticated-only', station: 'OE9XYZ' });
    talks(sides);
    const { network, a } = sides;
    const of = (from: string) => network.captured.filter((seen) => seen.from === from);
    for (const { datagram } of of('a')) expect(includes(datagram.bytes, 'DL1ABC'), datagram.label).toBe(true);
    for (const { datagram } of of('b'))
      expect(includes(datagram.bytes, 'OE9XYZ') || datagram.bytes.length < 20, datagram.label).toBe(true);
    // XX2 leaves the name out by which it was called.
    expect(includes(sent(network, 'b XX2')[0]!.datagram.bytes, 'k1')).toBe(true);
    expect(includes(sent(network, 'a XX3')[0]!.datagram.bytes, 'a.example')).toBe(true);
    const record = sent(network, 'a data test')[0]!.datagram.bytes;
    // NON POST, and what it says behind that.
    const said = record.subarray(3, record.length - 16);
    expect(fromUtf8(said.subarray(0, 8))).toBe('\x06DL1ABC\x1a');
    expect(fromUtf8(said.subarray(8))).toBe('hello');
    expect(a.events.find(({ kind }) => kind === 'established')).toMatchObject({ mode: 'authenticated-only' });
  });

  it('and nobody can change a byte of it', () => {
    const { network, a, b } = withNetworks(READABLE, READABLE);
    network.channel = (seen) => {
      const { bytes, label } = seen.datagram;
      // Another XX1 would be another handshake.
      for (let at = label.endsWith('1') ? bytes.length : 1; at < bytes.length; at++) {
        const changed = bytes.slice();
        changed[at]! ^= 0x01;
        network.deliver(seen.from, seen.to, changed);
      }
      return perfect()(seen);
    };
    a.send('b.example', 'hello');
    network.advance(MINUTE);
    a.run(a.endpoint.renew('b.example', a.now));
    network.advance(MINUTE);
    a.send('b.example', 'later');
    network.advance(MINUTE);
    expect(new Set(b.payloads)).toEqual(new Set(['a.example: hello', 'a.example: later']));
    expect(b.payloads).toHaveLength(2);
    expect(a.payloads).toEqual(['b.example: re hello', 'b.example: re later']);
  });

  it('with a pre-shared key as well', () => {
    talks(withNetworks({ ...READABLE, psk: PSK }, { ...READABLE, psk: PSK }));
  });

  it('is never negotiated: sides that differ do not talk', () => {
    for (const [x, y] of [
      [READABLE, { mode: 'encrypted' }],
      [{ mode: 'encrypted' }, READABLE],
      [READABLE, { ...READABLE, psk: PSK }],
    ] as const) {
      const { network, a, b } = withNetworks(x, y);
      a.send('b.example', 'hello');
      network.advance(5 * MINUTE);
      expect([...a.events, ...b.events].filter(({ kind }) => kind === 'identity')).toEqual([]);
      expect(b.payloads).toEqual([]);
    }
  });
});
