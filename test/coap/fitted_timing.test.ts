import { describe, expect, it } from 'vitest';
import { type Random, seededRandom } from '../../src/base/random.ts';
import { METHOD } from '../../src/coap/codes.ts';
import { FittedTiming } from '../../src/coap/fitted_timing.ts';
import { checkedFit, type LinkFit } from '../../src/coap/link_fit.ts';
import { type Delivery, modelledTiming } from '../../src/coap/timing.ts';

const OVERHEAD = 62;
/** A byte takes 80 ms. */
const SLOW = { rate: 100, delay: 2_000, overhead: OVERHEAD, mtu: 1200 };
const BYTE = 80;
const REQUEST = 28;
const ANSWER = 8;
const PUT = { code: METHOD.put, outstanding: 1 };

/** The way to a peer as it is, whatever is known of it. */
interface Way {
  readonly there?: number;
  readonly back?: number;
  readonly fixed?: number;
}

const roundTrip = (
  { there = 0, back = BYTE, fixed = 4_000 }: Way,
  sent = REQUEST,
  received = ANSWER,
): number => fixed + there * (sent + OVERHEAD) + back * (received + OVERHEAD);

const delivery = (parts: Partial<Delivery>): Delivery => ({
  ...{ code: METHOD.put, bytesSent: REQUEST, bytesReceived: ANSWER, empty: false },
  ...{ copies: parts.leftAt?.length ?? 1, leftAt: [0], repliedAt: [1] },
  ...parts,
});

/**
 * One exchange without a loss, as the transmitter would have it: copies leave by the timer until the first is answered,
 * and every copy is answered. Returns how many there were.
 */
function exchange(timing: FittedTiming, way: Way, at: number, sent = REQUEST, received = ANSWER): number {
  const took = roundTrip(way, sent, received);
  const leftAt = [at];
  for (;;) {
    const wait = timing.retransmitAfter(leftAt.length - 1, sent, 0, PUT);
    const next = leftAt.at(-1)! + wait + (sent + OVERHEAD) * BYTE;
    if (next > at + took) break;
    leftAt.push(next);
  }
  const repliedAt: number[] = [];
  for (const left of leftAt) {
    repliedAt.push(left + took);
    timing.replied(delivery({ ...{ bytesSent: sent, bytesReceived: received }, leftAt, repliedAt }));
  }
  return leftAt.length;
}

function train(timing: FittedTiming, way: Way, exchanges: number): number[] {
  return Array.from({ length: exchanges }, (_, n) => exchange(timing, way, n * 1_000_000));
}

const interval = (timing: FittedTiming, bytes = REQUEST): number => timing.retransmitAfter(0, bytes, 0, PUT);

