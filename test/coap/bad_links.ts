import { expect, it } from 'vitest';
import { type Random, seededRandom } from '../../src/base/random.ts';
import { OPTION, type Option, stringOf, stringOption } from '../../src/coap/options.ts';
import { modelledTiming, rfc7252Timing } from '../../src/coap/timing.ts';
import { type Host, OVERHEAD, pair } from './host.ts';

const LARGEST_BODY = 20_000;
const DEADLINE = 200_000;

/** A body that nobody else has: any block in the wrong place, or of another body, shows. */
export function bodyOf(name: string, length: number): Uint8Array {
  let state = [...name].reduce((sum, char) => (sum * 31 + char.charCodeAt(0)) >>> 0, 7);
  return Uint8Array.from({ length }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state >>> 24;
  });
}

const sizeOf = (random: Random): number =>
  random.integer(3) === 0 ? random.integer(LARGEST_BODY) : random.integer(300);

export const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

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

export const nameIn = (options: readonly Option[]): string =>
  stringOf(options.find(({ number }) => number === OPTION.uriQuery || number === ALIKE)!)!;

/** Requests of all sizes both ways over links of all kinds. */
export function badLinks(seeds: number): void {
  it(`deliver each request at most once and its answer whole, or fail by the deadline: seeds 0 to ${seeds - 1}`, () => {
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
    for (let seed = 0; seed < seeds; seed++) {
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
}
