import { describe, expect, it } from 'vitest';
import { type Random, seededRandom } from '../../src/base/random.ts';
import { OPTION, type Option, stringOf, stringOption } from '../../src/coap/options.ts';
import { modelledTiming, rfc7252Timing } from '../../src/coap/timing.ts';
import { ETHERNET_IPV4_UDP_OVERHEAD } from '../../src/link/link.ts';
import { type Host, OVERHEAD, pair } from './host.ts';

const SEEDS = 300;
const LARGEST_BODY = 20_000;
const DEADLINE = 200_000;

/** A body that nobody else has: any block in the wrong place, or of another body, shows. */
function bodyOf(name: string, length: number): Uint8Array {
  let state = [...name].reduce((sum, char) => (sum * 31 + char.charCodeAt(0)) >>> 0, 7);
  return Uint8Array.from({ length }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state >>> 24;
  });
}

const sizeOf = (random: Random): number =>
  random.integer(3) === 0 ? random.integer(LARGEST_BODY) : random.integer(300);

const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

interface Expected {
  readonly handle: number;
  readonly name: string;
  readonly length: number;
  readonly answer: number;
  readonly from: Host;
  readonly to: Host;
}

/** Elective and not part of the cache-key: requests that differ only here look alike, as they do inside a pipe. */
const ALIKE = 65_052;

const nameIn = (options: readonly Option[]): string =>
  stringOf(options.find(({ number }) => number === OPTION.uriQuery || number === ALIKE)!)!;

describe('two endpoints over a bad link', () => {
  it(`deliver each request at most once and its answer whole, or fail by the deadline: seeds 0 to ${SEEDS - 1}`, () => {
    const totals = {
      answered: 0,
      failed: 0,
      resent: 0,
      duplicates: 0,
      separate: 0,
      lost: 0,
      duplicated: 0,
      blocks: 0,
    };
    for (let seed = 0; seed < SEEDS; seed++) {
      const random = seededRandom(seed + 1);
      const slow = seed % 2 === 0;
      const nameOption = seed % 4 < 2 ? ALIKE : OPTION.uriQuery;
      const conditions = {
        rate: slow ? 20_000 : null,
        latency: 50 + random.integer(400),
        jitter: random.integer(100),
        loss: (seed % 6) / 10,
        duplication: random.fraction() / 4,
        reordering: random.fraction() / 4,
        reorderingDelay: 3_000,
      };
      const blockSize = ([64, 256, 1024] as const)[seed % 3]!;
      const timing = slow
        ? {
            ...modelledTiming({ rate: 20_000, delay: conditions.latency, overhead: OVERHEAD, mtu: 1200 }),
            nstart: 1 + random.integer(4),
          }
        : rfc7252Timing({ nstart: 1 + random.integer(4), blockSize });
      const { a, b, seen, run, clock } = pair({ seed, conditions, timing });
      const expected: Expected[] = [];
      for (const [from, to, name] of [
        [a, b, 'b'],
        [b, a, 'a'],
      ] as const) {
        to.handler = (request) => {
          const [, , answer, after] = nameIn(request.options).split('.');
          const payload = bodyOf(`answer ${nameIn(request.options)}`, Number(answer));
          return { after: Number(after), response: { code: 0x44, options: [], payload } };
        };
        for (let n = 0; n < 5; n++) {
          const [length, answer] = [sizeOf(random), sizeOf(random)];
          const query = `${to === b ? 'ab' : 'ba'}${n}.${length}.${answer}.${random.integer(2) * random.integer(6_000)}`;
          const code = 1 + random.integer(4);
          clock.after(random.integer(5_000), () => {
            const request = {
              code,
              options: [stringOption(nameOption, query)],
              payload: bodyOf(query, length),
            };
            const handle = from.request(name, request, DEADLINE, random.integer(6) as 0);
            expected.push({ handle, name: query, length, answer, from, to });
          });
        }
      }
      run(5_000 + DEADLINE);
      expect(expected).toHaveLength(10);
      for (const { handle, name, length, answer, from, to } of expected) {
        const where = `seed ${seed} request ${name}`;
        const delivered = to.delivered.filter(({ options }) => nameIn(options) === name);
        const outcome = from.outcomes.get(handle);
        expect(outcome, where).toBeDefined();
        expect(delivered.length, where).toBeLessThanOrEqual(1);
        if (delivered[0] !== undefined)
          expect(same(delivered[0].payload, bodyOf(name, length)), where).toBe(true);
        if (outcome?.response !== undefined) {
          totals.answered++;
          expect(delivered.length, where).toBe(1);
          expect(outcome.response.code, where).toBe(0x44);
          expect(same(outcome.response.payload, bodyOf(`answer ${name}`, answer)), where).toBe(true);
        } else {
          totals.failed++;
          expect(['timeout', 'reset', 'bad_response'], where).toContain(outcome?.reason);
          if (conditions.loss === 0 && slow) expect(outcome?.reason, where).toBeUndefined();
        }
      }
      for (const { endpoint } of [a, b]) {
        totals.resent += endpoint.counters.resent;
        totals.duplicates += endpoint.counters.duplicates;
        totals.separate += endpoint.counters.separateResponses;
        totals.blocks += endpoint.counters.blocksIn;
      }
      totals.lost += seen.filter(({ fate }) => fate === 'lost').length;
      totals.duplicated += seen.filter(({ fate }) => fate === 'duplicated').length;
    }
    expect(Object.entries(totals).filter(([, count]) => count === 0)).toEqual([]);
    expect(totals.answered).toBeGreaterThan(totals.failed * 2);
  });

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