describe('a fitted timer', () => {
  it.each([100, 1_200, 50_000])('starts at %i bit/s as the modelled one', (rate) => {
    for (const delay of [0, 300, 2_000]) {
      const model = { rate, delay, overhead: OVERHEAD, mtu: 1200 };
      const [fitted, modelled] = [new FittedTiming(model), modelledTiming(model)];
      const outstanding = modelled.nstart;
      for (const attempt of [0, 1, 2, 3, 30]) {
        expect(fitted.retransmitAfter(attempt, 20, 0.5, { code: METHOD.get, outstanding })).toBeCloseTo(
          modelled.retransmitAfter(attempt, 20, 0.5),
        );
      }
      const { nstart, blockSize, undividedSize, separateAfter, exchangeLifetime, nonLifetime } = modelled;
      const same = { nstart, blockSize, undividedSize, separateAfter, exchangeLifetime, nonLifetime };
      expect(fitted).toMatchObject(same);
    }
  });

  it('tightens with undisturbed exchanges to the round trip and a second, sending nothing twice', () => {
    const timing = new FittedTiming(SLOW);
    const took = roundTrip({});
    let before = interval(timing);
    for (let n = 0; n < 40; n++) {
      expect(exchange(timing, {}, n * 1_000_000)).toBe(1);
      expect(interval(timing)).toBeLessThanOrEqual(before);
      before = interval(timing);
    }
    expect(interval(timing) - took).toBeGreaterThanOrEqual(1_000);
    expect(interval(timing) - took).toBeLessThan(1_100);
  });

  it('learns from replies to copies where it is known which: also where each message goes twice', () => {
    const fixed = 90_000;
    const learned = [undefined, 1].map((answered) => {
      const timing = new FittedTiming(SLOW);
      const took = roundTrip({ fixed });
      for (let n = 0; n < 30; n++) {
        // The first copy is lost each time, and the second one is answered.
        const [first, second] = [n * 1_000_000, n * 1_000_000 + 40_000];
        const replied = delivery({ leftAt: [first, second], repliedAt: [second + took] });
        timing.replied(answered === undefined ? replied : { ...replied, answered });
      }
      return interval(timing) / took;
    });
    expect(learned[0]).toBeLessThan(0.5);
    expect(learned[1]).toBeGreaterThan(1);
    expect(learned[1]).toBeLessThan(1.3);
  });

  it('waits the same three times, then 1.5 times longer each time up to 300 s', () => {
    const timing = new FittedTiming(SLOW);
    train(timing, {}, 40);
    const waits = [0, 1, 2, 3, 4, 30].map((attempt) => timing.retransmitAfter(attempt, REQUEST, 0, PUT));
    expect(waits[1]).toBe(waits[0]);
    for (const n of [2, 3, 4]) expect(waits[n]! / waits[n - 1]!).toBeCloseTo(1.5);
    expect(waits[5]).toBe(300_000);
    expect(timing.retransmitAfter(0, REQUEST, 0.5, PUT)).toBe(waits[0]! + 500);
    expect(timing.maxRetransmit).toBeNull();
  });

  it.each([
    ['a rate back that is a quarter of what was configured', { back: 4 * BYTE }],
    ['a slow second hop there', { there: 3 * BYTE }],
    ['a delay of half a minute that nobody knew of', { fixed: 30_000 }],
    ['a delay of four minutes', { fixed: 240_000 }],
  ] as [string, Way][])('learns %s, and hardly resends anything any more', (_name, way) => {
    const timing = new FittedTiming(SLOW);
    const random = seededRandom(1);
    const copies = Array.from({ length: 150 }, (_, n) =>
      exchange(timing, way, n * 10_000_000, 20 + random.integer(100), 8 + random.integer(100)),
    );
    // A longer answer than any of the last fifty may still be a surprise.
    expect(copies.slice(50).filter((count) => count > 1).length).toBeLessThanOrEqual(1);
    for (const bytes of [20, 60, 120])
      expect(interval(timing, bytes)).toBeGreaterThan(roundTrip(way, bytes, 100));
    expect(interval(timing)).toBeLessThan(roundTrip(way, REQUEST, 108) + 8_000);
  });

  it('predicts as well as the least squares over all samples do', () => {
    for (let seed = 0; seed < 10; seed++) {
      const random = seededRandom(seed);
      const way = {
        there: random.fraction() * 60,
        back: 40 + random.fraction() * 120,
        fixed: 20_000 * random.fraction(),
      };
      const timing = new FittedTiming(SLOW);
      const samples: Sample[] = [];
      const errors = { ours: 0, theirs: 0 };
      for (let n = 0; n < 300; n++) {
        const [sent, received] = [10 + random.integer(300), 8 + random.integer(400)];
        const took = roundTrip(way, sent, received) + noise(random);
        if (n >= 100) {
          const fit = timing.snapshot();
          const ours = roundTrip(
            { there: fit.perByteThere, back: fit.perByteBack, fixed: fit.fixed },
            sent,
            received,
          );
          errors.ours += (ours - took) ** 2;
          errors.theirs += (leastSquares(samples, sent, received) - took) ** 2;
        }
        samples.push({ sent, received, took });
        timing.replied(
          delivery({
            bytesSent: sent,
            bytesReceived: received,
            leftAt: [n * 1e6],
            repliedAt: [n * 1e6 + took],
          }),
        );
      }
      // The exact solution over a way that does not change, with every sample kept, cannot be beaten.
      expect(Math.sqrt(errors.ours / errors.theirs), `seed ${seed}`).toBeLessThan(1.25);
    }
  });

  it('expects the longest answer that a method has had lately, and for one that is new the longest there is', () => {
    const timing = new FittedTiming(SLOW);
    train(timing, {}, 60);
    const small = interval(timing);
    exchange(timing, {}, 1e9, REQUEST, 300);
    expect(interval(timing) - small).toBeGreaterThan(290 * BYTE);
    const longest = 598 * BYTE - roundTrip({ fixed: 0 });
    expect(timing.retransmitAfter(0, REQUEST, 0, { ...PUT, code: METHOD.get })).toBeCloseTo(small + longest);
    // Nothing but an empty acknowledgement answers a separate response.
    expect(timing.retransmitAfter(0, REQUEST, 0, { ...PUT, code: 0x45 })).toBeLessThan(small);
    train(timing, {}, 100);
    expect(interval(timing) - small).toBeLessThan(30 * BYTE);
  });

  it("leaves time for the longest of the peer's own messages lately, and for the answers to what else is outstanding", () => {
    const timing = new FittedTiming(SLOW);
    train(timing, {}, 60);
    const alone = interval(timing);
    expect(timing.retransmitAfter(0, REQUEST, 0, { ...PUT, outstanding: 3 }) - alone).toBeCloseTo(
      2 * (ANSWER + OVERHEAD) * BYTE,
      -2,
    );
    timing.heard(200);
    expect(interval(timing) - alone).toBeCloseTo((200 + OVERHEAD) * BYTE);
    train(timing, {}, 60);
    expect(interval(timing)).toBeCloseTo(alone, -1);
  });

  it('learns how long a peer hesitates before it acknowledges a request that it cannot answer yet', () => {
    const timing = new FittedTiming(SLOW);
    for (let n = 0; n < 200; n++) {
      const empty = n % 2 === 0;
      const took = roundTrip({}, REQUEST, empty ? 4 : ANSWER) + (empty ? 2_000 : 0);
      timing.replied(
        delivery({
          bytesReceived: empty ? 4 : ANSWER,
          empty,
          leftAt: [n * 1e6],
          repliedAt: [n * 1e6 + took],
        }),
      );
    }
    expect(timing.snapshot().hesitation).toBeCloseTo(2_000, -2);
    expect(interval(timing)).toBeGreaterThan(roundTrip({}, REQUEST, 4) + 2_000);
  });

  it('never waits longer than 300 s or twice what the rate alone leads to, however late a peer has answered', () => {
    const timing = new FittedTiming(SLOW);
    for (let n = 0; n < 30; n++) {
      const leftAt = [n * 10_000_000];
      timing.replied(delivery({ leftAt, repliedAt: [leftAt[0]! + 1_200_000] }));
    }
    expect(interval(timing)).toBe(300_000);
    const large = 100_000;
    expect(interval(timing, large)).toBe(2 * modelledTiming(SLOW).retransmitAfter(0, large, 0));
  });

  describe('with more than one copy', () => {
    const took = roundTrip({});
    const trained = (): FittedTiming => {
      const timing = new FittedTiming(SLOW);
      train(timing, {}, 60);
      return timing;
    };

    it('takes no sample of an answer that may be to any of them', () => {
      const timing = trained();
      const before = timing.snapshot();
      timing.replied(delivery({ leftAt: [0, 20_000], repliedAt: [20_000 + took] }));
      const { samples, fixed, variation } = timing.snapshot();
      expect({ samples, fixed, variation }).toEqual({
        samples: before.samples,
        fixed: before.fixed,
        variation: before.variation,
      });
    });

    it('is pushed back by an answer that comes right after the second', () => {
      const timing = trained();
      const before = interval(timing);
      timing.replied(delivery({ leftAt: [0, 20_000], repliedAt: [20_500] }));
      expect(interval(timing) - before).toBeGreaterThan(8_000);
      // The one that follows at once is not sent twice.
      expect(interval(timing)).toBeGreaterThan(20_500);
    });

    it('is pushed back where every copy turns out to have been answered', () => {
      const timing = trained();
      const before = interval(timing);
      const leftAt = [0, 18_000];
      const first = 18_000 + took;
      timing.replied(delivery({ leftAt, repliedAt: [first] }));
      expect(interval(timing)).toBe(before);
      timing.replied(delivery({ leftAt, repliedAt: [first, first + 18_000] }));
      expect(interval(timing) - before).toBeGreaterThan(8_000);
    });

    it('is not misled by an answer that was doubled on the way', () => {
      const timing = trained();
      const before = interval(timing);
      const first = 18_000 + took;
      timing.replied(delivery({ leftAt: [0, 18_000], repliedAt: [first] }));
      timing.replied(delivery({ leftAt: [0, 18_000], repliedAt: [first, first + 300] }));
      timing.replied(delivery({ leftAt: [0, 18_000], repliedAt: [first, first + 300, first + 400] }));
      expect(interval(timing)).toBe(before);
    });

    it('is not driven up by losses, however slow it is at the moment', () => {
      const timing = new FittedTiming(SLOW);
      // From the conservative start on every other message loses its first copy.
      for (let n = 0; n < 300; n++) {
        const at = n * 1e7;
        const leftAt = n % 2 === 0 ? [at] : [at, at + interval(timing) + 7_200];
        timing.replied(delivery({ leftAt, repliedAt: [leftAt.at(-1)! + took] }));
      }
      expect(interval(timing)).toBeLessThan(took + 1_100);
    });

    it('is not driven up by losses where the only samples so far were slow ones', () => {
      const timing = new FittedTiming(SLOW);
      for (let n = 0; n < 3; n++)
        timing.replied(delivery({ leftAt: [n * 1e6], repliedAt: [n * 1e6 + took + 60_000] }));
      const before = timing.snapshot().fixed;
      timing.replied(delivery({ leftAt: [1e7, 1e7 + 300_000], repliedAt: [1e7 + 300_000 + took] }));
      timing.replied(
        delivery({ leftAt: [2e7, 2e7 + 200_000, 2e7 + 400_000], repliedAt: [2e7 + 400_000 + 10] }),
      );
      expect(timing.snapshot().fixed).toBe(before);
    });

    it('takes no sample while answers to copies of the message before may be in the way', () => {
      const timing = trained();
      const { samples } = timing.snapshot();
      timing.replied(delivery({ copies: 3, leftAt: [0, 18_000], repliedAt: [18_000 + took] }));
      timing.replied(delivery({ leftAt: [32_000], repliedAt: [32_000 + took + 5_000] }));
      expect(timing.snapshot().samples).toBe(samples);
      timing.replied(delivery({ leftAt: [60_000], repliedAt: [60_000 + took] }));
      expect(timing.snapshot().samples).toBe(samples + 1);
    });
  });

  it('has as many messages on their way as the round trip is long in packets, up to four', () => {
    const parallel = (rate: number, delay: number, bytes: number): number => {
      const model = { rate, delay, overhead: OVERHEAD, mtu: 1200 };
      const timing = new FittedTiming(model);
      const way = { back: 8_000 / rate, fixed: 2 * delay };
      for (let n = 0; n < 80; n++) exchange(timing, way, n * 1e7, bytes);
      return timing.nstart;
    };
    expect(parallel(100, 2_000, 28)).toBe(1);
    expect(parallel(100, 5_000, 28)).toBe(2);
    expect(parallel(1_200, 1_000, 28)).toBe(4);
    expect(parallel(1_200, 1_100, 238)).toBe(2);
    expect(parallel(50_000, 50, 28)).toBe(4);
  });
});

