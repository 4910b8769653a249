import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { OPTION, stringOption } from '../../src/coap/options.ts';
import { rfc7252Timing } from '../../src/coap/timing.ts';
import { ETHERNET_IPV4_UDP_OVERHEAD } from '../../src/link/link.ts';
import { badLinks, bodyOf, nameIn, same } from './bad_links.ts';
import { OVERHEAD, pair } from './host.ts';

describe('two endpoints over a bad link', () => {
  badLinks(36);

  it('send every message exactly once at 100 bit/s without loss, and take the time that the model says', () => {
    for (let seed = 0; seed < 20; seed++) {
      const random = seededRandom(seed);
      const { a, b, seen, run } = pair({ seed, conditions: { rate: 100, latency: 2_000 } });
      a.handler = b.handler = (request) => ({
        after: Number(nameIn(request.options)),
        response: { code: 0x44, options: [], payload: request.payload },
      });
      for (let n = 0; n < 4; n++) {
        const from = n % 2 === 0 ? a : b;
        const options = [stringOption(OPTION.uriQuery, `${random.integer(2) * random.integer(20_000)}`)];
        const request = { code: 2, options, payload: bodyOf(`${n}`, random.integer(400)) };
        from.request(from === a ? 'b' : 'a', request, 3_000_000, random.integer(6) as 0);
      }
      run(3_000_000);
      for (const host of [a, b]) {
        expect(
          [...host.outcomes.values()].map(({ reason }) => reason),
          `seed ${seed}`,
        ).toEqual([undefined, undefined]);
        expect(host.unanswered, `seed ${seed}`).toEqual([]);
        expect(host.endpoint.counters, `seed ${seed}`).toMatchObject({ resent: 0, duplicates: 0 });
      }
      expect(new Set(seen.map(({ fate }) => fate))).toEqual(new Set(['sent', 'delivered']));
    }
  });

  it('take one packet there and one back for a small request at 100 bit/s', () => {
    const { a, seen, run } = pair({ seed: 1, conditions: { rate: 100, latency: 2_000 } });
    const handle = a.request('b', { code: 3, options: [], payload: new Uint8Array(20) }, 600_000);
    run(600_000);
    const packets = seen.filter(({ fate }) => fate === 'sent');
    expect(packets.map(({ label }) => label)).toEqual(['CON PUT', 'ACK 2.04']);
    // Header 4, token 4, marker 1, payload 20, overhead 62: 91 bytes there, as many back.
    expect(packets.map(({ wire }) => wire)).toEqual([91, 91]);
    expect(a.outcomes.get(handle)?.at).toBeCloseTo(2 * (91 * 80 + 2_000), 6);
    // RFC 7252's timers over the same link.
    const standard = pair({ seed: 1, conditions: { rate: 100, latency: 2_000 }, timing: rfc7252Timing() });
    standard.a.request('b', { code: 3, options: [], payload: new Uint8Array(20) }, 600_000);
    standard.run(600_000);
    expect(standard.a.endpoint.counters.resent).toBeGreaterThan(0);
  });

  it('survive the loss of any one datagram of a transfer in blocks both ways', () => {
    const transfer = (lose: number): { sent: number; resent: number } => {
      const { a, b, network, seen, run } = pair({
        seed: 5,
        conditions: { latency: 100 },
        timing: rfc7252Timing({ blockSize: 64 }),
      });
      const body = bodyOf('body', 300);
      b.handler = () => ({
        after: lose % 2 === 0 ? 0 : 1_500,
        response: { code: 0x44, options: [], payload: bodyOf('reply', 200) },
      });
      const handle = a.request('b', { code: 3, options: [], payload: body }, 100_000);
      // The dice are not needed: the way is closed for the one datagram.
      let count = 0;
      for (let at = 0; at < 100_000; at += 50) {
        run(at);
        const sent = seen.filter(({ fate }) => fate !== 'delivered').length;
        if (sent !== count) count = sent;
        const closed = count === lose;
        network.change('a', 'b', { partitioned: closed });
        network.change('b', 'a', { partitioned: closed });
      }
      expect(
        b.delivered.map(({ payload }) => same(payload, body)),
        `loss of ${lose}`,
      ).toEqual([true]);
      expect(same(a.outcomes.get(handle)!.response!.payload, bodyOf('reply', 200)), `loss of ${lose}`).toBe(
        true,
      );
      return { sent: count, resent: a.endpoint.counters.resent + b.endpoint.counters.resent };
    };
    // Odd: the answer comes separately, and an acknowledgement may be lost without any harm.
    const [piggybacked, separate] = [transfer(-2), transfer(-1)];
    expect([piggybacked.resent, separate.resent]).toEqual([0, 0]);
    expect(piggybacked.sent).toBe(2 * (5 + 3));
    expect(separate.sent).toBe(piggybacked.sent + 2);
    for (let lose = 2; lose < piggybacked.sent; lose += 2) {
      expect(transfer(lose).resent, `loss of ${lose}`).toBeGreaterThan(0);
    }
    for (let lose = 1; lose < separate.sent; lose += 2) transfer(lose);
  });
});

describe('the overhead that the tests count', () => {
  it('is that of Ethernet, IPv4, UDP and a record of 20 bytes', () => {
    expect(OVERHEAD).toBe(ETHERNET_IPV4_UDP_OVERHEAD + 20);
  });
});
