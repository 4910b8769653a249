import { describe, expect, it } from 'vitest';
import { concat, hex } from '../../src/base/bytes.ts';
import { encodeVersions, VERSION_AND_SUITE } from '../../src/pipe/record.ts';
import { type Captured, type Network, pair, perfect } from './harness.ts';

const MINUTE = 60_000;
/** What a later implementation might offer: this version's handshake under another number. */
const NEWER = 0x21;
const NEWEST = 0x31;

const sent = (network: Network, label: string): Captured[] =>
  network.captured.filter(({ from, datagram }) => `${from} ${datagram.label}` === label);

/** Two sides with these versions, best first. */
function withVersions(a: readonly number[], b: readonly number[]): ReturnType<typeof pair> {
  const sides = pair();
  sides.a.config = { versions: a };
  sides.b.config = { versions: b };
  sides.a.restart();
  sides.b.restart();
  sides.b.onPayload = (peer, text) => sides.b.send(peer, `re ${text}`);
  return sides;
}

describe('versions', () => {
  it('a newer initiator is told what there is, and both talk in that', () => {
    const { network, a } = withVersions([NEWEST, NEWER, VERSION_AND_SUITE], [VERSION_AND_SUITE]);
    a.send('b.example', 'hello');
    network.advance(MINUTE);
    expect(a.payloads).toEqual(['b.example: re hello']);
    expect(network.labels().slice(0, 5)).toEqual(['a XX1', 'b versions', 'a XX1', 'b XX2', 'a XX3']);
    const second = sent(network, 'a XX1')[1]!.datagram.bytes;
    expect(hex(second.subarray(0, 3))).toBe('921131');
    // What answers a stranger is shorter than what came from him.
    expect(sent(network, 'b versions')[0]!.datagram.bytes.length).toBeLessThan(5);
    // A renewal begins with the best again: the peer may have been updated.
    a.run(a.endpoint.renew('b.example', a.now));
    network.advance(10 * MINUTE);
    expect(sent(network, 'a IK1')[0]!.datagram.bytes[1]).toBe(NEWEST);
    expect(a.endpoint.sizes).toMatchObject({ sessions: 1, openings: 0 });
    expect(a.events.filter(({ kind }) => kind === 'established')).toHaveLength(2);
  });

  it('an older initiator is answered in its version by a newer responder', () => {
    const { network, a } = withVersions([VERSION_AND_SUITE], [NEWER, VERSION_AND_SUITE]);
    a.send('b.example', 'hello');
    network.advance(MINUTE);
    expect(a.payloads).toEqual(['b.example: re hello']);
    expect(network.labels()).not.toContain('b versions');
  });

  it('that have none in common fail, and go on asking at their own pace', () => {
    const { network, a, b } = withVersions([NEWER], [VERSION_AND_SUITE]);
    a.send('b.example', 'hello');
    network.advance(MINUTE);
    expect(b.payloads).toEqual([]);
    expect(sent(network, 'a XX1').length).toBeLessThan(8);
    expect(a.events.filter(({ kind }) => kind === 'unreachable').length).toBeGreaterThan(2);
  });

  it('a rollback by a forged answer fails, and does not keep the two apart', () => {
    const sides = withVersions([NEWER, VERSION_AND_SUITE], [NEWER, VERSION_AND_SUITE]);
    const { network, a, b } = sides;
    network.channel = (seen) => {
      if (seen.datagram.label === 'XX1') {
        const id = seen.datagram.bytes[seen.datagram.bytes[1] === NEWER ? 2 : 3]!;
        network.clock.after(1, () =>
          network.deliver('b', 'a', encodeVersions(id as never, [VERSION_AND_SUITE])),
        );
      }
      return perfect()(seen);
    };
    a.send('b.example', 'hello');
    network.advance(MINUTE);
    // It has offered the older version, beside the better one; the responder has seen through that.
    const firsts = sent(network, 'a XX1').map(({ datagram }) => datagram.bytes[1]);
    expect(firsts).toEqual([NEWER, VERSION_AND_SUITE]);
    expect(b.endpoint.statistics.unauthenticated).toBe(1);
    expect(sent(network, 'b XX2')).toHaveLength(1);
    expect(a.payloads).toEqual(['b.example: re hello']);
  });

  it('a rollback by an attacker who hides what was refused fails as well', () => {
    const { network, a, b } = withVersions([NEWER, VERSION_AND_SUITE], [NEWER, VERSION_AND_SUITE]);
    network.channel = (seen) => {
      const { label, bytes } = seen.datagram;
      if (label !== 'XX1') return perfect()(seen);
      if (bytes[1] === NEWER) {
        network.clock.after(1, () =>
          network.deliver('b', 'a', encodeVersions(bytes[2] as never, [VERSION_AND_SUITE])),
        );
        return [];
      }
      const hidden = concat(Uint8Array.of(0x90, VERSION_AND_SUITE), bytes.subarray(3));
      return [{ after: 20, bytes: hidden }];
    };
    a.send('b.example', 'hello');
    network.advance(MINUTE);
    expect(sent(network, 'b XX2').length).toBeGreaterThan(0);
    expect(a.events.filter(({ kind }) => kind === 'identity')).toEqual([]);
    expect(a.endpoint.statistics.unauthenticated).toBe(sent(network, 'b XX2').length);
    expect(b.payloads).toEqual([]);
    network.channel = perfect();
    network.advance(5 * MINUTE);
    expect(b.payloads).toEqual(['a.example: hello']);
  });

  it('forged lists from anywhere make no more than one copy of each version', () => {
    const { network, a } = withVersions([NEWEST, NEWER, VERSION_AND_SUITE], [NEWEST]);
    network.channel = () => [];
    a.send('b.example', 'hello');
    const id = network.captured[0]!.datagram.bytes[2]!;
    for (let i = 0; i < 100; i++) {
      for (const version of [VERSION_AND_SUITE, NEWER, NEWEST, 0x41])
        network.deliver('b', 'a', encodeVersions(id as never, [version]));
      network.deliver('mallory', 'a', encodeVersions(id as never, [VERSION_AND_SUITE]));
    }
    expect(network.captured.map(({ datagram }) => datagram.bytes[1])).toEqual([
      NEWEST,
      VERSION_AND_SUITE,
      NEWER,
    ]);
  });
});