describe('the estimate of loss', () => {
  const took = roundTrip({});

  /** A message of which so many copies were lost before one was answered. */
  const lose = (timing: FittedTiming, lost: number, at: number): void => {
    const leftAt = Array.from({ length: lost + 1 }, (_, n) => at + n * 20_000);
    timing.replied(delivery({ leftAt, repliedAt: [leftAt.at(-1)! + took] }));
  };

  it('is nothing where every copy is answered', () => {
    const timing = new FittedTiming(SLOW);
    train(timing, {}, 100);
    expect(timing.loss).toBe(0);
  });

  it.each([0.2, 0.51, 0.75])('finds that the part %d of copies is lost', (part) => {
    const timing = new FittedTiming(SLOW);
    const random = seededRandom(5);
    let sum = 0;
    for (let n = 0; n < 2_000; n++) {
      let lost = 0;
      while (random.fraction() < part) lost++;
      lose(timing, lost, n * 1e7);
      if (n >= 100) sum += timing.loss;
    }
    expect(sum / 1_900).toBeCloseTo(part, 1);
  });

  it('does not take a copy for lost that is answered late, or has not had its time', () => {
    const timing = new FittedTiming(SLOW);
    train(timing, {}, 60);
    const leftAt = [1e9, 1e9 + 20_000];
    timing.replied(delivery({ leftAt, repliedAt: [1e9 + 20_000 + took] }));
    expect(timing.loss).toBeGreaterThan(0);
    timing.replied(delivery({ leftAt, repliedAt: [1e9 + 20_000 + took, 1e9 + 40_000 + took] }));
    expect(timing.loss).toBe(0);
    timing.replied(delivery({ leftAt: [2e9, 2e9 + 5_000], repliedAt: [2e9 + took] }));
    expect(timing.loss).toBe(0);
  });

  const lossy = (idle: () => boolean = () => true): FittedTiming => {
    const timing = new FittedTiming(SLOW, { idle });
    for (let n = 0; n < 60; n++) lose(timing, n % 2, n * 1e7);
    return timing;
  };

  it('lets a message be repeated before its timer once that has run out twice, where it is high', () => {
    const timing = lossy();
    expect([0, 1].map((attempt) => timing.repeatAfter(attempt, REQUEST, 0, PUT))).toEqual([null, null]);
    expect(timing.repeatAfter(2, REQUEST, 0, PUT)).toBeCloseTo(0.4 * interval(timing));
    expect(timing.repeatAfter(13, REQUEST, 0, PUT)).not.toBeNull();
    expect(timing.repeatAfter(14, REQUEST, 0, PUT)).toBeNull();
    expect(timing.mayRepeat(REQUEST)).toBe(true);
  });

  it('lets nothing be repeated where it is low, or the link is not idle', () => {
    const lossless = new FittedTiming(SLOW, { idle: () => true });
    train(lossless, {}, 60);
    expect(lossless.repeatAfter(2, REQUEST, 0, PUT)).toBeNull();
    expect(lossless.mayRepeat(REQUEST)).toBe(false);
    expect(lossy(() => false).mayRepeat(REQUEST)).toBe(false);
    const quiet = new FittedTiming(SLOW);
    for (let n = 0; n < 60; n++) lose(quiet, 1, n * 1e7);
    expect(quiet.mayRepeat(REQUEST)).toBe(false);
  });

  it('bounds the airtime of such copies by that of the messages that were answered', () => {
    const timing = lossy();
    let copies = 0;
    while (timing.mayRepeat(REQUEST)) copies++;
    expect(copies).toBe(12);
    lose(timing, 1, 1e9);
    copies = 0;
    while (timing.mayRepeat(REQUEST)) copies++;
    expect(copies).toBe(2);
  });
});

