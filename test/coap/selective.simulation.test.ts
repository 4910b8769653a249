import { describe, expect, it } from 'vitest';
import { hex } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import type { Millis } from '../../src/base/time.ts';
import { bodyOf, same } from './bad_links.ts';
import {
  OVERHEAD,
  type SelectiveHost,
  type SelectivePair,
  selectivePair,
  TOKEN_BYTES,
} from './selective_host.ts';
import { byLockstep, bySelectiveRepeat, LINKS, type Transfer } from './selective_measure.ts';

const FAR: Millis = 10_000_000;

/** Runs until every transfer of both ends is over. */
function runToEnd({ clock, a, b }: SelectivePair): void {
  const isOver = ({ sent, ended }: SelectiveHost): boolean => sent.size === ended.size;
  while (!isOver(a) || !isOver(b)) {
    if (!clock.step()) throw new Error('nothing is left to happen, and a transfer is still open');
    if (clock.monotonic() > FAR) throw new Error('a transfer does not end');
  }
}

const numbersUpTo = (count: number): number[] => Array.from({ length: count }, (_, num) => num);

describe('large bodies over a bad link, by selective repeat', () => {
  it('arrive exactly once and whole: 150 seeds of loss up to 50 % each way, duplication and reordering', () => {
    const totals = { again: 0, copies: 0, late: 0, superseded: 0, lost: 0, duplicated: 0 };
    for (let seed = 0; seed < 150; seed++) {
      const random = seededRandom(seed);
      const { rate, latency } = LINKS[seed % LINKS.length]!;
      const conditions = {
        rate,
        latency,
        jitter: random.integer(2) * latency,
        loss: random.integer(6) / 10,
        duplication: random.fraction() / 4,
        reordering: random.fraction() / 4,
        reorderingDelay: 10 * latency,
      };
      const pair = selectivePair({ seed, conditions });
      pair.network.change('b', 'a', { loss: random.integer(6) / 10 });
      const expected: { to: SelectiveHost; token: string; body: Uint8Array }[] = [];
      for (let n = 0; n < 4; n++) {
        const [from, to, name] = n % 2 === 0 ? [pair.a, pair.b, 'b'] : [pair.b, pair.a, 'a'];
        const body = bodyOf(`${seed} ${n}`, 1 + random.integer(n === 0 ? 40_000 : 6_000));
        pair.clock.after(random.integer(60_000), () =>
          expected.push({ to, token: from.send(name, body), body }),
        );
      }
      pair.run(60_000);
      runToEnd(pair);
      // Whatever is still on its way arrives, and changes nothing.
      pair.run(pair.clock.monotonic() + 60 * latency + 600_000);
      expect(expected, `seed ${seed}`).toHaveLength(4);
      for (const { to, token, body } of expected) {
        const bodies = to.delivered.filter((one) => one.token === token);
        expect(bodies.length, `seed ${seed}`).toBe(1);
        expect(same(bodies[0]!.body, body), `seed ${seed}`).toBe(true);
      }
      for (const { core, counters, ended, sent } of [pair.a, pair.b]) {
        expect(
          [...ended.values()].map(({ how }) => how),
          `seed ${seed}`,
        ).toEqual(['complete', 'complete']);
        expect(core.assembling, `seed ${seed}`).toBe(0);
        expect(counters.mostInFlight, `seed ${seed}`).toBeLessThanOrEqual(pair.window.blocks);
        for (const numbers of sent.values()) totals.again += numbers.length - new Set(numbers).size;
        totals.copies += counters.copies;
        totals.late += counters.late;
        totals.superseded += counters.superseded;
      }
      totals.lost += pair.seen.filter(({ fate }) => fate === 'lost').length;
      totals.duplicated += pair.seen.filter(({ fate }) => fate === 'duplicated').length;
    }
    expect(Object.entries(totals).filter(([, count]) => count === 0)).toEqual([]);
  });

  it.each(LINKS)('send each block exactly once without loss, at $rate bit/s and $latency ms', (link) => {
    const pair = selectivePair({ seed: 1, conditions: link });
    const [there, back] = [bodyOf('there', 50_000), bodyOf('back', 10_000)];
    const tokens = [pair.a.send('b', there), pair.b.send('a', back)];
    runToEnd(pair);
    for (const [host, token] of [
      [pair.a, tokens[0]!],
      [pair.b, tokens[1]!],
    ] as const) {
      const numbers = host.sent.get(token)!;
      expect(numbers).toEqual(numbersUpTo(numbers.length));
      expect(host.counters).toMatchObject({ copies: 0, late: 0 });
    }
    const [blocks, sent] = [
      pair.a.counters.blocks + pair.b.counters.blocks,
      pair.seen.filter(({ fate }) => fate === 'sent').length,
    ];
    expect(sent - blocks).toBe(pair.a.counters.checkpoints + pair.b.counters.checkpoints);
    expect(sent - blocks).toBeLessThanOrEqual(blocks / pair.window.interval + 2);
  });

  it('survive the loss of any one datagram', () => {
    const transfer = (lose: number): number => {
      const pair = selectivePair({ seed: 3, conditions: { rate: 1200, latency: 300 } });
      const body = bodyOf('body', 9_000);
      let count = 0;
      const aim = (): void => {
        // The dice are not needed: the way is closed for the one datagram.
        pair.network.change('a', 'b', { partitioned: count === lose });
        pair.network.change('b', 'a', { partitioned: count === lose });
      };
      aim();
      pair.a.send('b', body);
      for (let at = 0; pair.a.ended.size === 0; at += 20) {
        pair.run(at);
        count = pair.seen.filter(({ fate }) => fate !== 'delivered').length;
        aim();
      }
      expect(
        pair.b.delivered.map((one) => same(one.body, body)),
        `loss of ${lose}`,
      ).toEqual([true]);
      return count;
    };
    const all = transfer(-1);
    expect(all).toBe(9 + 3);
    const counts = numbersUpTo(all).map(transfer);
    // Only the answer to a checkpoint in front of another one is not missed by anybody.
    expect(counts.filter((count) => count <= all)).toEqual([all]);
  });

  it('go on after the link was gone for an hour', () => {
    const pair = selectivePair({ seed: 4, conditions: { rate: 1200, latency: 300 } });
    const body = bodyOf('body', 60_000);
    pair.a.send('b', body);
    pair.run(100_000);
    const change = (partitioned: boolean): void => {
      pair.network.change('a', 'b', { partitioned });
      pair.network.change('b', 'a', { partitioned });
    };
    change(true);
    const before = pair.a.counters.blocks;
    pair.run(3_700_000);
    expect(pair.a.ended.size).toBe(0);
    // What a dead link costs: one window, and copies of its last block.
    const { blocks, copies, givenUp } = pair.a.counters;
    expect(givenUp).toBeGreaterThan(1);
    expect(blocks - before - givenUp).toBeLessThanOrEqual(pair.window.blocks);
    expect(copies).toBeLessThan(120);
    change(false);
    runToEnd(pair);
    expect(pair.b.delivered.map((one) => same(one.body, body))).toEqual([true]);
  });

  it('let urgent messages pass: none waits for longer than one block and itself', () => {
    const pair = selectivePair({ seed: 5, conditions: { rate: 100, latency: 2_000 } });
    pair.a.send('b', bodyOf('one', 8_000));
    pair.a.send('b', bodyOf('two', 8_000));
    const longest = ((256 + 24 + OVERHEAD + 4 + OVERHEAD) * 8_000) / 100 + 2_000;
    for (let n = 1; n <= 20; n++) {
      const at = n * 60_000 + n * 1_234;
      pair.run(at);
      pair.a.sendUrgent('b');
      pair.run(at + longest);
      expect(pair.b.urgent).toHaveLength(n);
    }
    runToEnd(pair);
    expect(pair.b.delivered).toHaveLength(2);
  });

  it('are not touched by late blocks of an older transfer, whether that one ended or was forgotten', () => {
    const pair = selectivePair({
      seed: 6,
      conditions: { rate: 50_000, latency: 300, duplication: 0.9, reorderingDelay: 90_000 },
    });
    const [older, newer] = [bodyOf('older', 20_000), bodyOf('newer', 20_000)];
    const [first, second] = [1, 2].map((byte) => new Uint8Array(TOKEN_BYTES).fill(byte));
    pair.a.send('b', older, first);
    runToEnd(pair);
    pair.a.send('b', newer, second);
    runToEnd(pair);
    pair.run(pair.clock.monotonic() + 200_000);
    expect(pair.b.delivered.map(({ token }) => token)).toEqual([hex(first!), hex(second!)]);
    expect(pair.b.delivered.map(({ body }, i) => same(body, [older, newer][i]!))).toEqual([true, true]);
    expect(pair.b.counters.late).toBeGreaterThan(10);
    expect(pair.b.uploads.size).toBe(0);
  });

  it('end where the receiver refuses them, and nothing stays behind', () => {
    const limits = { bodyBytes: 10_000 };
    const pair = selectivePair({ seed: 7, conditions: { rate: 50_000, latency: 300 }, limits });
    const token = pair.a.send('b', bodyOf('body', 50_000));
    runToEnd(pair);
    expect(pair.a.ended.get(token)?.how).toBe('refused');
    pair.run(pair.clock.monotonic() + 60_000);
    expect([pair.b.core.assembling, pair.b.uploads.size, pair.b.delivered.length]).toEqual([0, 0, 0]);
    // The first checkpoint tells, and what was under way by then.
    expect(pair.a.counters.blocks).toBeLessThanOrEqual(2 * pair.window.interval + 1);
  });
});

