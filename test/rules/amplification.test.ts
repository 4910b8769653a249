import { describe, expect, it } from 'vitest';
import { type Captured, pair, perfect, storingPair } from '../pipe/harness.ts';

const MINUTE = 60_000;

const bytesTo = (captured: readonly Captured[], address: string): number =>
  captured
    .filter(({ datagram }) => datagram.to === address)
    .reduce((sum, { datagram }) => sum + datagram.bytes.length, 0);

describe('rule 5: an address that nobody has proved', () => {
  it('gets XX2 in answer to a copy of XX1 only, and never by a timer', () => {
    const { network, a, b } = pair();
    network.channel = (sent) => (sent.datagram.label === 'XX2' ? [] : perfect()(sent));
    a.send('b.example', 'hello');
    network.advance(MINUTE);
    const sent = (label: string): number =>
      network.captured.filter(({ datagram }) => datagram.label === label).length;
    expect(sent('XX1')).toBeGreaterThan(2);
    expect(sent('XX2')).toBe(sent('XX1'));
    expect(b.endpoint.sizes.halfOpen).toBeGreaterThan(0);
    // From now on nobody asks any more.
    network.channel = () => [];
    const before = sent('XX2');
    network.advance(20 * MINUTE);
    expect(sent('XX2')).toBe(before);
  });

  it.each([
    ['XX3', /^XX3/],
    ['the first record behind IK2', /^data/],
  ])(
    'gets three times what came from it at the most, though somebody has sent %s on from there',
    (_, carrier) => {
      const { network, a, b } = storingPair();
      a.send('b.example', 'hello');
      network.advance(MINUTE);
      if (!carrier.test('XX3')) a.run(a.endpoint.renew('b.example', a.now));
      else {
        a.disk = undefined;
        b.disk = undefined;
        a.restart();
        b.restart();
      }
      const from = network.captured.length;
      let forwarded = 0;
      network.channel = (sent) => {
        const { bytes, label } = sent.datagram;
        if (sent.from !== 'a') return sent.to === 'a' ? perfect()(sent) : [];
        if (/1$/.test(label)) {
          // A copy of the first message, so that the answer goes there as well.
          forwarded += bytes.length;
          network.clock.after(1, () => network.deliver('victim', 'b', bytes));
          return perfect()(sent);
        }
        if (!carrier.test(label)) return perfect()(sent);
        forwarded += bytes.length;
        network.clock.after(1, () => network.deliver('victim', 'b', bytes));
        network.channel = (next) => (next.from === 'a' ? [] : perfect()(next));
        return [];
      };
      a.send('b.example', 'one');
      for (let i = 0; i < 20; i++) {
        network.advance(1_000);
        b.send('a.example', `a record that is ${'long '.repeat(20)} ${i}`);
      }
      const taken = bytesTo(network.captured.slice(from), 'victim');
      expect(forwarded).toBeGreaterThan(0);
      expect(taken).toBeGreaterThan(0);
      expect(taken).toBeLessThanOrEqual(3 * forwarded);
    },
  );

  it('is asked at once whether the peer is there, where that has moved during the handshake', () => {
    const { network, a, b } = pair();
    a.send('b.example', 'hello');
    network.advance(MINUTE);
    a.run(a.endpoint.renew('b.example', a.now));
    // IK1 from where it was; the question from where it is now, and nothing any more after that.
    network.channel = (sent) => {
      if (sent.from !== 'a' || sent.datagram.label !== 'ask') return perfect()(sent);
      network.clock.after(20, () => network.deliver('a2', 'b', sent.datagram.bytes));
      return [];
    };
    network.advance(1_000);
    expect(
      network.captured.filter(({ datagram }) => datagram.to === 'a2').map(({ datagram }) => datagram.label),
    ).toContain('challenge');
    expect(b.endpoint.addressOf('a.example')).toBe('a');
  });
});