describe('a kept fit', () => {
  const learned = (): FittedTiming => {
    const timing = new FittedTiming(SLOW);
    const random = seededRandom(9);
    for (let n = 0; n < 50; n++)
      exchange(timing, { back: 100 }, n * 1e7, 20 + random.integer(90), 8 + random.integer(90));
    timing.heard(120);
    return timing;
  };

  it('gives the same timers after a restart, at once', () => {
    const before = learned();
    const fit = checkedFit(JSON.parse(JSON.stringify(before.snapshot())));
    expect(fit).toEqual(before.snapshot());
    const after = new FittedTiming(SLOW, { fit: fit! });
    for (const code of [METHOD.get, METHOD.put, 0x45])
      for (const attempt of [0, 3])
        expect(after.retransmitAfter(attempt, 70, 0.3, { code, outstanding: 2 })).toBe(
          before.retransmitAfter(attempt, 70, 0.3, { code, outstanding: 2 }),
        );
    expect([after.nstart, after.loss]).toEqual([before.nstart, before.loss]);
    expect(interval(after)).toBeLessThan(interval(new FittedTiming(SLOW)) / 2);
  });

  const sound = learned().snapshot();
  const broken: [string, unknown][] = [
    ['nothing', undefined],
    ['null', null],
    ['a number', 5],
    ['an empty object', {}],
    ['an array', []],
    ...Object.keys(sound).flatMap((name): [string, unknown][] => [
      [`${name} missing`, { ...sound, [name]: undefined }],
      [`${name} a text`, { ...sound, [name]: '1' }],
      [`${name} negative`, { ...sound, [name]: -1 }],
      [`${name} no number`, { ...sound, [name]: Number.NaN }],
      [`${name} endless`, { ...sound, [name]: Number.POSITIVE_INFINITY }],
    ]),
    ['more replies than copies', { ...sound, copies: 1, replies: 2 }],
    ['no copies', { ...sound, copies: 0, replies: 0 }],
    ['no length', { ...sound, ours: 0 }],
    ['something expected for no code', { ...sound, expected: [[1.5, 1, 1, 0]] }],
    ['something expected without a guess', { ...sound, expected: [[1, 1, 0]] }],
    ['too many codes', { ...sound, expected: Array.from({ length: 17 }, (_, n) => [n, 1, 1, 0]) }],
  ];

  it.each(broken)('is not taken with %s', (_name, value) => {
    expect(checkedFit(value)).toBeUndefined();
  });

  it('stays within its bounds whatever is fed to it', () => {
    const random = seededRandom(3);
    const any = (): number =>
      [0, 1, -5, 1e3, 1e9, 1e15, Number.MAX_VALUE][random.integer(7)]! * random.fraction();
    for (let run = 0; run < 200; run++) {
      const timing = new FittedTiming(SLOW);
      for (let n = 0; n < 50; n++) {
        timing.heard(Math.abs(any()));
        const leftAt = Array.from({ length: 1 + random.integer(3) }, any).sort((one, other) => one - other);
        const replies = 1 + random.integer(3);
        timing.replied(
          delivery({
            ...{
              code: random.integer(256),
              bytesSent: Math.abs(any()),
              bytesReceived: Math.abs(any()),
              empty: random.integer(2) === 0,
            },
            ...{
              copies: leftAt.length + random.integer(2),
              leftAt,
              repliedAt: Array.from({ length: replies }, any).sort((one, other) => one - other),
            },
          }),
        );
      }
      expect(checkedFit(timing.snapshot()), `run ${run}`).toBeDefined();
      expect(Number.isFinite(interval(timing)), `run ${run}`).toBe(true);
      expect([1, 2, 3, 4]).toContain(timing.nstart);
    }
  });
});