describe('selective repeat beside lockstep', () => {
  const mean = (measure: (seed: number) => Transfer | null): Transfer => {
    const all = numbersUpTo(8)
      .map(measure)
      .filter((one) => one !== null);
    expect(all.length).toBeGreaterThan(4);
    const of = (key: keyof Transfer): number => all.reduce((sum, one) => sum + one[key], 0) / all.length;
    return { datagrams: of('datagrams'), bytes: of('bytes'), seconds: of('seconds') };
  };

  it.each(
    LINKS.flatMap((link) =>
      [0, 0.1, 0.3].flatMap((loss) => [4_096, 30_000].map((length) => ({ ...link, loss, length }))),
    ),
  )('needs less of everything: $length bytes at $rate bit/s, $latency ms, loss $loss', (scenario) => {
    const lockstep = mean((seed) => byLockstep(scenario, seed));
    const selective = mean((seed) => bySelectiveRepeat(scenario, seed));
    expect(selective.datagrams).toBeLessThan(lockstep.datagrams * 0.8);
    expect(selective.bytes).toBeLessThan(lockstep.bytes);
    expect(selective.seconds).toBeLessThan(lockstep.seconds * 0.95);
    // Where a round trip is long beside a block, or much is lost, the gain is large.
    const { rate, latency, loss, length } = scenario;
    if (rate === 50_000 && latency === 2_000 && length > 20_000) {
      expect(selective.seconds).toBeLessThan(lockstep.seconds / 6);
    } else if (loss === 0.3) expect(selective.seconds).toBeLessThan(lockstep.seconds * 0.75);
  });
});