interface Sample {
  readonly sent: number;
  readonly received: number;
  readonly took: number;
}

/** Up to half a second either way. */
const noise = (random: Random): number => (random.fraction() - 0.5) * 1_000;

/** The slow, obvious twin: solves the normal equations over all samples. */
function leastSquares(samples: readonly Sample[], sent: number, received: number): number {
  const rows = samples.map((one) => ({ x: [1, one.sent / 100, one.received / 100], y: one.took }));
  const matrix = [0, 1, 2].map((i) => [
    ...[0, 1, 2].map((j) => rows.reduce((sum, { x }) => sum + x[i]! * x[j]!, 0)),
    rows.reduce((sum, { x, y }) => sum + x[i]! * y, 0),
  ]);
  for (let pivot = 0; pivot < 3; pivot++) {
    for (let row = 0; row < 3; row++) {
      if (row === pivot) continue;
      const factor = matrix[row]![pivot]! / matrix[pivot]![pivot]!;
      for (let column = pivot; column < 4; column++)
        matrix[row]![column]! -= factor * matrix[pivot]![column]!;
    }
  }
  const [fixed, there, back] = matrix.map((row, n) => row[3]! / row[n]!);
  return fixed! + (there! * sent) / 100 + (back! * received) / 100;
}

/** A type that names what a fit is, so that a field added there is tested here. */
const FIELDS: readonly (keyof LinkFit)[] = [
  'samples',
  'fixed',
  'perByteThere',
  'perByteBack',
  'hesitation',
  'variation',
  'copies',
  'replies',
  'least',
  'ours',
  'inTheWay',
  'expected',
];

it('a fit has no other fields than those that are checked', () => {
  expect(Object.keys(new FittedTiming(SLOW).snapshot()).sort()).toEqual([...FIELDS].sort());
});
